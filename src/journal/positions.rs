//! Where the journal stands, written with every commit.
//!
//! The value under `positions` in `meta`; since it is in every batch of fjall's WAL, the WAL can
//! be put in order and checked for holes by it before fjall reads it (see `salvage`):
//!
//! ```text
//! crc u32 · journal u64 · commits u64 · durable_commits u64 · examined_commits u64 · next_sequence u64 ·
//! indexed_sequence u64 · floor_sequence u64 · age_ms u64 · last_time u64 · next_topic_id u32
//! ```
//!
//! little endian; the crc is CRC32C over what follows it.

use bytes::{Buf, BufMut};

use crate::model::Timestamp;

/// The key it stands under.
pub(super) const KEY: &[u8] = b"positions";

const BYTES: usize = 80;

/// See the module. Commits are counted from the journal's beginning, without holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Positions {
    /// The journal's own random number. Clients can't know it, so nothing they send can pass for a
    /// commit, wherever damage has it looked for.
    pub(super) journal: u64,
    /// Commits there are, this one included.
    pub(super) commits: u64,
    /// Commits that a sync had proven durable when this one was made.
    pub(super) durable_commits: u64,
    /// What is missing before this commit is known and dealt with.
    pub(super) examined_commits: u64,
    /// The next chunk's sequence; never derived from the last key.
    pub(super) next_sequence: u64,
    /// Chunks before this one are wholly known to index pages.
    pub(super) indexed_sequence: u64,
    /// Chunks before this one may be gone: no topic needs them.
    pub(super) floor_sequence: u64,
    /// For how long the journal has been in use, in milliseconds (see `age`).
    pub(super) age_ms: u64,
    /// The newest `published_at`.
    pub(super) last_time: Timestamp,
    /// The next topic's id.
    pub(super) next_topic_id: u32,
}

impl Positions {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.put_u32_le(0);
        out.put_u64_le(self.journal);
        out.put_u64_le(self.commits);
        out.put_u64_le(self.durable_commits);
        out.put_u64_le(self.examined_commits);
        out.put_u64_le(self.next_sequence);
        out.put_u64_le(self.indexed_sequence);
        out.put_u64_le(self.floor_sequence);
        out.put_u64_le(self.age_ms);
        out.put_u64_le(self.last_time.0);
        out.put_u32_le(self.next_topic_id);
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when the bytes are not what was written.
    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        if value.len() != BYTES || value.get_u32_le() != crc32c::crc32c(value) {
            return None;
        }
        Some(Self {
            journal: value.get_u64_le(),
            commits: value.get_u64_le(),
            durable_commits: value.get_u64_le(),
            examined_commits: value.get_u64_le(),
            next_sequence: value.get_u64_le(),
            indexed_sequence: value.get_u64_le(),
            floor_sequence: value.get_u64_le(),
            age_ms: value.get_u64_le(),
            last_time: Timestamp(value.get_u64_le()),
            next_topic_id: value.get_u32_le(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_unless_a_bit_is_flipped() {
        let positions = Positions { commits: 7, next_topic_id: 3, ..Positions::default() };
        let mut bytes = positions.encode();
        assert_eq!(Positions::decode(&bytes), Some(positions));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Positions::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
