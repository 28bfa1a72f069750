//! A journal's content as a sequence of bytes: the format of a backup.
//!
//! ```text
//! "weir backup 2\n", then frames: length u32 · crc u32 · kind u8 · content
//! kind 1  state  key bytes · value
//! kind 2  block  log u8 · entry as in a chunk, its times relative to 0 · body
//! kind 3  end    frames before it u64
//! ```
//!
//! Integers are little endian; a frame's length counts kind and content, its crc is CRC32C over
//! them. A backup without its end was cut short, and is refused; so is anything behind the end.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes};

use super::Piece;
use crate::journal::format::entry::{self, Moment};
use crate::journal::format::varint;
use crate::journal::state::StateKey;
use crate::model::Log;

const MAGIC: &[u8] = b"weir backup 2\n";
const STATE: u8 = 1;
const BLOCK: u8 = 2;
const END: u8 = 3;
/// Longest frame taken; blocks are as long as the largest request body at most.
const FRAME_BYTES_MAX: usize = 2 << 30;

/// The beginning.
pub(super) fn begin() -> Bytes {
    Bytes::from_static(MAGIC)
}

/// A piece as a frame, written once: a block may be as large as the largest body.
pub(super) fn frame(piece: &Piece) -> Bytes {
    match piece {
        Piece::State { key, value } => framed(value.len() + key.as_bytes().len(), |out| {
            out.put_u8(STATE);
            varint::put_bytes(out, key.as_bytes());
            out.put_slice(value);
        }),
        Piece::Block { log, entry, body } => framed(body.len(), |out| {
            out.put_u8(BLOCK);
            out.put_u8(*log as u8);
            let measure = (entry.bytes, entry.crc);
            entry::encode(out, entry.stream, &entry.header, Moment::default(), measure);
            out.put_slice(body);
        }),
    }
}

/// The end, behind N frames.
pub(super) fn end(frames: u64) -> Bytes {
    framed(8, |out| {
        out.put_u8(END);
        out.put_u64_le(frames);
    })
}

/// What a frame takes beside its content, typically: length, crc, and a block's entry.
const HEADING_BYTES: usize = 256;

fn framed(bytes: usize, content: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(bytes + HEADING_BYTES);
    out.put_u64_le(0);
    content(&mut out);
    let (head, content) = out.split_at_mut(8);
    head[..4].copy_from_slice(&(content.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
    out.into()
}

/// Reads what [`begin`], [`frame`] and [`end`] wrote.
pub(super) struct Reader<R> {
    from: R,
    frames: u64,
    /// Bytes that were read.
    at: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        let mut magic = vec![0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged("this is no backup of weir's, or of another version"));
        }
        Ok(Self { from, frames: 0, at: MAGIC.len() as u64 })
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
        self.at += (head.len() + length) as u64;
        if content[0] == END {
            if content[1..] != self.frames.to_le_bytes() {
                return Err(damaged("frames are missing"));
            }
            return self.expect_end().map(|()| None);
        }
        self.frames += 1;
        parse(&content).map(Some).ok_or_else(|| damaged("a frame is of no kind that is known"))
    }
}

impl<R: Read> Reader<R> {
    /// Nothing may follow: bytes appended by mistake would be taken for part of the backup.
    fn expect_end(&mut self) -> io::Result<()> {
        match self.from.read_exact(&mut [0]) {
            Ok(()) => {
                let at = self.at;
                Err(damaged(&format!("bytes follow its end, which is at byte {at}")))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn parse(content: &Bytes) -> Option<Piece> {
    let mut rest = &content[..];
    let rest = &mut rest;
    let behind = |rest: &[u8]| content.slice(content.len() - rest.len()..);
    match rest.try_get_u8().ok()? {
        STATE => {
            let key = StateKey::parse(varint::take_bytes(rest)?)?;
            Some(Piece::State { key, value: behind(rest) })
        }
        BLOCK => {
            let code = usize::from(rest.try_get_u8().ok()?);
            let log = *Log::ALL.get(code)?;
            let entry = entry::decode(rest, Moment::default())?;
            (entry.bytes as usize == rest.len()).then(|| Piece::Block {
                log,
                entry,
                body: behind(rest),
            })
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
    use crate::journal::format::entry::ChunkEntry;
    use crate::model::{BlockHeader, Epoch, StreamId, Timestamp};

    fn sample() -> (Vec<u8>, Vec<Piece>) {
        let header = BlockHeader {
            epoch: Epoch(2),
            number: 4,
            base_offset: 7,
            ingest_base: 7,
            published_at: Timestamp(5),
            age_ms: 6,
            ..BlockHeader::default()
        };
        let entry = ChunkEntry { stream: StreamId(3), header, bytes: 3, crc: 9 };
        let key = StateKey::new(StreamId(3).into(), b't', b"");
        let pieces = vec![
            Piece::State { key, value: Bytes::from_static(b"v") },
            Piece::Block { log: Log::Short, entry, body: Bytes::from_static(b"abc") },
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
        for behind in [&[0][..], b"\n", &bytes] {
            let error = read(&[&bytes[..], behind].concat()).unwrap_err();
            let at = format!("bytes follow its end, which is at byte {}", bytes.len());
            assert_eq!(error.to_string(), at);
        }
    }
}
