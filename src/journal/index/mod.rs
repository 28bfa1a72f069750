//! Where a stream's blocks are.
//!
//! Every block has an [`IndexEntry`] until a page is written, and after that if readers or receipts
//! may ask for it. The newest entries of a stream are in its tail, in memory; a tail is written as
//! a [`Page`] when it is full or its oldest entry has grown old in chunks or bytes
//! (`commit::page_queue`), so that recovery has little to read and memory holds little.
//!
//! Invariants: a stream's entries rise in number, offsets and time; an entry leaves the tail only
//! after the page that holds it is committed, so a reader that misses in the tail finds the page.
//! The meaning of offsets between entries that do not follow each other is up to the stream's
//! owner.

mod entry;
mod extent;
mod page;

use std::collections::VecDeque;

pub(crate) use entry::{BodyPlace, IndexEntry};
pub(in crate::journal) use extent::Extent;
pub(in crate::journal) use page::{PAGE_ENTRIES, Page, PageStart};

use crate::model::Log;

/// What is known in memory of one stream's blocks.
#[derive(Debug, Default)]
pub(in crate::journal) struct StreamIndex {
    /// Low watermark, end, and sums.
    pub(in crate::journal) extent: Extent,
    /// Entries not yet in a page, oldest first. Blocks without messages are among them until then.
    pub(in crate::journal) tail: VecDeque<IndexEntry>,
}

impl StreamIndex {
    /// An empty stream of that log.
    pub(in crate::journal) fn new(log: Log) -> Self {
        Self { extent: Extent { log, ..Extent::default() }, tail: VecDeque::new() }
    }

    /// Takes the next block; false when it is not the next one.
    pub(in crate::journal) fn push(&mut self, entry: IndexEntry) -> bool {
        let extent = &mut self.extent;
        // Offsets are given up by blocks without messages, and by those only.
        let may_skip = entry.count == 0;
        let follows =
            entry.base_offset == extent.head || (may_skip && entry.base_offset > extent.head);
        if !follows || entry.number != extent.number + 1 {
            return false;
        }
        extent.number = entry.number;
        extent.head = entry.end_offset();
        extent.bytes += u64::from(entry.bytes);
        extent.last_time = extent.last_time.max(entry.time);
        self.tail.push_back(entry);
        true
    }

    /// Moves the end past offsets and blocks that are missing.
    pub(in crate::journal) fn skip_to(&mut self, head: u64, number: u64) {
        self.extent.head = self.extent.head.max(head);
        self.extent.number = self.extent.number.max(number);
    }

    /// Continues after a page; used when a stream is recovered.
    pub(in crate::journal) fn resume_after(&mut self, page: &Page) {
        self.extent.bytes = page.bytes_before + page.bytes();
        if let Some(last) = page.entries.last() {
            self.extent.head = last.end_offset();
            self.extent.number = last.number;
            self.extent.last_time = last.time;
        }
    }

    /// The tail's entries as a page; `None` if it has none to keep.
    pub(in crate::journal) fn page(&self) -> Option<Page> {
        self.page_of(IndexEntry::is_indexed)
    }

    /// All of the tail as a page, with entries that need not be kept for long.
    pub(in crate::journal) fn whole_page(&self) -> Option<Page> {
        self.page_of(|_| true)
    }

    fn page_of(&self, kept: impl Fn(&IndexEntry) -> bool) -> Option<Page> {
        let entries: Vec<_> = self.tail.iter().filter(|entry| kept(entry)).copied().collect();
        let tail_bytes: u64 = entries.iter().map(|e| u64::from(e.bytes)).sum();
        let bytes_before = self.extent.bytes.saturating_sub(tail_bytes);
        (!entries.is_empty()).then_some(Page { bytes_before, entries })
    }

    /// The tail's entries from the block that holds `offset` on; `None` when they begin later.
    pub(in crate::journal) fn tail_from(
        &self,
        offset: u64,
    ) -> Option<impl Iterator<Item = &IndexEntry>> {
        if self.tail.front().is_none_or(|front| front.base_offset > offset) {
            return None;
        }
        let start = self.tail.partition_point(|e| e.end_offset() <= offset);
        Some(self.tail.range(start..).filter(|entry| entry.count > 0))
    }

    /// Moves the low watermark.
    pub(in crate::journal) fn trim(&mut self, first: u64, bytes_before_first: u64) {
        self.extent.first = first;
        self.extent.bytes_before_first = bytes_before_first;
        self.tail.retain(|entry| !entry.is_below(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockKind, Sequence};

    fn entry(base_offset: u64, number: u64) -> IndexEntry {
        IndexEntry {
            number,
            base_offset,
            count: 2,
            sequence: Sequence(number),
            bytes: 10,
            ..IndexEntry::default()
        }
    }

    #[test]
    fn only_the_next_block_is_taken() {
        let mut index = StreamIndex::default();
        assert!(!index.push(entry(1, 1)), "a hole");
        assert!(index.push(entry(0, 1)));
        assert!(!index.push(entry(0, 2)), "an overlap");
        assert!(!index.push(entry(2, 3)), "a block is missing");
        assert!(index.push(entry(2, 2)));
        assert_eq!((index.extent.head, index.extent.bytes), (4, 20));
        let found: Vec<_> = index.tail_from(3).unwrap().map(|e| e.base_offset).collect();
        assert_eq!(found, [2]);
    }

    #[test]
    fn a_gap_moves_the_end_and_is_in_no_page() {
        let mut index = StreamIndex::default();
        index.push(entry(0, 1));
        let gap = IndexEntry { kind: BlockKind::Gap, count: 0, bytes: 0, ..entry(10, 2) };
        assert!(index.push(gap));
        assert!(index.push(entry(10, 3)));
        assert_eq!(index.extent.head, 12);
        let offsets: Vec<_> = index.page().unwrap().entries.iter().map(|e| e.base_offset).collect();
        assert_eq!(offsets, [0, 10]);
        assert_eq!(index.tail_from(5).unwrap().next().unwrap().base_offset, 10);
    }

    #[test]
    fn a_page_continues_where_the_one_before_it_ended() {
        let mut index = StreamIndex::default();
        index.extent.bytes = 100;
        index.push(entry(0, 1));
        index.push(entry(2, 2));
        let page = index.page().unwrap();
        assert_eq!(page.bytes_before, 100);
        let mut resumed = StreamIndex::default();
        resumed.resume_after(&page);
        assert_eq!((resumed.extent.head, resumed.extent.bytes), (4, 120));
        assert!(resumed.push(entry(4, 3)));
    }

    #[test]
    fn a_low_watermark_takes_what_lies_below_it() {
        let mut index = StreamIndex::default();
        index.push(entry(0, 1));
        index.push(entry(2, 2));
        index.trim(2, 10);
        assert_eq!((index.extent.bytes_kept(), index.tail.len()), (10, 1));
    }
}
