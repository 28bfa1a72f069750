//! The course of one run: warming up, measuring, and then only what is still to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::process::{self, Usage};

/// How long nothing at all may come before a run is given up.
const STALL: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// What was measured.
pub struct Measured {
    pub seconds: f64,
    /// Acknowledged, or delivered, in these seconds.
    pub messages: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
    pub server_cpu_seconds: f64,
    pub client_cpu_seconds: f64,
    pub written_bytes: u64,
    pub peak_memory_bytes: u64,
    /// Payloads that the server took in these seconds.
    pub published: u64,
}

struct Reading {
    at: Instant,
    server: Usage,
    client: Usage,
}

/// The clock of a run; what has come is told to it.
pub struct Phases {
    server: u32,
    stop: Arc<AtomicBool>,
    started: Instant,
    warm_up: Duration,
    measured: Duration,
    phase: Phase,
    first: Option<Reading>,
    last: Option<Reading>,
    progress: Instant,
    messages: u64,
    published: u64,
    latency: Histogram<u64>,
}

impl Phases {
    /// A run on the server `server`, which begins now; it ends early once `stop` is set.
    pub fn begin(
        server: u32,
        stop: Arc<AtomicBool>,
        warm_up: Duration,
        measured: Duration,
    ) -> Result<Self> {
        let started = Instant::now();
        Ok(Self {
            server,
            stop,
            started,
            warm_up,
            measured,
            phase: Phase::WarmUp,
            first: None,
            last: None,
            progress: started,
            messages: 0,
            published: 0,
            latency: Histogram::new_with_bounds(1_000, 600_000_000_000, 3)?,
        })
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    pub fn over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// To be called at every wake-up: moves on to the next phase when it is time.
    pub fn tick(&mut self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "stopped");
        let elapsed = self.started.elapsed();
        if self.phase == Phase::WarmUp && elapsed >= self.warm_up {
            self.first = Some(self.read()?);
            self.phase = Phase::Measured;
        } else if self.phase == Phase::Measured && elapsed >= self.warm_up + self.measured {
            self.last = Some(self.read()?);
            self.phase = Phase::Over;
        }
        if self.progress.elapsed() > STALL {
            bail!("nothing came for {STALL:?}");
        }
        Ok(())
    }

    fn read(&self) -> Result<Reading> {
        let (server, client) =
            (process::usage(self.server)?, process::usage_of(std::process::id())?);
        Ok(Reading { at: Instant::now(), server, client })
    }

    /// `messages` have come, the server having taken `published`.
    pub fn came(&mut self, messages: u64, published: u64) {
        self.progress = Instant::now();
        if self.phase == Phase::Measured {
            self.messages += messages;
            self.published += published;
        }
    }

    /// How long one of them took.
    pub fn took(&mut self, nanoseconds: u64) {
        if self.phase == Phase::Measured {
            self.latency.saturating_record(nanoseconds);
        }
    }

    pub fn end(self) -> Result<Measured> {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            bail!("the run ended before it was over");
        };
        ensure!(self.messages > 0, "nothing came while it was measured");
        Ok(Measured {
            seconds: (last.at - first.at).as_secs_f64(),
            messages: self.messages,
            latency: self.latency,
            server_cpu_seconds: last.server.cpu_seconds - first.server.cpu_seconds,
            client_cpu_seconds: last.client.cpu_seconds - first.client.cpu_seconds,
            written_bytes: last.server.written_bytes.saturating_sub(first.server.written_bytes),
            peak_memory_bytes: last.server.peak_memory_bytes,
            published: self.published,
        })
    }
}
