//! The systems that are compared. Each file is one of them: how it is started, what its client
//! says, and how it is asked what it has stored.

pub mod jetstream;
pub mod mosquitto;
pub mod nats_core;
pub mod nchan;
pub mod redis;
pub mod weir;
mod weir_publishers;
mod weir_tail;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail};

use crate::fanout::Subscribed;
use crate::payload::Body;
use crate::programs::Program;
use crate::publish::Ready;

/// How a server is started. The configuration, if any, stands in a file of its own.
pub struct Launch {
    pub program: Program,
    pub arguments: Vec<String>,
    pub configuration: Option<Configuration>,
}

pub struct Configuration {
    pub file: &'static str,
    pub text: String,
}

/// A server with its settings, and the clients for it.
pub trait System {
    /// How `--only` names it.
    fn key(&self) -> String;

    /// How the table names it.
    fn name(&self) -> String;

    /// Whether and when it syncs what it has acknowledged to the disk.
    fn synced(&self) -> &'static str;

    fn program(&self) -> Program;

    /// How it is started in `directory`, to listen on `port`.
    fn launch(&self, directory: &Path, port: u16) -> Result<Launch>;

    /// What the payloads are made of.
    fn body(&self) -> Body {
        Body::Raw
    }

    /// Whether a publisher hears of what it published.
    fn acknowledges(&self) -> bool {
        true
    }

    /// What [`Self::prepare`] does, for `--show-config`.
    fn prepared(&self) -> Option<String> {
        None
    }

    /// Makes the stream, topic or queue.
    fn prepare(&self, _at: SocketAddr) -> Result<()> {
        Ok(())
    }

    /// The `n`th connection that publishes.
    fn publisher(&self, at: SocketAddr, n: usize) -> Result<Ready>;

    /// The `n`th connection that is subscribed.
    fn subscriber(&self, _at: SocketAddr, _n: usize) -> Result<Subscribed> {
        bail!("{} is not measured with subscribers", self.name())
    }

    /// How many messages the server says it has, where it keeps them, after `acknowledged` ones.
    fn stored(&self, _at: SocketAddr, _acknowledged: u64) -> Result<Option<u64>> {
        Ok(None)
    }
}
