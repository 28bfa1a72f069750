//! The order of one producer, kept where no actor's death can break it.
//!
//! A producer's blocks pass two actors before they reach the writer. When one of those dies, the
//! blocks it held come back to the sender, while later ones may already be in flight on the new
//! path. A [`Lane`] lets the writer notice: each block carries its place in the lane, and the
//! writer accepts only the next one.
//!
//! Invariant: only the journal's writer thread advances a lane. A lane lives as long as its
//! sender or one of its blocks does; nothing has to be cleaned up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The writer's state of one producer's connection: the next place it will accept.
#[derive(Debug, Default)]
pub struct Lane {
    next: AtomicU64,
}

/// A block's place in its producer's lane: 0, 1, 2, …
#[derive(Clone, Debug)]
pub struct LanePosition {
    lane: Arc<Lane>,
    place: u64,
}

impl LanePosition {
    /// The given place in the given lane.
    pub fn new(lane: Arc<Lane>, place: u64) -> Self {
        Self { lane, place }
    }

    /// Takes the place if it is the next one; to be called by the writer only.
    pub fn take(&self) -> bool {
        // One thread writes, so load and store need no compare-and-swap.
        if self.lane.next.load(Ordering::Relaxed) != self.place {
            return false;
        }
        self.lane.next.store(self.place + 1, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_takes_its_places_once_and_in_order() {
        let lane = Arc::new(Lane::default());
        let at = |place| LanePosition::new(lane.clone(), place);
        assert!(!at(1).take(), "a place ahead is refused");
        assert!(at(0).take());
        assert!(!at(0).take(), "a place is taken once");
        assert!(at(1).take());
    }
}
