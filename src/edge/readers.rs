//! The followers of topics and their progress: tails and event streams, for the metrics.
//!
//! Invariant: a follower is listed as long as its [`Place`] lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::model::TopicId;

/// See the module. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Readers(Arc<Open>);

#[derive(Debug, Default)]
struct Open {
    next_id: AtomicU64,
    places: DashMap<u64, (TopicId, Arc<AtomicU64>)>,
}

/// A follower's place.
#[derive(Debug)]
pub struct Place {
    open: Arc<Open>,
    id: u64,
    next: Arc<AtomicU64>,
}

/// Followers' progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// How many there are.
    pub readers: u64,
    /// Messages not yet sent to them, all together.
    pub messages: u64,
    /// The most messages not yet sent to one of them.
    pub messages_max: u64,
}

impl Readers {
    /// Lists a follower that continues at `next`.
    pub fn open(&self, topic: TopicId, next: u64) -> Place {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let next = Arc::new(AtomicU64::new(next));
        self.0.places.insert(id, (topic, next.clone()));
        Place { open: self.0.clone(), id, next }
    }

    /// Their progress, given each topic's head.
    pub fn lag(&self, head: impl Fn(TopicId) -> Option<u64>) -> Lag {
        let mut lag = Lag::default();
        for entry in &self.0.places {
            let (topic, next) = entry.value();
            let next = next.load(Ordering::Relaxed);
            let behind = head(*topic).map_or(0, |head| head.saturating_sub(next));
            lag.readers += 1;
            lag.messages += behind;
            lag.messages_max = lag.messages_max.max(behind);
        }
        lag
    }
}

impl Place {
    /// The follower continues here.
    pub fn moved(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.places.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_are_listed_while_they_live() {
        let readers = Readers::default();
        let (one, two) = (readers.open(TopicId(1), 5), readers.open(TopicId(1), 10));
        let head = |_| Some(12);
        assert_eq!(readers.lag(head), Lag { readers: 2, messages: 9, messages_max: 7 });
        one.moved(12);
        assert_eq!(readers.lag(head), Lag { readers: 2, messages: 2, messages_max: 2 });
        drop((one, two));
        assert_eq!(readers.lag(head), Lag::default());
    }
}
