//! The chunk: what one journal record holds, byte for byte.
//!
//! A chunk is the value under a sequence (`u64`, big endian) in the `blocks` keyspace. It packs
//! the blocks of one commit up to about [`CHUNK_BYTES`]; a larger block stands alone.
//!
//! ```text
//! header     version u8 = 2 · reserved u8 = 0 · entries u16 · crc u32
//! directory  entries × (topic u32 · epoch u32 · base_offset u64 · count u32 · position u32 ·
//!                       bytes u32 · time u64 · age u64 · crc u32)
//! bodies     the blocks' encoded records, each at its position from the chunk's start
//! ```
//!
//! Integers are little endian, times are milliseconds since 1970, ages milliseconds of the journal's
//! use (see `age`). The header's crc is CRC32C over the sequence the chunk is stored under, the
//! rest of the header and the directory; an entry's crc is CRC32C over its body.
//!
//! Invariant: a chunk that [`directory`] takes was written under that very sequence.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::index::IndexEntry;
use crate::model::{Block, Derived, Epoch, PlacedBlock, Record, Sequence, Timestamp, TopicId};

/// Where a chunk is closed, in bytes of bodies.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 48;

/// One block in a chunk's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryEntry {
    pub(crate) topic: TopicId,
    pub(crate) entry: IndexEntry,
}

/// A finished chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(super) sequence: Sequence,
    pub(crate) value: Bytes,
    pub(super) entries: Vec<DirectoryEntry>,
}

impl Chunk {
    /// Its blocks as readers get them.
    pub(super) fn blocks(&self) -> impl Iterator<Item = PlacedBlock> {
        self.entries.iter().map(|found| block(found.topic, &self.value, &found.entry))
    }
}

/// Blocks of one topic on their way into one chunk.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) topic: TopicId,
    pub(crate) epoch: Epoch,
    pub(crate) base_offset: u64,
    pub(crate) moment: Moment,
    pub(crate) blocks: &'a [Block],
}

/// When a commit's blocks came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) published_at: Timestamp,
    pub(crate) age_ms: u64,
}

/// Writes the parts, in order, as the chunk of `sequence`.
pub(crate) fn encode(sequence: Sequence, parts: &[Part<'_>]) -> Chunk {
    let bodies_at = HEADER_BYTES + parts.len() * ENTRY_BYTES;
    let bodies: usize = parts.iter().flat_map(|p| p.blocks).map(|b| b.body().len()).sum();
    let mut out = BytesMut::with_capacity(bodies_at + bodies);
    out.put_u8(VERSION);
    out.put_u8(0);
    out.put_u16_le(parts.len() as u16);
    out.put_u32_le(0);
    out.put_bytes(0, parts.len() * ENTRY_BYTES);
    let mut entries = Vec::with_capacity(parts.len());
    for part in parts {
        let position = out.len();
        for block in part.blocks {
            out.put_slice(block.body());
        }
        let body = &out[position..];
        entries.push(DirectoryEntry {
            topic: part.topic,
            entry: IndexEntry {
                epoch: part.epoch,
                base_offset: part.base_offset,
                count: part.blocks.iter().map(Block::count).sum(),
                sequence,
                position: position as u32,
                bytes: body.len() as u32,
                time: part.moment.published_at,
                age_ms: part.moment.age_ms,
                crc: crc32c::crc32c(body),
            },
        });
    }
    for (n, entry) in entries.iter().enumerate() {
        let mut slot = &mut out[HEADER_BYTES + n * ENTRY_BYTES..];
        put_entry(&mut slot, entry);
    }
    let crc = header_crc(sequence, &out[..bodies_at]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    Chunk { sequence, value: out.freeze(), entries }
}

/// Writes blocks that were stored before, in order, as the chunk of `sequence`: only their places
/// are new.
pub(super) fn encode_again<'a>(
    sequence: Sequence,
    stored: impl Iterator<Item = (TopicId, IndexEntry, &'a Bytes)>,
) -> Chunk {
    let (entries, blocks): (Vec<_>, Vec<_>) = stored
        .map(|(topic, entry, body)| ((topic, entry), [Block::stored(body.clone(), entry.count)]))
        .unzip();
    let parts: Vec<_> = entries
        .iter()
        .zip(&blocks)
        .map(|((topic, entry), blocks)| Part {
            topic: *topic,
            epoch: entry.epoch,
            base_offset: entry.base_offset,
            moment: Moment { published_at: entry.time, age_ms: entry.age_ms },
            blocks,
        })
        .collect();
    encode(sequence, &parts)
}

/// Reads a chunk's directory and checks it; the bodies are checked by [`verify`].
pub(crate) fn directory(
    sequence: Sequence,
    value: &[u8],
) -> Result<Vec<DirectoryEntry>, &'static str> {
    let mut header = value.get(..HEADER_BYTES).ok_or("shorter than a header")?;
    if header.get_u8() != VERSION {
        return Err("unknown chunk version");
    }
    header.advance(1);
    let entries = usize::from(header.get_u16_le());
    let crc = header.get_u32_le();
    let bodies_at = HEADER_BYTES + entries * ENTRY_BYTES;
    let head = value.get(..bodies_at).ok_or("shorter than its directory")?;
    if header_crc(sequence, head) != crc {
        return Err("directory checksum does not match");
    }
    let entries = head[HEADER_BYTES..].chunks_exact(ENTRY_BYTES);
    let entries: Vec<_> = entries.map(|bytes| get_entry(sequence, bytes)).collect();
    if !entries.iter().all(|found| is_possible(&found.entry)) {
        return Err("a block that can't be");
    }
    Ok(entries)
}

/// The block's offsets have an end, and its bytes have room for what it counts. True of all that we
/// write; but anybody can work out a checksum.
fn is_possible(entry: &IndexEntry) -> bool {
    entry.base_offset.checked_add(entry.count.into()).is_some()
        && u64::from(entry.count) * Record::ENCODED_BYTES_MIN <= u64::from(entry.bytes)
}

/// Checks that a block's body is in its chunk as it was written.
pub(crate) fn verify(chunk: &[u8], entry: &IndexEntry) -> Result<(), &'static str> {
    let body = chunk.get(range(entry)).ok_or("block reaches past its chunk")?;
    if crc32c::crc32c(body) != entry.crc {
        return Err("block checksum does not match");
    }
    Ok(())
}

