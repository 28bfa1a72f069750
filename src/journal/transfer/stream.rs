//! A journal's content as a run of bytes: what a backup is.
//!
//! ```text
//! "weir backup 1\n", then frames: length u32 · crc u32 · kind u8 · content
//! kind 1  meta   key length u16 · key · value
//! kind 2  block  topic u32 · epoch u32 · base_offset u64 · count u32 · time u64 · age u64 · crc u32 · body
//! kind 3  end    frames before it u64
//! ```
//!
//! Integers are little endian; a frame's length counts kind and content, its crc is CRC32C over
//! them. Without its end a backup is cut short, and not taken.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Piece;
use crate::journal::index::IndexEntry;
use crate::model::{Epoch, Sequence, Timestamp, TopicId};

const MAGIC: &[u8] = b"weir backup 1\n";
const META: u8 = 1;
const BLOCK: u8 = 2;
const END: u8 = 3;
/// Longest frame taken; blocks are as long as the largest request body at most.
const FRAME_BYTES_MAX: usize = 2 << 30;

/// The beginning.
pub(super) fn begin() -> Bytes {
    Bytes::from_static(MAGIC)
}

/// A piece as a frame.
pub(super) fn frame(piece: &Piece) -> Bytes {
    let mut content = BytesMut::new();
    match piece {
        Piece::Meta { key, value } => {
            content.put_u8(META);
            content.put_u16_le(key.len() as u16);
            content.put_slice(key);
            content.put_slice(value);
        }
        Piece::Block { topic, entry, body } => {
            content.put_u8(BLOCK);
            content.put_u32_le(topic.0);
            content.put_u32_le(entry.epoch.0);
            content.put_u64_le(entry.base_offset);
            content.put_u32_le(entry.count);
            content.put_u64_le(entry.time.0);
            content.put_u64_le(entry.age_ms);
            content.put_u32_le(entry.crc);
            content.put_slice(body);
        }
    }
    framed(&content)
}

/// The end, behind so many frames.
pub(super) fn end(frames: u64) -> Bytes {
    let mut content = BytesMut::new();
    content.put_u8(END);
    content.put_u64_le(frames);
    framed(&content)
}

fn framed(content: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + content.len());
    out.put_u32_le(content.len() as u32);
    out.put_u32_le(crc32c::crc32c(content));
    out.put_slice(content);
    out.freeze()
}

/// Reads what [`begin`], [`frame`] and [`end`] wrote.
pub(super) struct Reader<R> {
    from: R,
    frames: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        let mut magic = vec![0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged("this is no backup of weir's, or of another version"));
        }
        Ok(Self { from, frames: 0 })
    }

    /// The next piece; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        let mut head = [0; 8];
        self.from.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("the backup is cut short"),
            _ => error,
        })?;
        let mut rest = &head[..];
        let (length, crc) = (rest.get_u32_le() as usize, rest.get_u32_le());
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(damaged("a frame's length can't be right"));
        }
        let mut content = Vec::new();
        self.from.by_ref().take(length as u64).read_to_end(&mut content)?;
        if content.len() != length || crc32c::crc32c(&content) != crc {
            return Err(damaged("a frame is damaged or cut short"));
        }
        let content = Bytes::from(content);
        if content[0] == END {
            let whole = content.get(1..9).is_some_and(|n| n == self.frames.to_le_bytes());
            return if whole { Ok(None) } else { Err(damaged("frames are missing")) };
        }
        self.frames += 1;
        parse(&content).map(Some).ok_or_else(|| damaged("a frame is of no kind that is known"))
    }
}

fn parse(content: &Bytes) -> Option<Piece> {
    let mut rest = &content[..];
    let at = |rest: &[u8]| content.len() - rest.len();
    match rest.try_get_u8().ok()? {
        META => {
            let key_len = usize::from(rest.try_get_u16_le().ok()?);
            let from = at(rest);
            (rest.len() >= key_len).then(|| Piece::Meta {
                key: content.slice(from..from + key_len),
                value: content.slice(from + key_len..),
            })
        }
        BLOCK if rest.len() >= 40 => {
            let topic = TopicId(rest.get_u32_le());
            let entry = IndexEntry {
                epoch: Epoch(rest.get_u32_le()),
                base_offset: rest.get_u64_le(),
                count: rest.get_u32_le(),
                time: Timestamp(rest.get_u64_le()),
                age_ms: rest.get_u64_le(),
                crc: rest.get_u32_le(),
                sequence: Sequence(0),
                position: 0,
                bytes: rest.len() as u32,
            };
            Some(Piece::Block { topic, entry, body: content.slice(at(rest)..) })
        }
        _ => None,
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Vec<Piece>) {
        let entry = IndexEntry {
            epoch: Epoch(2),
            base_offset: 7,
            count: 1,
            sequence: Sequence(0),
            position: 0,
            bytes: 3,
            time: Timestamp(5),
            age_ms: 6,
            crc: 9,
        };
        let pieces = vec![
            Piece::Meta { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") },
            Piece::Block { topic: TopicId(3), entry, body: Bytes::from_static(b"abc") },
        ];
        let frames: Vec<_> = pieces.iter().flat_map(frame).collect();
        ([&begin()[..], &frames, &end(2)].concat(), pieces)
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Piece>> {
        let mut reader = Reader::new(bytes)?;
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_anything_else_is_refused() {
        let (bytes, pieces) = sample();
        assert_eq!(read(&bytes).unwrap(), pieces);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
    }
}
