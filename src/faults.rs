//! Planned faults: the seams where tests make a part panic, fail, or delay.
//!
//! Without the cargo feature `faults` (off in every release build) [`pass`] and [`fails`] do
//! nothing. With it, a plan gives the action at the n-th pass of a seam from now on. The state is
//! one per process, since a plan is made from outside (`POST /v1/debug/faults`) and must be seen on
//! every thread.

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
    /// The topic is notified that its head advanced, and has notified no reader.
    TopicHeadAdvanced,
    /// The topic has notified its readers.
    TopicReadersTold,
    /// The topic is asked to attach a reader.
    TopicReaderAttaching,
    /// A request handler has begun to publish.
    HandlerPublishing,
    /// A producer session has received a frame.
    SessionFrame,
    /// The topics' machine is storing a block, on the writer thread.
    MachineAppending,
    /// The topics' machine is changing the catalogue, on the writer thread.
    MachineChanging,
    /// The writer is about to commit.
    WriterCommitting,
}

impl Seam {
    /// Every seam, in the order a message passes them.
    pub const ALL: [Self; 12] = [
        Self::ProducerReceived,
        Self::ProducerForwarded,
        Self::IngestReceived,
        Self::IngestForwarded,
        Self::TopicHeadAdvanced,
        Self::TopicReadersTold,
        Self::TopicReaderAttaching,
        Self::HandlerPublishing,
        Self::SessionFrame,
        Self::MachineAppending,
        Self::MachineChanging,
        Self::WriterCommitting,
    ];

    /// The part can fail here with an error: a message to an actor is dropped, a request or a frame
    /// is answered with an error, a commit fails.
    pub fn can_fail(self) -> bool {
        matches!(
            self,
            Self::ProducerReceived
                | Self::IngestReceived
                | Self::HandlerPublishing
                | Self::SessionFrame
                | Self::WriterCommitting
        )
    }
}

/// The action at a seam.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The part panics.
    #[default]
    Panic,
    /// The part fails with an error, where it [can](Seam::can_fail).
    Error,
    /// The part's thread stands still for a while.
    Delay,
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where.
    pub seam: Seam,
    /// Triggers on the nth pass from now; 0 cancels the plan.
    pub nth: u64,
    /// The action.
    #[serde(default)]
    pub action: Action,
    /// The length of a delay.
    #[serde(default)]
    pub delay_ms: u64,
    /// How many times in a row, from then on.
    #[serde(default = "once")]
    pub times: u64,
}

#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "plans come with the feature"))]
fn once() -> u64 {
    1
}

#[cfg(not(feature = "faults"))]
mod planned {
    use super::Seam;

    /// Nothing: this build plans no faults.
    #[inline(always)]
    pub fn pass(_seam: Seam) {}

    /// Never: this build plans no faults.
    #[inline(always)]
    pub fn fails(_seam: Seam) -> bool {
        false
    }
}

pub use planned::*;

#[cfg(feature = "faults")]
mod planned {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use super::{Action, Plan, Seam};

    static PLANS: [Mutex<Option<Plan>>; Seam::ALL.len()] =
        [const { Mutex::new(None) }; Seam::ALL.len()];
    /// Some seam has a plan.
    static ANY: AtomicBool = AtomicBool::new(false);

    /// Plans a fault, in place of the seam's plan before.
    pub fn plan(plan: Plan) {
        let mut planned = PLANS[plan.seam as usize].lock().unwrap_or_else(PoisonError::into_inner);
        *planned = (plan.nth > 0 && plan.times > 0).then_some(plan);
        ANY.store(true, Ordering::SeqCst);
    }

    /// Counts a pass; returns the action if it is due.
    fn due(seam: Seam) -> Option<(Action, Duration)> {
        if !ANY.load(Ordering::Relaxed) {
            return None;
        }
        let mut planned = PLANS[seam as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let plan = planned.as_mut()?;
        if plan.nth > 1 {
            plan.nth -= 1;
            return None;
        }
        plan.times -= 1;
        let due = (plan.action, Duration::from_millis(plan.delay_ms));
        if plan.times == 0 {
            *planned = None;
        }
        Some(due)
    }

    /// Passes a seam where nothing can fail.
    ///
    /// # Panics
    /// When a plan says so.
    pub fn pass(seam: Seam) {
        fails(seam);
    }

    /// Passes a seam; true if it has to fail there with an error.
    ///
    /// # Panics
    /// When a plan says so.
    pub fn fails(seam: Seam) -> bool {
        match due(seam) {
            None => false,
            Some((Action::Panic, _)) => panic!("planned fault at {seam:?}"),
            Some((Action::Error, _)) => true,
            Some((Action::Delay, time)) => {
                std::thread::sleep(time);
                false
            }
        }
    }
}
