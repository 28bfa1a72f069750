//! The byte budget at the door: what all clients together may have under way to the journal.
//!
//! actix's mailboxes are no backpressure, so memory is bounded here: a block or a body is let in
//! only with a [`Permit`] for its bytes, which travels with the block and goes with its last clone,
//! wherever that is, so that neither a lost socket nor a slow disk gives it back too soon.
//!
//! A part of the budget is kept for small pieces: who sends a message now and then does not stand
//! in line behind those who send all they can.
//!
//! Invariant: the permits out never cover more than the budget.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest piece that may use the part that is kept for small ones.
const SMALL_BYTES: usize = 16 * 1024;
/// Which part of the budget that is.
const SMALL_SHARE: u32 = 8;

/// The budget. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Admission {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
    small: Arc<Semaphore>,
    small_max: u32,
}

/// Bytes let in, until this is dropped.
#[derive(Debug)]
pub struct Permit(Vec<OwnedSemaphorePermit>);

impl Permit {
    /// Joins another permit to this one.
    pub fn merge(&mut self, other: Self) {
        for permit in other.0 {
            let same = self
                .0
                .iter_mut()
                .find(|held| std::ptr::eq(&**held.semaphore(), &**permit.semaphore()));
            match same {
                Some(held) => held.merge(permit),
                None => self.0.push(permit),
            }
        }
    }
}

impl Admission {
    /// A budget of so many bytes (at most `u32::MAX`).
    pub fn new(bytes_max: usize) -> Self {
        let all = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let small_max = all / SMALL_SHARE;
        let bytes_max = all - small_max;
        let room = |bytes: u32| Arc::new(Semaphore::new(bytes as usize));
        Self { bytes: room(bytes_max), bytes_max, small: room(small_max), small_max }
    }

    /// Lets bytes in if there is room right now.
    pub fn try_admit(&self, bytes: usize) -> Option<Permit> {
        self.try_admit_part(bytes, bytes)
    }

    /// The same for a part of something that has, or will have, `whole` bytes: what is large does
    /// not take the room for small pieces, however small its parts are.
    pub fn try_admit_part(&self, bytes: usize, whole: usize) -> Option<Permit> {
        let permit = self.bytes.clone().try_acquire_many_owned(self.cost(bytes)).ok();
        let small = || {
            let cost = u32::try_from(bytes).ok().filter(|_| whole <= SMALL_BYTES)?;
            self.small.clone().try_acquire_many_owned(cost).ok()
        };
        Some(Permit(vec![permit.or_else(small)?]))
    }

    /// Waits for room, first come first served.
    pub fn admit(&self, bytes: usize) -> impl Future<Output = Permit> + use<> {
        let acquire = self.bytes.clone().acquire_many_owned(self.cost(bytes));
        async move { Permit(vec![acquire.await.expect("the budget is never closed")]) }
    }

    /// Bytes that are under way now.
    pub fn admitted(&self) -> usize {
        let out = |max: u32, of: &Semaphore| (max as usize).saturating_sub(of.available_permits());
        out(self.bytes_max, &self.bytes) + out(self.small_max, &self.small)
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
        let admission = Admission::new(8 * 100_000);
        let first = admission.try_admit(600_000).unwrap();
        assert!(admission.try_admit(100_001).is_none());
        let waiting = tokio::spawn(admission.admit(1_000_000));
        drop(first);
        let all = waiting.await.unwrap();
        assert!(admission.try_admit(SMALL_BYTES + 1).is_none(), "a piece over it takes all of it");
        drop(all);
        assert!(admission.try_admit(700_000).is_some());
    }

    #[tokio::test]
    async fn small_pieces_have_room_of_their_own_and_no_more() {
        let admission = Admission::new(8 * 100_000);
        let large = admission.try_admit(700_000).unwrap();
        let mut small = admission.try_admit(SMALL_BYTES).unwrap();
        while let Some(more) = admission.try_admit(SMALL_BYTES) {
            small.merge(more);
        }
        assert_eq!(admission.admitted(), 700_000 + 100_000 / SMALL_BYTES * SMALL_BYTES);
        drop((large, small));
        assert_eq!(admission.admitted(), 0);
    }
}
