//! Which tails have to go out as pages, and when: bounds what recovery has to read.

use std::collections::BTreeSet;

use crate::model::{Sequence, TopicId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PageQueue {
    /// Topics with a tail, by the sequence of its first entry.
    waiting: BTreeSet<(Sequence, TopicId)>,
    /// Tails that begin before this go out.
    due_before: Option<Sequence>,
    bytes_since: u64,
}

impl PageQueue {
    /// Chunks after which a tail is old.
    const AGE_CHUNKS: u64 = 2_048;
    /// Bytes of chunks after which a tail is old.
    const AGE_BYTES: u64 = 64 * 1024 * 1024;
    /// Most pages written with one commit because of age, so that no commit stalls.
    const PAGES_A_COMMIT: usize = 256;

    /// A topic's tail now begins with this sequence.
    pub(super) fn insert(&mut self, first: Sequence, topic: TopicId) {
        self.waiting.insert((first, topic));
    }

    /// A topic's tail that began with this sequence is gone.
    pub(super) fn remove(&mut self, first: Sequence, topic: TopicId) {
        self.waiting.remove(&(first, topic));
    }

    /// Counts what a commit writes.
    pub(super) fn written(&mut self, next_sequence: Sequence, bytes: u64) {
        self.bytes_since += bytes;
        let by_chunks = next_sequence.0.checked_sub(Self::AGE_CHUNKS).map(Sequence);
        self.due_before = self.due_before.max(by_chunks);
        if self.bytes_since >= Self::AGE_BYTES {
            self.bytes_since = 0;
            self.due_before = Some(next_sequence);
        }
    }

    /// The topics whose tails are to be written out with the next commit.
    pub(super) fn due(&self) -> Vec<TopicId> {
        let Some(due_before) = self.due_before else { return Vec::new() };
        self.waiting
            .iter()
            .take_while(|(first, _)| *first < due_before)
            .take(Self::PAGES_A_COMMIT)
            .map(|(_, topic)| *topic)
            .collect()
    }

    /// Every topic with a tail.
    pub(super) fn all(&self) -> Vec<TopicId> {
        self.waiting.iter().map(|(_, topic)| *topic).collect()
    }

    /// The first sequence that holds a block no page knows, leaving out the given topics.
    pub(super) fn first_unpaged(&self, except: &[TopicId]) -> Option<Sequence> {
        let kept = |(_, topic): &&(Sequence, TopicId)| !except.contains(topic);
        self.waiting.iter().find(kept).map(|(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_tails_are_due_and_the_oldest_left_bounds_recovery() {
        let mut queue = PageQueue::default();
        queue.insert(Sequence(1), TopicId(1));
        queue.insert(Sequence(3_000), TopicId(2));
        queue.written(Sequence(3_001), 1);
        assert_eq!(queue.due(), [TopicId(1)]);
        assert_eq!(queue.first_unpaged(&[]), Some(Sequence(1)));
        assert_eq!(queue.first_unpaged(&[TopicId(1)]), Some(Sequence(3_000)));
        queue.written(Sequence(3_002), PageQueue::AGE_BYTES);
        assert_eq!(queue.due(), [TopicId(1), TopicId(2)]);
    }
}
