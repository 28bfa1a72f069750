//! Where a topic's blocks are, and which of its offsets hold none.
//!
//! Every block has an [`IndexEntry`]. The newest entries of a topic stand in its tail, in memory;
//! a tail goes out as a [`Page`] when it is full or its oldest entry has grown old in chunks or
//! bytes (`page_queue`), so that recovery has little to read and memory holds little.
//!
//! Invariants: a topic's entries rise in offsets and time, and follow each other but for gaps and
//! damage; an entry leaves the tail only after the page that holds it is committed, so a reader
//! that misses in the tail finds the page.

use std::collections::VecDeque;

use super::page::Page;
use crate::model::{Epoch, Gap, Sequence, Timestamp};

/// Where one block is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(super) epoch: Epoch,
    pub(super) base_offset: u64,
    pub(super) count: u32,
    pub(super) sequence: Sequence,
    pub(super) position: u32,
    pub(super) bytes: u32,
    pub(super) time: Timestamp,
    /// How old the journal was when the block came (see `age`).
    pub(super) age_ms: u64,
    pub(super) crc: u32,
}

impl IndexEntry {
    pub(super) fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }
}

/// What is known in memory of one topic's blocks.
#[derive(Debug, Default)]
pub(super) struct TopicIndex {
    /// Low watermark: the first message kept.
    pub(super) first: u64,
    /// Bytes of the blocks below the low watermark.
    pub(super) bytes_before_first: u64,
    /// The next message's offset.
    pub(super) head: u64,
    /// Bytes of all blocks ever written.
    pub(super) bytes: u64,
    /// Time of the newest block.
    pub(super) last_time: Timestamp,
    /// Entries not yet in a page, oldest first.
    pub(super) tail: VecDeque<IndexEntry>,
    /// Offsets that were announced to hold no message, in order.
    pub(super) gaps: Vec<Gap>,
    /// Offsets whose messages are damaged, in order; nobody has accepted that yet.
    pub(super) damage: Vec<Gap>,
}

/// What stands at an offset that holds no readable message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    Gap(Gap),
    Damage(Gap),
}

impl TopicIndex {
    /// Takes the next block; false when it is not the next one.
    pub(super) fn push(&mut self, entry: IndexEntry) -> bool {
        if entry.base_offset != self.head || entry.count == 0 {
            return false;
        }
        self.head = entry.end_offset();
        self.bytes += u64::from(entry.bytes);
        self.last_time = self.last_time.max(entry.time);
        self.tail.push_back(entry);
        true
    }

    /// Moves the head past offsets that will hold no message.
    pub(super) fn skip_to(&mut self, head: u64) {
        self.head = self.head.max(head);
    }

    /// Continues after a page; used when a topic is recovered.
    pub(super) fn resume_after(&mut self, page: &Page) {
        self.bytes = page.bytes_before + page.bytes();
        if let Some(last) = page.entries.last() {
            self.head = last.end_offset();
            self.last_time = last.time;
        }
    }

    /// The tail as a page; `None` when the tail is empty.
    pub(super) fn page(&self) -> Option<Page> {
        let entries: Vec<_> = self.tail.iter().copied().collect();
        let tail_bytes: u64 = entries.iter().map(|e| u64::from(e.bytes)).sum();
        (!entries.is_empty()).then(|| Page { bytes_before: self.bytes - tail_bytes, entries })
    }

    /// The tail's entries from the block that holds `offset` on; `None` when they begin later.
    pub(super) fn tail_from(&self, offset: u64) -> Option<impl Iterator<Item = &IndexEntry>> {
        if self.tail.front().is_none_or(|front| front.base_offset > offset) {
            return None;
        }
        let start = self.tail.partition_point(|e| e.end_offset() <= offset);
        Some(self.tail.range(start..))
    }

    /// Why there is no message to be read at an offset, where that is known.
    pub(super) fn no_message_at(&self, offset: u64) -> Option<NoMessage> {
        let among = |gaps: &[Gap]| gaps.iter().copied().find(|gap| gap.contains(offset));
        among(&self.damage).map(NoMessage::Damage).or(among(&self.gaps).map(NoMessage::Gap))
    }

    /// The first damaged offset after this one.
    pub(super) fn damage_after(&self, offset: u64) -> Option<u64> {
        self.damage.iter().map(|gap| gap.from).find(|from| *from > offset)
    }

    /// Messages kept.
    pub(super) fn messages(&self) -> u64 {
        let missing = |gap: &Gap| gap.end().min(self.head).saturating_sub(gap.from.max(self.first));
        let missing: u64 = self.gaps.iter().chain(&self.damage).map(missing).sum();
        (self.head - self.first).saturating_sub(missing)
    }

    /// Bytes of the blocks kept.
    pub(super) fn bytes_kept(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_before_first)
    }

    /// Moves the low watermark; announced gaps below it are forgotten.
    pub(super) fn trim(&mut self, first: u64, bytes_before_first: u64) {
        self.first = first;
        self.bytes_before_first = bytes_before_first;
        self.gaps.retain(|gap| gap.to >= first);
        self.tail.retain(|entry| entry.end_offset() > first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(base_offset: u64, sequence: u64) -> IndexEntry {
        IndexEntry {
            epoch: Epoch::FIRST,
            base_offset,
            count: 2,
            sequence: Sequence(sequence),
            position: 64,
            bytes: 10,
            time: Timestamp(sequence),
            age_ms: 0,
            crc: 3,
        }
    }

    #[test]
    fn only_the_next_block_is_taken() {
        let mut index = TopicIndex::default();
        assert!(!index.push(entry(1, 0)), "a hole");
        assert!(index.push(entry(0, 0)));
        assert!(!index.push(entry(0, 1)), "an overlap");
        assert!(index.push(entry(2, 1)));
        assert_eq!((index.head, index.bytes), (4, 20));
        let found: Vec<_> = index.tail_from(3).unwrap().map(|e| e.base_offset).collect();
        assert_eq!(found, [2]);
    }

    #[test]
    fn a_page_continues_where_the_one_before_it_ended() {
        let mut index = TopicIndex { bytes: 100, ..TopicIndex::default() };
        index.push(entry(0, 0));
        index.push(entry(2, 1));
        let page = index.page().unwrap();
        assert_eq!(page.bytes_before, 100);
        let mut resumed = TopicIndex::default();
        resumed.resume_after(&page);
        assert_eq!((resumed.head, resumed.bytes), (4, 120));
    }

    #[test]
    fn gaps_and_damage_are_no_messages() {
        let mut index = TopicIndex::default();
        index.push(entry(0, 0));
        index.skip_to(10);
        index.push(entry(10, 1));
        index.gaps = vec![Gap { from: 2, to: 9 }];
        index.damage = vec![Gap { from: 10, to: 11 }];
        assert_eq!(index.messages(), 2);
        assert_eq!(index.no_message_at(5), Some(NoMessage::Gap(Gap { from: 2, to: 9 })));
        assert_eq!(index.no_message_at(1), None);
        assert_eq!(index.damage_after(0), Some(10));
        index.trim(10, 10);
        assert_eq!((index.messages(), index.bytes_kept(), index.tail.len()), (0, 10, 1));
    }
}
