//! How far a stream reaches.
//!
//! It is written under the stream's key `e` whenever a page or a trim is, so that a start reads one
//! small value a stream, and no page: log u8 · first · bytes before first · head · bytes · time ·
//! number (varints).

use bytes::Buf;

use crate::journal::format::varint;
use crate::model::{Log, Timestamp};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct Extent {
    pub(in crate::journal) log: Log,
    /// Low watermark: the first offset kept.
    pub(in crate::journal) first: u64,
    /// Bytes of the blocks below the low watermark.
    pub(in crate::journal) bytes_before_first: u64,
    /// The next message's offset.
    pub(in crate::journal) head: u64,
    /// Bytes of all blocks ever written.
    pub(in crate::journal) bytes: u64,
    /// Time of the newest block.
    pub(in crate::journal) last_time: Timestamp,
    /// Number of the newest block; 0 before the first.
    pub(in crate::journal) number: u64,
}

impl Extent {
    /// Bytes of the blocks kept.
    pub(in crate::journal) fn bytes_kept(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_before_first)
    }

    pub(in crate::journal) fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.log {
            Log::Blocks => 0,
            Log::Short => 1,
        }];
        for value in [self.first, self.bytes_before_first, self.head, self.bytes] {
            varint::put(&mut out, value);
        }
        varint::put(&mut out, self.last_time.0);
        varint::put(&mut out, self.number);
        out
    }

    /// `None` when the bytes are malformed.
    pub(in crate::journal) fn decode(mut rest: &[u8]) -> Option<Self> {
        let log = match rest.try_get_u8().ok()? {
            0 => Log::Blocks,
            1 => Log::Short,
            _ => return None,
        };
        let rest = &mut rest;
        let extent = Self {
            log,
            first: varint::take(rest)?,
            bytes_before_first: varint::take(rest)?,
            head: varint::take(rest)?,
            bytes: varint::take(rest)?,
            last_time: Timestamp(varint::take(rest)?),
            number: varint::take(rest)?,
        };
        rest.is_empty().then_some(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_comes_back() {
        let extent = Extent {
            log: Log::Short,
            first: 1,
            bytes_before_first: 2,
            head: 1 << 60,
            bytes: 4,
            last_time: Timestamp(5),
            number: 6,
        };
        let bytes = extent.encode();
        assert_eq!(Extent::decode(&bytes), Some(extent));
        assert_eq!(Extent::decode(&bytes[1..]), None);
        assert_eq!(Extent::decode(&[&bytes[..], &[0]].concat()), None);
    }
}
