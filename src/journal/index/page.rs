//! Index pages: entries that have left memory.
//!
//! A page is one value of `index` under its stream and the offset and number of its first entry;
//! `format.md` has its bytes.
//!
//! Invariants: the entries of a page rise in offsets; a page is written once, and again only when
//! `reclaim` has moved one of its blocks, or `recovery` has read chunks again after damage.

use bytes::{Buf, BufMut};

use super::IndexEntry;
use crate::journal::format::{entry, varint};
use crate::model::{Epoch, Sequence, StreamId, Timestamp};

/// Entries at which a tail is written out as a page.
pub(in crate::journal) const PAGE_ENTRIES: usize = 256;

const VERSION: u8 = 3;
const HEADER_BYTES: usize = 5;
/// Follows the owner in a page's key, where state has its tag.
const KEY_TAG: u8 = 0;
const KEY_BYTES: usize = 21;

/// Where a page begins: the offset and number of its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::journal) struct PageStart {
    pub(in crate::journal) base_offset: u64,
    pub(in crate::journal) number: u64,
}

impl PageStart {
    /// Before every page whose first offset is this one or later.
    pub(in crate::journal) fn at(base_offset: u64) -> Self {
        Self { base_offset, number: 0 }
    }

    /// Behind every page whose first offset is this one or earlier.
    pub(in crate::journal) fn behind(base_offset: u64) -> Self {
        Self { base_offset, number: u64::MAX }
    }

    fn of(entry: &IndexEntry) -> Self {
        Self { base_offset: entry.base_offset, number: entry.number }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Page {
    /// Bytes of all the stream's blocks before this page.
    pub(in crate::journal) bytes_before: u64,
    pub(in crate::journal) entries: Vec<IndexEntry>,
}

impl Page {
    /// The key of a stream's page with this beginning.
    pub(in crate::journal) fn key(stream: StreamId, start: PageStart) -> [u8; KEY_BYTES] {
        let mut key = [KEY_TAG; KEY_BYTES];
        key[..4].copy_from_slice(&stream.0.to_be_bytes());
        key[5..13].copy_from_slice(&start.base_offset.to_be_bytes());
        key[13..].copy_from_slice(&start.number.to_be_bytes());
        key
    }

    /// The stream and beginning in a key; `None` for a key of another kind.
    pub(in crate::journal) fn parse_key(key: &[u8]) -> Option<(StreamId, PageStart)> {
        let (stream, rest) = key.split_first_chunk::<4>()?;
        let (base_offset, number) = rest.strip_prefix(&[KEY_TAG])?.split_first_chunk::<8>()?;
        let start = PageStart {
            base_offset: u64::from_be_bytes(*base_offset),
            number: u64::from_be_bytes(number.try_into().ok()?),
        };
        Some((StreamId(u32::from_be_bytes(*stream)), start))
    }

    /// Where it begins; `None` for a page without entries.
    pub(in crate::journal) fn start(&self) -> Option<PageStart> {
        self.entries.first().map(PageStart::of)
    }

    pub(in crate::journal) fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| u64::from(e.bytes)).sum()
    }

