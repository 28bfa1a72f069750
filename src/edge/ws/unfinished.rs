//! What a socket holds of an incomplete message: a frame or its fragments.
//!
//! Its bytes are admitted as they arrive, from a budget of their own, so that messages which are
//! never completed can't take the room of complete ones; the time of its beginning is kept, so that
//! it can be ended.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::edge::admission::{Admission, Line, Permit};

/// See the module.
pub(super) struct Unfinished {
    /// `None` if nothing is charged, in tests of the parts around it.
    budget: Option<Admission>,
    permit: Option<Permit>,
    waiting: Option<Pin<Box<dyn Future<Output = Permit>>>>,
    since: Option<Instant>,
    bytes: usize,
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfinished").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Unfinished {
    /// Charges this budget.
    pub(super) fn new(budget: Option<Admission>) -> Self {
        Self { budget, permit: None, waiting: None, since: None, bytes: 0 }
    }

    /// More of the message has arrived; false when there is no room for it.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += bytes;
        let Some(budget) = &self.budget else { return true };
        match (budget.try_admit_part(bytes, self.bytes), &mut self.permit) {
            (None, _) => return false,
            (Some(more), Some(held)) => held.merge(more),
            (more, held) => *held = more,
        }
        true
    }

    /// Waits for room for a whole message before any of it is taken: messages that each have a part
    /// of the room and wait for more would wait for each other.
    pub(super) fn poll_reserve(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        let Some(budget) = &self.budget else { return Poll::Ready(()) };
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(budget.admit(Line::Sockets, bytes)));
        let permit = std::task::ready!(waiting.as_mut().poll(context));
        (self.permit, self.waiting) = (Some(permit), None);
        self.since = Some(Instant::now());
        Poll::Ready(())
    }

    /// There is room for the incomplete message.
    pub(super) fn is_reserved(&self) -> bool {
        self.budget.is_none() || self.permit.is_some()
    }

    /// The message waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The message is complete.
    pub(super) fn finish(&mut self) {
        (self.permit, self.since, self.bytes) = (None, None, 0);
    }

    /// When the incomplete message began.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_come_whole_is_charged_until_it_has() {
        let budget = Admission::new(8 * 100_000);
        let mut unfinished = Unfinished::new(Some(budget.clone()));
        assert!(unfinished.since().is_none());
        assert!(unfinished.add(300_000) && unfinished.add(300_000));
        assert!(unfinished.since().is_some());
        assert_eq!(budget.admitted(), 600_000);
        assert!(!unfinished.add(200_000), "no room");
        unfinished.finish();
        assert_eq!((budget.admitted(), unfinished.since()), (0, None));
    }
}
