//! Where a topic's blocks are: the newest in memory, the rest in pages.
//!
//! Every block has an [`IndexEntry`]. The newest entries of a topic stand in its tail, in memory.
//! A tail goes out as a page when it is full ([`PAGE_ENTRIES`]) or when its oldest entry has grown
//! old in chunks or bytes ([`PageQueue`]), so that recovery has little to read and memory holds
//! little. A page is one value in the `index` keyspace under `topic u32 BE · base_offset u64 BE`:
//!
//! ```text
//! version u8 = 1 · reserved 3 × u8 · crc u32 · bytes_before u64 ·
//! entries × (epoch u32 · base_offset u64 · count u32 · sequence u64 · position u32 · bytes u32 ·
//!            time u64 · crc u32)
//! ```
//!
//! little endian but for the key; the page's crc is CRC32C over the key and what follows it.
//!
//! Invariants: a topic's entries are consecutive in offsets and rise in sequence and time; an
//! entry leaves the tail only after the page that holds it is committed, so a reader that misses
//! in the tail finds the page.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Buf, BufMut};

use crate::model::{Epoch, Sequence, Timestamp, TopicId};

/// Entries at which a tail is written out as a page.
pub(super) const PAGE_ENTRIES: usize = 256;

const PAGE_VERSION: u8 = 1;
const PAGE_HEADER_BYTES: usize = 16;
const PAGE_ENTRY_BYTES: usize = 44;

/// Where one block is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) epoch: Epoch,
    pub(super) base_offset: u64,
    pub(super) count: u32,
    pub(super) sequence: Sequence,
    pub(super) position: u32,
    pub(super) bytes: u32,
    pub(super) time: Timestamp,
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
    /// The next message's offset.
    pub(super) head: u64,
    /// Bytes of all blocks ever written.
    pub(super) bytes: u64,
    /// Time of the newest block.
    pub(super) last_time: Timestamp,
    /// Entries not yet in a page, oldest first.
    pub(super) tail: VecDeque<IndexEntry>,
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
}

/// Entries that have left memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) bytes_before: u64,
    pub(super) entries: Vec<IndexEntry>,
}

impl Page {
    /// The key a topic's page with this first offset stands under.
    pub(super) fn key(topic: TopicId, base_offset: u64) -> [u8; 12] {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&topic.0.to_be_bytes());
        key[4..].copy_from_slice(&base_offset.to_be_bytes());
        key
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| u64::from(e.bytes)).sum()
    }

    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_HEADER_BYTES + self.entries.len() * PAGE_ENTRY_BYTES);
        out.put_u8(PAGE_VERSION);
        out.put_bytes(0, 7);
        out.put_u64_le(self.bytes_before);
        for entry in &self.entries {
            out.put_u32_le(entry.epoch.0);
            out.put_u64_le(entry.base_offset);
            out.put_u32_le(entry.count);
            out.put_u64_le(entry.sequence.0);
            out.put_u32_le(entry.position);
            out.put_u32_le(entry.bytes);
            out.put_u64_le(entry.time.0);
            out.put_u32_le(entry.crc);
        }
        let crc = page_crc(key, &out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut header = value.get(..PAGE_HEADER_BYTES).ok_or("index page without a header")?;
        if header.get_u8() != PAGE_VERSION {
            return Err("unknown index page version");
        }
        header.advance(3);
        if header.get_u32_le() != page_crc(key, value) {
            return Err("index page checksum does not match");
        }
        let bytes_before = header.get_u64_le();
        let entries = value[PAGE_HEADER_BYTES..]
            .chunks_exact(PAGE_ENTRY_BYTES)
            .map(|mut bytes| IndexEntry {
                epoch: Epoch(bytes.get_u32_le()),
                base_offset: bytes.get_u64_le(),
                count: bytes.get_u32_le(),
                sequence: Sequence(bytes.get_u64_le()),
                position: bytes.get_u32_le(),
                bytes: bytes.get_u32_le(),
                time: Timestamp(bytes.get_u64_le()),
                crc: bytes.get_u32_le(),
            })
            .collect();
        Ok(Self { bytes_before, entries })
    }
}

fn page_crc(key: &[u8], value: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value[..4]);
    crc32c::crc32c_append(crc, &value[8..])
}

/// Which tails have to go out as pages, and when: bounds what recovery has to read.
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

    fn entry(base_offset: u64, sequence: u64) -> IndexEntry {
        IndexEntry {
            epoch: Epoch::FIRST,
            base_offset,
            count: 2,
            sequence: Sequence(sequence),
            position: 64,
            bytes: 10,
            time: Timestamp(sequence),
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
    fn a_page_comes_back_under_its_own_key_only() {
        let mut index = TopicIndex { bytes: 100, ..TopicIndex::default() };
        index.push(entry(0, 0));
        index.push(entry(2, 1));
        let page = index.page().unwrap();
        assert_eq!(page.bytes_before, 100);
        let key = Page::key(TopicId(1), 0);
        let value = page.encode(&key);
        assert_eq!(Page::decode(&key, &value).unwrap(), page);
        assert!(Page::decode(&Page::key(TopicId(2), 0), &value).is_err());
        let mut resumed = TopicIndex::default();
        resumed.resume_after(&page);
        assert_eq!((resumed.head, resumed.bytes), (4, 120));
    }

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
