//! What a socket holds of a message that has not come whole: a frame or its fragments.
//!
//! Its bytes are admitted as they come, from a budget of their own, so that messages which are never
//! finished can't take the room of those that are; and since when it has been coming is known, so
//! that it doesn't for ever.

use std::time::Instant;

use crate::edge::admission::{Admission, Permit};

/// See the module.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// None where nothing is charged, in tests of the parts around it.
    budget: Option<Admission>,
    permit: Option<Permit>,
    since: Option<Instant>,
    bytes: usize,
}

impl Unfinished {
    /// Charges this budget.
    pub(super) fn new(budget: Option<Admission>) -> Self {
        Self { budget, permit: None, since: None, bytes: 0 }
    }

    /// More of the message has come; false when there is no room for it.
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

    /// The message has come whole.
    pub(super) fn finish(&mut self) {
        (self.permit, self.since, self.bytes) = (None, None, 0);
    }

    /// When the message that is coming began.
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
