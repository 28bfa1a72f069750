//! The chunk: what one journal record holds.
//!
//! A chunk is the value under a sequence in one of the two logs. It packs the blocks of one commit
//! up to about [`CHUNK_BYTES`]; a larger block has a chunk alone. `format.md` has its bytes.
//!
//! Invariant: a chunk that [`directory`] accepts was written under that very sequence of that log.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::entry::{self, ChunkEntry, Moment};
use crate::journal::index::{BodyPlace, IndexEntry};
use crate::model::{
    Block, BlockHeader, JournalAge, Log, PlacedBlock, Sequence, StreamId, Timestamp,
};

/// Where a chunk is closed, in bytes of bodies.
pub(in crate::journal) const CHUNK_BYTES: usize = 32 * 1024;

const VERSION: u8 = 3;
const HEADER_BYTES: usize = 36;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) log: Log,
    pub(crate) sequence: Sequence,
}

/// A block of a chunk: its header and its place in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) stream: StreamId,
    pub(crate) header: BlockHeader,
    pub(crate) entry: IndexEntry,
}

/// A finished chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) place: Place,
    pub(crate) value: Bytes,
    pub(in crate::journal) entries: Vec<(StreamId, IndexEntry)>,
}

/// A block on its way into a chunk.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) stream: StreamId,
    pub(crate) header: &'a BlockHeader,
    pub(crate) bodies: Bodies<'a>,
}

/// A block's body, in one or more pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bodies<'a> {
    /// Of blocks as they were sent.
    Sent(&'a [Block]),
    /// Of a block that was stored before, with the checksum it had.
    Stored(&'a Bytes, u32),
}

/// Writes the parts, in order, as the chunk of a place.
pub(crate) fn encode(place: Place, commit: u64, moment: Moment, parts: &[Part<'_>]) -> Chunk {
    let mut directory = Vec::with_capacity(parts.len() * 32);
    let mut entries = Vec::with_capacity(parts.len());
    let mut position = 0;
    for Part { stream, header, bodies } in parts {
        let (bytes, crc) = bodies.measure();
        entry::encode(&mut directory, *stream, header, moment, (bytes, crc));
        let body = BodyPlace { position, bytes, crc };
        entries.push((*stream, IndexEntry::of(header, place.sequence, body)));
        position += bytes;
    }
    let bodies_at = HEADER_BYTES + directory.len();
    let mut out = BytesMut::with_capacity(bodies_at + position as usize);
    out.put_u8(VERSION);
    out.put_u8(log_code(place.log));
    out.put_u16_le(parts.len() as u16);
    out.put_u32_le(0);
    out.put_u32_le(directory.len() as u32);
    out.put_u64_le(commit);
    out.put_u64_le(moment.published_at.0);
    out.put_u64_le(moment.age_ms);
    out.put_slice(&directory);
    for part in parts {
        part.bodies.put(&mut out);
    }
    let crc = head_crc(place.sequence, &out[..bodies_at]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    entries.iter_mut().for_each(|(_, entry)| entry.position += bodies_at as u32);
    Chunk { place, value: out.freeze(), entries }
}

impl Bodies<'_> {
    /// Length and checksum.
    fn measure(self) -> (u32, u32) {
        match self {
            Self::Stored(body, crc) => (body.len() as u32, crc),
            Self::Sent(blocks) => blocks.iter().fold((0, 0), |(bytes, crc), block| {
                let body = block.body();
                (bytes + body.len() as u32, crc32c::crc32c_append(crc, body))
            }),
        }
    }

    fn put(self, out: &mut BytesMut) {
        match self {
            Self::Stored(body, _) => out.put_slice(body),
            Self::Sent(blocks) => blocks.iter().for_each(|block| out.put_slice(block.body())),
        }
    }
}

/// A chunk's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The commit that wrote it.
    pub(in crate::journal) commit: u64,
    /// Its blocks, in order.
    pub(crate) blocks: Vec<Found>,
}

/// Why a directory can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The bytes differ from what was written.
    #[error("{0}")]
    Damaged(&'static str),
    /// They are intact, and have a meaning that this version does not know.
    #[error("{0}")]
    LaterVersion(&'static str),
}

/// Reads a chunk's directory and checks it; the bodies are checked by [`verify`].
pub(crate) fn directory(place: Place, value: &[u8]) -> Result<Directory, Unreadable> {
    use Unreadable::{Damaged, LaterVersion};
    let mut header = value.get(..HEADER_BYTES).ok_or(Damaged("shorter than a header"))?;
    if header.get_u8() != VERSION {
        return Err(Damaged("unknown chunk version"));
    }
    let log = header.get_u8();
    let count = header.get_u16_le();
    let crc = header.get_u32_le();
    let bodies_at = HEADER_BYTES + header.get_u32_le() as usize;
    let commit = header.get_u64_le();
    let moment =
        Moment { published_at: Timestamp(header.get_u64_le()), age_ms: header.get_u64_le() };
    let head = value.get(..bodies_at).ok_or(Damaged("shorter than its directory"))?;
    if log != log_code(place.log) || head_crc(place.sequence, head) != crc {
        return Err(Damaged("directory checksum does not match"));
    }
    let mut rest = &head[HEADER_BYTES..];
    let mut position = bodies_at as u64;
    let mut blocks = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let ChunkEntry { stream, header, bytes, crc } =
            entry::decode(&mut rest, moment).ok_or(LaterVersion("an entry is not known here"))?;
        let body = BodyPlace { position: position as u32, bytes, crc };
        position += u64::from(bytes);
        if position > u64::from(u32::MAX) {
            return Err(LaterVersion("bodies have no end"));
        }
        let entry = IndexEntry::of(&header, place.sequence, body);
        blocks.push(Found { stream, header, entry });
    }
    if !rest.is_empty() {
        return Err(LaterVersion("bytes behind the last entry"));
    }
    Ok(Directory { commit, blocks })
}

/// Checks that a block's body is in its chunk as written.
pub(crate) fn verify(chunk: &[u8], entry: &IndexEntry) -> Result<(), &'static str> {
    let body = chunk.get(range(entry)).ok_or("block reaches past its chunk")?;
    if crc32c::crc32c(body) != entry.crc {
        return Err("block checksum does not match");
    }
    Ok(())
}