/// A block of a chunk that was just written or has been [verified](verify). Shares its bytes.
pub(crate) fn block(topic: TopicId, chunk: &Bytes, entry: &IndexEntry) -> PlacedBlock {
    PlacedBlock {
        topic,
        epoch: entry.epoch,
        base_offset: entry.base_offset,
        count: entry.count,
        published_at: entry.time,
        body: chunk.slice(range(entry)),
        derived: Derived::default(),
    }
}

fn range(entry: &IndexEntry) -> Range<usize> {
    let start = entry.position as usize;
    start..start + entry.bytes as usize
}

fn header_crc(sequence: Sequence, head: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&sequence.0.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &head[..4]);
    crc32c::crc32c_append(crc, &head[8..])
}

fn put_entry(out: &mut &mut [u8], entry: &DirectoryEntry) {
    out.put_u32_le(entry.topic.0);
    out.put_u32_le(entry.entry.epoch.0);
    out.put_u64_le(entry.entry.base_offset);
    out.put_u32_le(entry.entry.count);
    out.put_u32_le(entry.entry.position);
    out.put_u32_le(entry.entry.bytes);
    out.put_u64_le(entry.entry.time.0);
    out.put_u64_le(entry.entry.age_ms);
    out.put_u32_le(entry.entry.crc);
}

fn get_entry(sequence: Sequence, mut bytes: &[u8]) -> DirectoryEntry {
    let topic = TopicId(bytes.get_u32_le());
    let epoch = Epoch(bytes.get_u32_le());
    let base_offset = bytes.get_u64_le();
    let count = bytes.get_u32_le();
    let position = bytes.get_u32_le();
    let body_bytes = bytes.get_u32_le();
    let time = Timestamp(bytes.get_u64_le());
    let age_ms = bytes.get_u64_le();
    let crc = bytes.get_u32_le();
    let bytes = body_bytes;
    let entry =
        IndexEntry { epoch, base_offset, count, sequence, position, bytes, time, age_ms, crc };
    DirectoryEntry { topic, entry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlockBuilder;

    fn block(payloads: &[&[u8]]) -> Block {
        let mut builder = BlockBuilder::default();
        for payload in payloads {
            builder.push(&Record::json(payload)).unwrap();
        }
        builder.finish().unwrap()
    }

    fn sample() -> Chunk {
        let (a, b) = (block(&[b"1", b"2"]), block(&[b"\"three\""]));
        let part = |topic, base_offset, blocks| Part {
            topic: TopicId(topic),
            epoch: Epoch(1),
            base_offset,
            moment: Moment { published_at: Timestamp(99), age_ms: 1 },
            blocks,
        };
        let parts = [part(7, 10, std::slice::from_ref(&a)), part(9, 0, std::slice::from_ref(&b))];
        encode(Sequence(5), &parts)
    }

    #[test]
    fn a_chunk_gives_back_its_directory_and_bodies() {
        let chunk = sample();
        let entries = directory(Sequence(5), &chunk.value).unwrap();
        assert_eq!(entries, chunk.entries);
        assert_eq!(entries[0].entry.count, 2);
        let DirectoryEntry { topic, entry } = &entries[1];
        verify(&chunk.value, entry).unwrap();
        let block = super::block(*topic, &chunk.value, entry);
        assert_eq!(Record::decode(&mut &block.body[..]).unwrap().payload, b"\"three\"");
    }

    #[test]
    fn blocks_that_cannot_be_are_refused_whatever_their_checksum() {
        let block = |count| [Block::stored(block(&[b"1"]).body().clone(), count)];
        let moment = Moment::default();
        let read = |base_offset, blocks: &[Block]| {
            let part = Part { topic: TopicId(7), epoch: Epoch(1), base_offset, moment, blocks };
            directory(Sequence(5), &encode(Sequence(5), &[part]).value).map(|entries| entries.len())
        };
        assert_eq!(read(u64::MAX - 1, &block(1)), Ok(1));
        assert!(read(u64::MAX, &block(1)).is_err(), "an offset past the last one");
        assert!(read(0, &block(2)).is_err(), "two records take more");
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_so_is_another_sequence() {
        let chunk = sample();
        assert!(directory(Sequence(6), &chunk.value).is_err());
        for bit in 0..chunk.value.len() * 8 {
            let mut value = chunk.value.to_vec();
            value[bit / 8] ^= 1 << (bit % 8);
            let value = Bytes::from(value);
            let noticed = match directory(Sequence(5), &value) {
                Err(_) => true,
                Ok(entries) => entries.iter().any(|e| verify(&value, &e.entry).is_err()),
            };
            assert!(noticed, "bit {bit}");
        }
    }
}
