//! When a commit that has gathered little should wait for more that is about to arrive.
//!
//! Clients that wait for an answer send again once they have it, all of them within some
//! microseconds. A writer that takes the first of these at once commits it alone, and the others
//! wait for two syncs instead of one. So a commit that has gathered less than the one before it
//! waits for the rest, a part of the time that a commit takes. Lone messages don't wait, but for
//! the first one after a larger commit. (PostgreSQL's `commit_delay` with `commit_siblings` is the
//! same idea with fixed numbers.)

use std::time::{Duration, Instant};

/// What part of a commit's time may be spent on waiting for more.
const PART: u32 = 4;
/// The most to wait, however slow the disk is.
const WAIT_MAX: Duration = Duration::from_micros(200);

/// Statistics of the last commits, and whether the next one should wait for more.
#[derive(Debug, Default)]
pub(super) struct CommitPacing {
    messages: u64,
    requests: usize,
    took: Duration,
}

impl CommitPacing {
    /// A commit of N messages, by N requests, took this long.
    pub(super) fn note(&mut self, messages: u64, requests: usize, took: Duration) {
        (self.messages, self.requests) = (messages, requests);
        // One slow sync does not predict the next one.
        self.took = if self.took.is_zero() { took } else { (self.took * 7 + took) / 8 };
    }

    /// A commit wrote nothing.
    pub(super) fn note_none(&mut self) {
        self.messages = 0;
    }

    /// How many requests the next commit is likely to have.
    pub(super) fn expected(&self) -> usize {
        self.requests
    }

    /// More is expected, and worth waiting for.
    pub(super) fn expects_more(&self, gathered: u64, since: Instant) -> bool {
        gathered < self.messages && since.elapsed() < (self.took / PART).min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_messages_dont_wait_and_nothing_waits_for_long() {
        let mut pacing = CommitPacing::default();
        let now = Instant::now();
        assert!(!pacing.expects_more(1, now));
        pacing.note(1, 1, Duration::from_secs(1));
        assert!(!pacing.expects_more(1, now));
        pacing.note(64, 64, Duration::from_secs(1));
        assert!(pacing.expects_more(1, now));
        assert!(!pacing.expects_more(64, now));
        assert!(!pacing.expects_more(1, now - WAIT_MAX));
        pacing.note_none();
        assert!(!pacing.expects_more(1, now));
    }
}
