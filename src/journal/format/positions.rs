//! The journal's positions, written with every commit.
//!
//! The value under the journal's key `positions` in `meta`; since it is in every batch of fjall's
//! WAL, the WAL can be put in order and checked for holes by it before fjall reads it (see
//! `salvage`). `format.md` has its bytes.

use bytes::{Buf, BufMut};

use crate::model::{Log, Timestamp};

/// Its key: a word of owner 0.
pub(in crate::journal) const KEY: &[u8] = b"\0\0\0\0positions";

/// Length of its value.
pub(in crate::journal) const BYTES: usize = 106;

const VERSION: u8 = 1;

/// How far one log is. Sequences count chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct LogPositions {
    /// The next chunk's sequence; never derived from the last key.
    pub(in crate::journal) next_sequence: u64,
    /// Chunks before this one are wholly known to index pages.
    pub(in crate::journal) indexed_sequence: u64,
    /// Chunks before this one may be dropped: no stream needs them.
    pub(in crate::journal) floor_sequence: u64,
}

/// See the module. Commits are counted from the journal's beginning, without holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct Positions {
    /// The journal's own random number. Clients can't know it, so nothing they send can pass for a
    /// commit, wherever a search after damage finds it.
    pub(in crate::journal) journal: u64,
    /// Number of commits, this one included.
    pub(in crate::journal) commits: u64,
    /// Commits that a sync had proven durable when this one was made.
    pub(in crate::journal) durable_commits: u64,
    /// Losses before this commit are known and dealt with.
    pub(in crate::journal) examined_commits: u64,
    /// Each log's, in the order of [`Log::ALL`].
    pub(in crate::journal) logs: [LogPositions; 2],
    /// For how long the journal has been in use, in milliseconds (see `age`).
    pub(in crate::journal) age_ms: u64,
    /// The newest `published_at`.
    pub(in crate::journal) last_time: Timestamp,
    /// The next owner's number.
    pub(in crate::journal) next_owner: u32,
}

impl Positions {
    /// One log's.
    pub(in crate::journal) fn log(&self, log: Log) -> &LogPositions {
        &self.logs[log as usize]
    }

    /// One log's, to be changed.
    pub(in crate::journal) fn log_mut(&mut self, log: Log) -> &mut LogPositions {
        &mut self.logs[log as usize]
    }

    pub(in crate::journal) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.put_u32_le(0);
        out.put_u8(VERSION);
        out.put_u8(self.logs.len() as u8);
        out.put_u64_le(self.journal);
        out.put_u64_le(self.commits);
        out.put_u64_le(self.durable_commits);
        out.put_u64_le(self.examined_commits);
        for log in &self.logs {
            out.put_u64_le(log.next_sequence);
            out.put_u64_le(log.indexed_sequence);
            out.put_u64_le(log.floor_sequence);
        }
        out.put_u64_le(self.age_ms);
        out.put_u64_le(self.last_time.0);
        out.put_u32_le(self.next_owner);
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when the bytes are malformed.
    pub(in crate::journal) fn decode(mut value: &[u8]) -> Option<Self> {
        if value.len() != BYTES || value.get_u32_le() != crc32c::crc32c(value) {
            return None;
        }
        if (value.get_u8(), value.get_u8()) != (VERSION, Log::ALL.len() as u8) {
            return None;
        }
        Some(Self {
            journal: value.get_u64_le(),
            commits: value.get_u64_le(),
            durable_commits: value.get_u64_le(),
            examined_commits: value.get_u64_le(),
            logs: Log::ALL.map(|_| LogPositions {
                next_sequence: value.get_u64_le(),
                indexed_sequence: value.get_u64_le(),
                floor_sequence: value.get_u64_le(),
            }),
            age_ms: value.get_u64_le(),
            last_time: Timestamp(value.get_u64_le()),
            next_owner: value.get_u32_le(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_unless_a_bit_is_flipped() {
        let positions = Positions { commits: 7, next_owner: 3, ..Positions::default() };
        let mut bytes = positions.encode();
        assert_eq!(Positions::decode(&bytes), Some(positions));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Positions::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