/// A body of a chunk that was just written or has been [verified](verify). Shares its bytes.
pub(in crate::journal) fn body(chunk: &Bytes, entry: &IndexEntry) -> Bytes {
    chunk.slice(range(entry))
}

/// A block of a chunk that was just written or has been [verified](verify). Shares its bytes.
pub(crate) fn block(stream: StreamId, chunk: &Bytes, entry: &IndexEntry) -> PlacedBlock {
    PlacedBlock {
        stream,
        epoch: entry.epoch,
        base_offset: entry.base_offset,
        count: entry.count,
        ingest_base: entry.ingest_base,
        published_at: entry.time,
        age: JournalAge(entry.age_ms),
        body: body(chunk, entry),
    }
}

fn range(entry: &IndexEntry) -> Range<usize> {
    let start = entry.position as usize;
    start..start + entry.bytes as usize
}

fn log_code(log: Log) -> u8 {
    match log {
        Log::Blocks => 0,
        Log::Short => 1,
    }
}

fn head_crc(sequence: Sequence, head: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&sequence.0.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &head[..4]);
    crc32c::crc32c_append(crc, &head[8..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockBuilder, Epoch, Record};

    const PLACE: Place = Place { log: Log::Blocks, sequence: Sequence(5) };
    const MOMENT: Moment = Moment { published_at: Timestamp(99), age_ms: 1 };

    fn block(payloads: &[&[u8]]) -> Block {
        let mut builder = BlockBuilder::default();
        for payload in payloads {
            builder.push(&Record::json(payload)).unwrap();
        }
        builder.finish().unwrap()
    }

    fn header(base_offset: u64, count: u32) -> BlockHeader {
        BlockHeader {
            epoch: Epoch(1),
            number: 1,
            base_offset,
            count,
            ingest_base: base_offset,
            ingest_count: count,
            published_at: MOMENT.published_at,
            age_ms: MOMENT.age_ms,
            ..BlockHeader::default()
        }
    }

    fn sample() -> Chunk {
        let (a, b) = ([block(&[b"1"]), block(&[b"2"])], [block(&[b"\"three\""])]);
        let (first, second) = (header(10, 2), header(0, 1));
        let part = |stream, header, blocks| Part {
            stream: StreamId(stream),
            header,
            bodies: Bodies::Sent(blocks),
        };
        encode(PLACE, 8, MOMENT, &[part(7, &first, &a[..]), part(9, &second, &b[..])])
    }

    #[test]
    fn a_chunk_gives_back_its_directory_and_bodies() {
        let chunk = sample();
        let directory = directory(PLACE, &chunk.value).unwrap();
        assert_eq!(directory.commit, 8);
        let entries: Vec<_> = directory.blocks.iter().map(|f| (f.stream, f.entry)).collect();
        assert_eq!(entries, chunk.entries);
        assert_eq!(directory.blocks[0].header, header(10, 2));
        let Found { stream, entry, .. } = &directory.blocks[1];
        verify(&chunk.value, entry).unwrap();
        let block = super::block(*stream, &chunk.value, entry);
        assert_eq!(Record::decode(&mut &block.body[..]).unwrap().payload, b"\"three\"");
    }

    #[test]
    fn blocks_that_cannot_be_are_refused_whatever_their_checksum() {
        let read = |base_offset, count| {
            let (header, blocks) = (header(base_offset, count), [block(&[b"1"])]);
            let bodies = Bodies::Sent(&blocks);
            let part = Part { stream: StreamId(7), header: &header, bodies };
            directory(PLACE, &encode(PLACE, 8, MOMENT, &[part]).value).map(|d| d.blocks.len())
        };
        assert_eq!(read(u64::MAX - 1, 1), Ok(1));
        assert!(read(u64::MAX, 1).is_err(), "an offset past the last one");
        assert!(read(0, 2).is_err(), "two records take more");
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_so_is_another_place() {
        let chunk = sample();
        assert!(directory(Place { sequence: Sequence(6), ..PLACE }, &chunk.value).is_err());
        assert!(directory(Place { log: Log::Short, ..PLACE }, &chunk.value).is_err());
        for bit in 0..chunk.value.len() * 8 {
            let mut value = chunk.value.to_vec();
            value[bit / 8] ^= 1 << (bit % 8);
            let value = Bytes::from(value);
            let noticed = match directory(PLACE, &value) {
                Err(_) => true,
                Ok(directory) => {
                    directory.blocks.iter().any(|found| verify(&value, &found.entry).is_err())
                }
            };
            assert!(noticed, "bit {bit}");
        }
    }
}
