//! Planned faults: the seams where tests make a moving part panic.
//!
//! Without the cargo feature `faults` (off in every release build) [`reach`] is nothing. With it,
//! a plan says that the n-th time a seam is reached from now on, it panics there. The state is
//! one per process, since a plan is made from outside (`POST /v1/debug/faults`) and must be seen
//! on every thread.

/// A place in a moving part where a fault can be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seam {
    /// The producer has a block and has not looked for the ingest logger yet.
    ProducerReceived,
    /// The producer has handed the block to the ingest logger.
    ProducerForwarded,
    /// The ingest logger has a block and has not handed it to the writer.
    IngestReceived,
    /// The ingest logger has handed the block to the writer.
    IngestForwarded,
    /// The topic is told that its head advanced, and has told no reader.
    TopicHeadAdvanced,
    /// The topic has told its readers.
    TopicReadersTold,
    /// The topic is asked to take a reader.
    TopicReaderAttaching,
    /// A request handler has begun to publish.
    HandlerPublishing,
    /// A producer session has been given a frame.
    SessionFrame,
}

impl Seam {
    /// Every seam, in the order a message passes them.
    pub const ALL: [Self; 9] = [
        Self::ProducerReceived,
        Self::ProducerForwarded,
        Self::IngestReceived,
        Self::IngestForwarded,
        Self::TopicHeadAdvanced,
        Self::TopicReadersTold,
        Self::TopicReaderAttaching,
        Self::HandlerPublishing,
        Self::SessionFrame,
    ];
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
/// Nothing: this build plans no faults.
pub fn reach(_seam: Seam) {}

#[cfg(feature = "faults")]
pub use planned::{plan, reach};

#[cfg(feature = "faults")]
mod planned {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Seam;

    /// Passes left until each seam panics; 0 is no plan.
    static LEFT: [AtomicU64; Seam::ALL.len()] = [const { AtomicU64::new(0) }; Seam::ALL.len()];

    /// Plans a panic the `nth` time (from 1) the seam is reached from now on; 0 takes a plan back.
    pub fn plan(seam: Seam, nth: u64) {
        LEFT[seam as usize].store(nth, Ordering::SeqCst);
    }

    /// Passes a seam.
    ///
    /// # Panics
    /// When a plan says so.
    pub fn reach(seam: Seam) {
        let left = &LEFT[seam as usize];
        if left.load(Ordering::Relaxed) == 0 {
            return;
        }
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if before == Ok(1) {
            panic!("planned fault at {seam:?}");
        }
    }
}