    pub(in crate::journal) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + 16 + self.entries.len() * 24);
        out.put_u8(VERSION);
        out.put_u32_le(0);
        varint::put(&mut out, self.bytes_before);
        varint::put(&mut out, self.entries.len() as u64);
        let mut before = IndexEntry::default();
        for entry in &self.entries {
            out.put_u8(entry::kind_code(entry.kind));
            varint::put(&mut out, entry.epoch.0);
            varint::put_difference(&mut out, entry.number, before.number.wrapping_add(1));
            varint::put_difference(&mut out, entry.base_offset, before.end_offset());
            varint::put(&mut out, entry.count.into());
            varint::put_difference(&mut out, entry.ingest_base, entry.base_offset);
            varint::put_difference(&mut out, entry.ingest_count.into(), entry.count.into());
            varint::put_difference(&mut out, entry.sequence.0, before.sequence.0);
            varint::put(&mut out, entry.position.into());
            varint::put(&mut out, entry.bytes.into());
            varint::put_difference(&mut out, entry.time.0, before.time.0);
            varint::put_difference(&mut out, entry.age_ms, before.age_ms);
            out.put_u32_le(entry.crc);
            before = *entry;
        }
        let crc = page_crc(key, &out);
        out[1..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(in crate::journal) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut header = value.get(..HEADER_BYTES).ok_or("index page without a header")?;
        if header.get_u8() != VERSION {
            return Err("unknown index page version");
        }
        if header.get_u32_le() != page_crc(key, value) {
            return Err("index page checksum does not match");
        }
        Self::decode_entries(&value[HEADER_BYTES..]).ok_or("index page entries are malformed")
    }

    fn decode_entries(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let bytes_before = varint::take(rest)?;
        let count = varint::take(rest)?;
        let mut entries = Vec::with_capacity((count as usize).min(PAGE_ENTRIES));
        let mut before = IndexEntry::default();
        for _ in 0..count {
            let kind = entry::kind_of(rest.try_get_u8().ok()?)?;
            let epoch = Epoch(varint::take(rest)?);
            let number = varint::take_difference(rest, before.number.wrapping_add(1))?;
            let base_offset = varint::take_difference(rest, before.end_offset())?;
            let count = varint::take_u32(rest)?;
            base_offset.checked_add(count.into())?;
            let ingest_base = varint::take_difference(rest, base_offset)?;
            let ingest_count = varint::take_difference(rest, count.into())?.try_into().ok()?;
            let sequence = Sequence(varint::take_difference(rest, before.sequence.0)?);
            let position = varint::take_u32(rest)?;
            let bytes = varint::take_u32(rest)?;
            let time = Timestamp(varint::take_difference(rest, before.time.0)?);
            let age_ms = varint::take_difference(rest, before.age_ms)?;
            let crc = rest.try_get_u32_le().ok()?;
            before = IndexEntry {
                kind,
                epoch,
                number,
                base_offset,
                count,
                ingest_base,
                ingest_count,
                sequence,
                position,
                bytes,
                time,
                age_ms,
                crc,
            };
            entries.push(before);
        }
        rest.is_empty().then_some(Self { bytes_before, entries })
    }
}

fn page_crc(key: &[u8], value: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value[..1]);
    crc32c::crc32c_append(crc, &value[HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: PageStart = PageStart { base_offset: 4, number: 1 };

    fn page() -> Page {
        let entry = |n: u64| IndexEntry {
            epoch: Epoch::FIRST,
            number: n + 1,
            base_offset: 4 + 2 * n,
            count: 2,
            ingest_base: 4 + 2 * n,
            ingest_count: 2,
            sequence: Sequence(9 - n),
            position: 64,
            bytes: 10,
            time: Timestamp(1_700_000_000_000 + n),
            age_ms: 5 + n,
            crc: 3,
            ..IndexEntry::default()
        };
        Page { bytes_before: 100, entries: (0..3).map(entry).collect() }
    }

    #[test]
    fn a_page_comes_back_under_its_own_key_only() {
        let key = Page::key(StreamId(1), page().start().unwrap());
        assert_eq!(Page::parse_key(&key), Some((StreamId(1), START)));
        assert_eq!(Page::parse_key(b"\0\0\0\x01\x811234567812345678"), None, "state");
        let value = page().encode(&key);
        assert_eq!(Page::decode(&key, &value).unwrap(), page());
        assert!(Page::decode(&Page::key(StreamId(2), START), &value).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = Page::key(StreamId(1), START);
        let value = page().encode(&key);
        for bit in 0..value.len() * 8 {
            let mut value = value.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            assert!(Page::decode(&key, &value).is_err(), "bit {bit}");
        }
    }
}
