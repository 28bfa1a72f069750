//! Index pages: entries that have left memory.
//!
//! A page is one value in the `index` keyspace under `topic u32 BE · base_offset u64 BE`:
//!
//! ```text
//! version u8 = 2 · reserved 3 × u8 · crc u32 · bytes_before u64 ·
//! entries × (epoch u32 · base_offset u64 · count u32 · sequence u64 · position u32 · bytes u32 ·
//!            time u64 · age u64 · crc u32)
//! ```
//!
//! little endian but for the key; the page's crc is CRC32C over the key and what follows it.
//!
//! Invariants: the entries of a page rise in offsets; a page is written once, and again only when
//! `retention` has moved one of its blocks, or `recovery` has read chunks again after damage.

use bytes::{Buf, BufMut};

use super::index::IndexEntry;
use crate::model::{Epoch, Sequence, Timestamp, TopicId};

/// Entries at which a tail is written out as a page.
pub(super) const PAGE_ENTRIES: usize = 256;

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 52;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Bytes of all the topic's blocks before this page.
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

    /// The topic and first offset that a key names.
    pub(super) fn parse_key(key: &[u8]) -> Option<(TopicId, u64)> {
        let (topic, base_offset) = key.split_first_chunk::<4>()?;
        let base_offset = base_offset.try_into().ok()?;
        Some((TopicId(u32::from_be_bytes(*topic)), u64::from_be_bytes(base_offset)))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| u64::from(e.bytes)).sum()
    }

    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        out.put_u8(VERSION);
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
            out.put_u64_le(entry.age_ms);
            out.put_u32_le(entry.crc);
        }
        let crc = page_crc(key, &out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut header = value.get(..HEADER_BYTES).ok_or("index page without a header")?;
        if header.get_u8() != VERSION {
            return Err("unknown index page version");
        }
        header.advance(3);
        if header.get_u32_le() != page_crc(key, value) {
            return Err("index page checksum does not match");
        }
        let bytes_before = header.get_u64_le();
        let entries = value[HEADER_BYTES..].chunks_exact(ENTRY_BYTES);
        let entries = entries.map(|mut bytes| IndexEntry {
            epoch: Epoch(bytes.get_u32_le()),
            base_offset: bytes.get_u64_le(),
            count: bytes.get_u32_le(),
            sequence: Sequence(bytes.get_u64_le()),
            position: bytes.get_u32_le(),
            bytes: bytes.get_u32_le(),
            time: Timestamp(bytes.get_u64_le()),
            age_ms: bytes.get_u64_le(),
            crc: bytes.get_u32_le(),
        });
        Ok(Self { bytes_before, entries: entries.collect() })
    }
}

fn page_crc(key: &[u8], value: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value[..4]);
    crc32c::crc32c_append(crc, &value[8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_under_its_own_key_only() {
        let entry = IndexEntry {
            epoch: Epoch::FIRST,
            base_offset: 4,
            count: 2,
            sequence: Sequence(9),
            position: 64,
            bytes: 10,
            time: Timestamp(77),
            age_ms: 5,
            crc: 3,
        };
        let page = Page { bytes_before: 100, entries: vec![entry; 3] };
        let key = Page::key(TopicId(1), 4);
        assert_eq!(Page::parse_key(&key), Some((TopicId(1), 4)));
        let value = page.encode(&key);
        assert_eq!(Page::decode(&key, &value).unwrap(), page);
        assert!(Page::decode(&Page::key(TopicId(2), 4), &value).is_err());
    }
}
