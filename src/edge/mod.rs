//! The edge: where clients come in and answers go out.
//!
//! `http` and `ws` turn requests and frames into calls of the patterns, `wire` knows how messages
//! look outside, `admission` bounds what is inside, `error` is the one table of error answers.
//!
//! Invariants: a block goes on only with its bytes admitted, and before that a client can make us
//! hold one body piece, or a socket's frames in hand and one message; every refusal is a problem
//! object that names what is wrong; the edge keeps no state that a restart would lose,
//! except what its clients will send again.

pub mod admission;
pub mod error;
pub mod http;
mod settings;
pub mod wire;
pub mod ws;

use std::sync::Arc;

use tokio::sync::watch;

pub use settings::{LimitSettings, ServerSettings};

use crate::actors::supervisor::Supervisor;
use crate::model::{BlockBuilder, MessageIdKey, ReceiptKey};
use crate::queue::Queue;
use admission::Admission;

/// What every request and session needs.
pub struct Edge {
    /// Finds, starts and changes topics.
    pub supervisor: Arc<Supervisor>,
    /// What is read from.
    pub queue: Queue,
    /// Seals receipts.
    pub receipts: ReceiptKey,
    /// Hashes message ids.
    pub message_ids: MessageIdKey,
    /// The limits in force.
    pub limits: LimitSettings,
    /// The byte budget of what is under way.
    pub admission: Admission,
    /// Becomes true when the broker is to stop.
    pub draining: watch::Receiver<bool>,
    /// A sender is held by every open session, so that draining can wait for the last one.
    pub sessions: watch::Sender<()>,
}

impl Edge {
    /// Collects messages into blocks whose message ids count.
    pub fn block_builder(&self) -> BlockBuilder {
        BlockBuilder::new(self.message_ids.clone())
    }

    /// The broker takes no new work.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
