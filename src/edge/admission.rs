//! The byte budget at the door: what all clients together may have under way to the journal.
//!
//! actix's mailboxes are no backpressure, so memory is bounded here: a block or a body is let in
//! only with a [`Permit`] for its bytes, which travels with the block and goes with its last clone,
//! wherever that is, so that neither a lost socket nor a slow disk gives it back too soon.
//!
//! Invariant: the permits out never cover more than the budget.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Admission {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

/// Bytes let in, until this is dropped.
#[derive(Debug)]
pub struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Joins another permit to this one.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

impl Admission {
    /// A budget of so many bytes (at most `u32::MAX`).
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        Self { bytes: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// Lets bytes in if there is room right now.
    pub fn try_admit(&self, bytes: usize) -> Option<Permit> {
        let permits = self.bytes.clone().try_acquire_many_owned(self.cost(bytes)).ok()?;
        Some(Permit(permits))
    }

    /// Waits for room, first come first served.
    pub fn admit(&self, bytes: usize) -> impl Future<Output = Permit> + use<> {
        let acquire = self.bytes.clone().acquire_many_owned(self.cost(bytes));
        async move { Permit(acquire.await.expect("the budget is never closed")) }
    }

    /// Bytes that are under way now.
    pub fn admitted(&self) -> usize {
        (self.bytes_max as usize).saturating_sub(self.bytes.available_permits())
    }

    /// One piece never costs more than there is, else it could never come in.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_waits_until_somebody_leaves() {
        let admission = Admission::new(100);
        let first = admission.try_admit(70).unwrap();
        assert!(admission.try_admit(31).is_none());
        let waiting = tokio::spawn(admission.admit(1_000));
        drop(first);
        let all = waiting.await.unwrap();
        assert!(admission.try_admit(1).is_none(), "a piece over the budget takes all of it");
        drop(all);
        assert!(admission.try_admit(100).is_some());
    }
}
