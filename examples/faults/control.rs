//! The control of producers, and their results.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::history::History;

/// How fast a producer sends.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Most messages it keeps unacknowledged.
    pub in_flight: usize,
    /// Messages it sends at once.
    pub burst: usize,
    pub every: Duration,
}

/// Signals when to stop, and counts the progress of all producers.
#[derive(Clone, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Control {
    /// No more messages; those in flight are waited for.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A message was acknowledged.
    pub fn count_one(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }
}

/// The result of one connection.
#[derive(Default)]
pub struct Told {
    pub history: History,
    /// Wrong answers of the broker.
    pub complaints: Vec<String>,
    /// Why the connection ended early, if it did.
    pub broke: Option<String>,
    /// Code of the last refusal, and of the close.
    pub refused: Option<String>,
    pub closed: Option<u16>,
}
