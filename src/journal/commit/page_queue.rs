//! Which tails have to go out as pages, and when: bounds what recovery has to read. One a log.

use std::collections::BTreeSet;

use crate::model::{Sequence, StreamId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PageQueue {
    /// Streams with a tail, by the sequence of its first entry.
    waiting: BTreeSet<(Sequence, StreamId)>,
    /// Those that must stay tails.
    held: BTreeSet<(Sequence, StreamId)>,
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

    /// A stream's tail now begins with this sequence.
    pub(super) fn insert(&mut self, first: Sequence, stream: StreamId) {
        self.waiting.insert((first, stream));
    }

    /// A stream's tail that began with this sequence is gone.
    pub(super) fn remove(&mut self, first: Sequence, stream: StreamId) {
        self.waiting.remove(&(first, stream));
        self.held.remove(&(first, stream));
    }

    /// A stream's tail that began with this sequence is not to go out.
    pub(super) fn hold(&mut self, first: Sequence, stream: StreamId) {
        self.waiting.remove(&(first, stream));
        self.held.insert((first, stream));
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

    /// The streams whose tails are to be written out with the next commit.
    pub(super) fn due(&self) -> impl Iterator<Item = StreamId> {
        let due_before = self.due_before.unwrap_or_default();
        self.waiting
            .iter()
            .take_while(move |(first, _)| *first < due_before)
            .take(Self::PAGES_A_COMMIT)
            .map(|(_, stream)| *stream)
    }

    /// Every stream with a tail that may go out.
    pub(super) fn all(&self) -> impl Iterator<Item = StreamId> {
        self.waiting.iter().map(|(_, stream)| *stream)
    }

    /// The first sequence that holds a block no page knows, leaving out the given streams.
    pub(super) fn first_unpaged(&self, except: &[StreamId]) -> Option<Sequence> {
        let kept = |(_, stream): &&(Sequence, StreamId)| !except.contains(stream);
        let firsts = [&self.waiting, &self.held].map(|tails| tails.iter().find(kept));
        firsts.into_iter().flatten().map(|(first, _)| *first).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_tails_are_due_and_the_oldest_left_bounds_recovery() {
        let mut queue = PageQueue::default();
        let due = |queue: &PageQueue| queue.due().collect::<Vec<_>>();
        queue.insert(Sequence(1), StreamId(1));
        queue.insert(Sequence(3_000), StreamId(2));
        queue.written(Sequence(3_001), 1);
        assert_eq!(due(&queue), [StreamId(1)]);
        assert_eq!(queue.first_unpaged(&[]), Some(Sequence(1)));
        assert_eq!(queue.first_unpaged(&[StreamId(1)]), Some(Sequence(3_000)));
        queue.written(Sequence(3_002), PageQueue::AGE_BYTES);
        assert_eq!(due(&queue), [StreamId(1), StreamId(2)]);
        queue.hold(Sequence(1), StreamId(1));
        assert_eq!(due(&queue), [StreamId(2)]);
        assert_eq!(
            queue.first_unpaged(&[StreamId(2)]),
            Some(Sequence(1)),
            "held, but not forgotten"
        );
    }
}
