//! Which tails have to be written as pages, and when: bounds what recovery has to read. One a log.

use std::collections::BTreeSet;

use crate::model::{Sequence, StreamId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PageQueue {
    /// Streams with a tail, by the sequence of its first entry.
    waiting: BTreeSet<(Sequence, StreamId)>,
    /// Those that must stay tails.
    held: BTreeSet<(Sequence, StreamId)>,
    /// Tails that begin before this are written.
    due_before: Option<Sequence>,
    bytes_since: u64,
}

impl PageQueue {
    /// Chunks after which a tail is old.
    const AGE_CHUNKS: u64 = 2_048;
    /// Bytes of chunks after which a tail is old.
    const AGE_BYTES: u64 = 64 * 1024 * 1024;
    /// The number of tails for which these hold; with more of them tails may grow as much older, so
    /// that a page does not hold ever less.
    const TAILS: u64 = 32 * 1024;
    /// At most that much older.
    const OLDER_MAX: u64 = 4;
    /// Most pages written with one commit because of age, so that no commit stalls.
    const PAGES_A_COMMIT: usize = 256;

    /// A stream's tail now begins with this sequence.
    pub(super) fn insert(&mut self, first: Sequence, stream: StreamId) {
        self.waiting.insert((first, stream));
    }

    /// A stream's tail that began with this sequence was removed.
    pub(super) fn remove(&mut self, first: Sequence, stream: StreamId) {
        self.waiting.remove(&(first, stream));
        self.held.remove(&(first, stream));
    }

    /// A stream's tail that began with this sequence must stay a tail.
    pub(super) fn hold(&mut self, first: Sequence, stream: StreamId) {
        self.waiting.remove(&(first, stream));
        self.held.insert((first, stream));
    }

    /// Counts what a commit writes.
    pub(super) fn written(&mut self, next_sequence: Sequence, bytes: u64) {
        self.bytes_since += bytes;
        let older = (self.waiting.len() as u64 / Self::TAILS).clamp(1, Self::OLDER_MAX);
        let by_chunks = next_sequence.0.checked_sub(Self::AGE_CHUNKS * older).map(Sequence);
        self.due_before = self.due_before.max(by_chunks);
        if self.bytes_since >= Self::AGE_BYTES * older {
            self.bytes_since = 0;
            self.due_before = Some(next_sequence);
        }
    }

    /// Takes the streams whose tails are to be written with the next commit.
    pub(super) fn take_due(&mut self) -> Vec<StreamId> {
        let due_before = self.due_before.unwrap_or_default();
        let mut due = Vec::new();
        while due.len() < Self::PAGES_A_COMMIT
            && let Some((first, stream)) = self.waiting.first().copied()
            && first < due_before
        {
            self.waiting.pop_first();
            due.push(stream);
        }
        due
    }

    /// Takes every stream with a tail that may be written; with `held`, the others too.
    pub(super) fn take_all(&mut self, held: bool) -> Vec<StreamId> {
        let mut taken = std::mem::take(&mut self.waiting);
        if held {
            taken.append(&mut self.held);
        }
        taken.into_iter().map(|(_, stream)| stream).collect()
    }

    /// The first sequence with a block that is in no page.
    pub(super) fn first_unpaged(&self) -> Option<Sequence> {
        let firsts = [self.waiting.first(), self.held.first()];
        firsts.into_iter().flatten().map(|(first, _)| *first).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_tails_are_due_and_the_oldest_left_bounds_recovery() {
        let mut queue = PageQueue::default();
        queue.insert(Sequence(1), StreamId(1));
        queue.insert(Sequence(3_000), StreamId(2));
        queue.written(Sequence(3_001), 1);
        assert_eq!(queue.first_unpaged(), Some(Sequence(1)));
        assert_eq!(queue.take_due(), [StreamId(1)]);
        assert_eq!(queue.first_unpaged(), Some(Sequence(3_000)));
        queue.insert(Sequence(2_999), StreamId(1));
        queue.written(Sequence(3_002), PageQueue::AGE_BYTES);
        queue.hold(Sequence(2_999), StreamId(1));
        assert_eq!(queue.take_due(), [StreamId(2)]);
        assert_eq!(queue.first_unpaged(), Some(Sequence(2_999)), "held, but not forgotten");
        assert!(queue.take_all(false).is_empty());
        assert_eq!(queue.take_all(true), [StreamId(1)]);
    }

    #[test]
    fn many_tails_may_grow_older() {
        let mut queue = PageQueue::default();
        for n in 0..2 * PageQueue::TAILS as u32 {
            queue.insert(Sequence(1), StreamId(n));
        }
        queue.written(Sequence(2 * PageQueue::AGE_CHUNKS), 1);
        assert!(queue.take_due().is_empty());
        queue.written(Sequence(2 * PageQueue::AGE_CHUNKS + 2), 1);
        assert_eq!(queue.take_due().len(), PageQueue::PAGES_A_COMMIT);
    }
}
