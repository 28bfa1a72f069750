//! The unit: what one request changes in the journal, all of it or nothing.
//!
//! A [`Machine`](super::Machine) fills a unit; the writer puts it into the commit in the making,
//! whose batch fjall writes as a whole. A unit that was not handed over has no visible effect.
//!
//! Invariants: the blocks of a unit take at most [`BLOCK_BYTES_MAX`](crate::model::BLOCK_BYTES_MAX)
//! together, or are a single message; the commit that holds it is at least as safe as its
//! [`SyncNeed`] asks before it is answered.

use std::time::Duration;

use bytes::Bytes;

use super::state::StateKey;
use crate::model::{Block, BlockHeader, Log, OwnerId, StreamId};

/// When a unit has to be on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncNeed {
    /// With any later one that asks for it.
    #[default]
    None,
    /// At most this long after its commit.
    Within(Duration),
    /// Before it is answered.
    Now,
}

impl SyncNeed {
    /// The stricter one of two.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::Within(a), Self::Within(b)) => Self::Within(a.min(b)),
            (Self::None, need) | (need, Self::None) => need,
        }
    }
}

/// How much of a stream is kept; the oldest blocks go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// For how long, in milliseconds of the journal's age.
    pub age_ms: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl StreamLimits {
    /// Nothing is removed by itself.
    pub const NONE: Self = Self { age_ms: u64::MAX, bytes: u64::MAX };
}

/// A block to be appended.
#[derive(Debug)]
pub(super) struct UnitAppend {
    pub(super) stream: StreamId,
    /// Without its number, which the commit gives.
    pub(super) header: BlockHeader,
    /// `None` for a block without a body.
    pub(super) block: Option<Block>,
    /// Readers are notified of it.
    pub(super) visible: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Unit {
    pub(super) appends: Vec<UnitAppend>,
    pub(super) state: Vec<(StateKey, Option<Bytes>)>,
    pub(super) opened: Vec<(StreamId, Log)>,
    pub(super) limits: Vec<(StreamId, StreamLimits)>,
    pub(super) trims: Vec<(StreamId, u64)>,
    pub(super) deleted: Vec<OwnerId>,
    pub(super) need: SyncNeed,
    pub(super) next_owner: u32,
}

impl Unit {
    /// Returns a number that was never used before.
    pub fn new_owner(&mut self) -> OwnerId {
        let owner = OwnerId(self.next_owner);
        self.next_owner += 1;
        owner
    }

    /// Makes sure that numbers up to this one are not used.
    pub fn reserve_owner(&mut self, owner: OwnerId) {
        self.next_owner = self.next_owner.max(owner.0 + 1);
    }

    /// Begins a stream.
    pub fn open_stream(&mut self, stream: StreamId, log: Log) {
        self.opened.push((stream, log));
    }

    /// Appends a block with messages to a stream. Readers are notified of `visible` ones as soon as
    /// they are committed; the others are only found by reading the stream. The commit gives the
    /// header's number; the header's offsets follow the stream's last block.
    pub fn append(&mut self, stream: StreamId, header: BlockHeader, block: Block, visible: bool) {
        self.appends.push(UnitAppend { stream, header, block: Some(block), visible });
    }

    /// Appends a block without messages.
    pub fn append_header(&mut self, stream: StreamId, header: BlockHeader) {
        self.appends.push(UnitAppend { stream, header, block: None, visible: false });
    }

    /// Puts a value.
    pub fn put(&mut self, key: StateKey, value: impl Into<Bytes>) {
        self.state.push((key, Some(value.into())));
    }

    /// Removes a value.
    pub fn remove(&mut self, key: StateKey) {
        self.state.push((key, None));
    }

    /// Sets how much of a stream is kept. Not durable: it is set anew at each start.
    pub fn limit(&mut self, stream: StreamId, limits: StreamLimits) {
        self.limits.push((stream, limits));
    }

    /// Gives up a stream's blocks that end at or before this offset.
    pub fn trim(&mut self, stream: StreamId, first: u64) {
        self.trims.push((stream, first));
    }

    /// Removes everything that an owner has: its stream and its state.
    pub fn delete(&mut self, owner: OwnerId) {
        self.deleted.push(owner);
    }

    /// Asks for durability.
    pub fn need(&mut self, need: SyncNeed) {
        self.need = self.need.and(need);
    }

    /// Nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
            && self.state.is_empty()
            && self.opened.is_empty()
            && self.trims.is_empty()
            && self.deleted.is_empty()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.appends.clear();
        self.state.clear();
        self.opened.clear();
        self.limits.clear();
        self.trims.clear();
        self.deleted.clear();
        self.need = SyncNeed::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_need_counts() {
        let (long, short) = (Duration::from_secs(2), Duration::from_secs(1));
        let within = SyncNeed::Within;
        assert_eq!(within(long).and(within(short)), within(short));
        assert_eq!(within(long).and(SyncNeed::Now), SyncNeed::Now);
        assert_eq!(SyncNeed::None.and(within(long)), within(long));
        assert_eq!(SyncNeed::None.and(SyncNeed::None), SyncNeed::None);
    }
}
