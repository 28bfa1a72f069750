//! One repetition of one row: a server that is new, its clients, what they measured, and whether
//! the server has what it acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::payload::BYTES;
use crate::phases::{Measured, Phases};
use crate::plan::{Load, Row};
use crate::server::Server;
use crate::{fanout, publish};

/// How long it takes, and where.
pub struct Course<'a> {
    pub warm_up: Duration,
    pub measured: Duration,
    pub directory: &'a Path,
    pub stop: Arc<AtomicBool>,
}

/// What a row shows. Messages are acknowledged ones, or deliveries.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub messages_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub server_cpu_seconds_per_million: f64,
    pub client_cpu_seconds_per_million: f64,
    pub peak_memory_mib: f64,
    /// Of the payloads published.
    pub disk_bytes_per_payload_byte: f64,
    pub messages: u64,
    pub seconds: f64,
}

pub fn measure(row: &Row, course: &Course) -> Result<Figures> {
    let server = Server::start(&*row.system, course.directory)?;
    match load(row, course, &server) {
        Ok(measured) => Ok(figures(&measured)),
        Err(error) => bail!("{error:#}\nthe server's log ends with: {}", server.log()),
    }
}

fn load(row: &Row, course: &Course, server: &Server) -> Result<Measured> {
    let (system, at) = (&row.system, server.at);
    system.prepare(at).context("preparing")?;
    let phases =
        || Phases::begin(server.id(), course.stop.clone(), course.warm_up, course.measured);
    let (measured, published) = match row.load {
        Load::Publish { connections, window } => {
            let ready: Result<Vec<_>> = (0..connections).map(|n| system.publisher(at, n)).collect();
            publish::run(ready.context("connecting")?, window, system.body(), phases()?)?
        }
        Load::FanOut { subscribers, outstanding } => {
            let subscribed: Result<Vec<_>> =
                (0..subscribers).map(|n| system.subscriber(at, n)).collect();
            let subscribed = subscribed.context("subscribing")?;
            let producer = system.publisher(at, subscribers).context("connecting")?;
            let (body, acknowledges) = (system.body(), system.acknowledges());
            fanout::run(producer, subscribed, outstanding, acknowledges, body, phases()?)?
        }
    };
    if let Some(stored) = system.stored(at, published).context("asking what is stored")? {
        ensure!(stored == published, "{published} were published, it has {stored}");
    }
    Ok(measured)
}

fn figures(measured: &Measured) -> Figures {
    let millions = measured.messages as f64 / 1e6;
    let microseconds = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
    Figures {
        messages_per_second: measured.messages as f64 / measured.seconds,
        p50_us: microseconds(0.5),
        p99_us: microseconds(0.99),
        max_us: measured.latency.max() as f64 / 1e3,
        server_cpu_seconds_per_million: measured.server_cpu_seconds / millions,
        client_cpu_seconds_per_million: measured.client_cpu_seconds / millions,
        peak_memory_mib: measured.peak_memory_bytes as f64 / f64::from(1 << 20),
        disk_bytes_per_payload_byte: measured.written_bytes as f64
            / (measured.published.max(1) * BYTES as u64) as f64,
        messages: measured.messages,
        seconds: measured.seconds,
    }
}
