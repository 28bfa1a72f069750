//! How old the journal is, in milliseconds of its use.
//!
//! Retention and dedup windows count in this age instead of wall-clock time, so that a clock that
//! is set, forwards or back, while the broker runs or between two runs, neither deletes nor keeps
//! anything. The price: while the broker does not run, messages do not age.
//!
//! Invariant: it never runs backwards, over restarts too (it is written with every commit and at
//! a stop; what passed since the last commit before a crash is not counted).

use crate::clock::Clock;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Age {
    /// Its age when the clock was made.
    base_ms: u64,
    clock: Clock,
}

impl Age {
    pub(super) fn new(recovered_ms: u64, clock: Clock) -> Self {
        Self { base_ms: recovered_ms.saturating_sub(millis(&clock)), clock }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.base_ms.saturating_add(millis(&self.clock))
    }
}

fn millis(clock: &Clock) -> u64 {
    u64::try_from(clock.uptime().as_millis()).unwrap_or(u64::MAX)
}
