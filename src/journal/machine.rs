//! What the writer thread hosts: a plain state machine that turns requests into units.
//!
//! The journal knows streams and keys; the machine decides what they mean, what may be appended,
//! and which numbers and stamps blocks get. It is generic, so a request costs no dynamic call.
//!
//! **Running.** [`Machine::apply`] is transactional: the unit it fills is put into the commit when
//! it returns, and dropped when it panics; [`Machine::panicked`] then gives up the request's owner.
//! A reply is sent when the commit has returned. [`Machine::cover`] is called before a start stops
//! reading blocks again, so that their effects are in the state by then.
//!
//! **Starting.** [`Machine::load`] for every small value, then [`Machine::replay`] for the headers
//! of blocks that no page covers, in the order of their commits, then [`Machine::recovered`].

use std::collections::HashMap;

use bytes::Bytes;

use super::state::StateKey;
use super::store::Store;
use super::unit::Unit;
use super::{AppendRefused, JournalError};
use crate::model::{BlockHeader, Gap, OwnerId, Sequence, StreamId, Timestamp};

/// The turn of a request in the fair queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits behind the owner's other requests; owners take turns.
    Owner(OwnerId),
    /// It goes before all others.
    First,
}

/// A request.
pub trait Request: Send + 'static {
    /// The journal can't process it any more.
    fn refuse(self, error: &JournalError);
}

/// The answer to a request.
pub trait Reply: Send {
    /// The commit has returned.
    fn give(self);

    /// The commit failed. A dropped reply would mean that it was never handed over.
    fn refuse(self, error: &JournalError);
}

/// The moment at which a request is applied; the same for all of a commit.
#[derive(Clone, Debug)]
pub struct Now {
    /// How old the journal is.
    pub age_ms: u64,
    /// The wall clock.
    pub time: Timestamp,
    /// Why no messages can be accepted, if so.
    pub full: Option<AppendRefused>,
}

/// Looks up state that is not loaded at a start. It sees what has been committed.
#[derive(Clone, Copy)]
pub struct StateReader<'a>(pub(super) &'a Store);

impl StateReader<'_> {
    /// The owner's keys with this tag.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn keys(&self, owner: OwnerId, tag: u8) -> Result<Vec<StateKey>, JournalError> {
        self.0.state_keys(owner, tag).collect()
    }

    /// The owner's values with this tag, by what follows the tag in their keys.
    ///
    /// # Errors
    /// The store can't be read, or a value is damaged.
    pub fn values(&self, owner: OwnerId, tag: u8) -> Result<Vec<(Bytes, Bytes)>, JournalError> {
        self.0.state(owner, tag).collect()
    }
}

/// What was found missing when the journal was opened.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Offsets whose blocks are newly found to be lost or unreadable.
    pub missing: HashMap<StreamId, Vec<Gap>>,
    /// By log: chunks are lost, and the owners of their blocks are unknown.
    pub suspect: [Option<Suspect>; 2],
    /// Everything that was written before is there.
    pub complete: bool,
    /// Durable commits are missing.
    pub damaged: bool,
    /// The journal is new.
    pub new: bool,
    /// It is a copy that was not open before: its source may have continued, and so may other
    /// copies.
    pub copied: bool,
}

/// Chunks of a log that are lost, with everything they held.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The first and last sequence of the chunks.
    pub sequences: [u64; 2],
    /// How many messages a stream may have lost.
    pub messages_max: u64,
    /// The last known end of each stream.
    pub(super) last_seen: HashMap<StreamId, Sequence>,
}

impl Suspect {
    /// The stream may have lost blocks at its end.
    pub fn suspects(&self, stream: StreamId) -> bool {
        self.last_seen.get(&stream).is_none_or(|seen| seen.0 <= self.sequences[1])
    }
}

/// What a machine knows of a stream before its blocks are read.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The stream is one of its own.
    pub owned: bool,
    /// Offsets that hold no message, in order.
    pub holes: Vec<Gap>,
    /// The stream's end is not before this offset.
    pub head: u64,
}

/// Where a recovered stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The next offset.
    pub head: u64,
    /// Number of the last block.
    pub number: u64,
    /// Time of the last block.
    pub last_time: Timestamp,
}

/// See the module.
pub trait Machine: Send + 'static {
    /// Its requests.
    type Request: Request;
    /// Its answers.
    type Reply: Reply;

    /// Loads a small value that was stored.
    ///
    /// # Errors
    /// The value is malformed, or critical and not known.
    fn load(&mut self, key: StateKey, value: Bytes) -> Result<(), JournalError>;

    /// What it knows of a stream.
    fn known(&self, stream: StreamId) -> Known;

    /// A stream with blocks that no loaded value mentions.
    fn adopt(&mut self, stream: StreamId, header: &BlockHeader);

    /// Applies the header of a block that no page covers.
    ///
    /// # Errors
    /// The header can't follow what is known.
    fn replay(&mut self, stream: StreamId, header: &BlockHeader) -> Result<(), JournalError>;

    /// Everything is read; returns what has to be written about it before anything is served.
    ///
    /// # Errors
    /// The losses make it impossible to continue.
    fn recovered(
        &mut self,
        findings: Findings,
        ends: &dyn Fn(StreamId) -> Option<StreamEnd>,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<(), JournalError>;

    /// Blocks of a stream will be replayed from this number on, since what is known of them may be
    /// lost: those before it end with this offset and this ingest sequence.
    fn rewind(&mut self, stream: StreamId, number: u64, head: u64, ingest_head: u64);

    /// The turn of a request.
    fn turn(&self, request: &Self::Request) -> Turn;

    /// A commit begins: adds the machine's part of it. `last` is as for [`Machine::cover`].
    fn begin(&mut self, last: &dyn Fn(StreamId) -> u64, unit: &mut Unit);

    /// Processes a request.
    ///
    /// # Errors
    /// The store failed.
    fn apply(
        &mut self,
        request: Self::Request,
        now: &Now,
        state: StateReader<'_>,
        unit: &mut Unit,
    ) -> Result<Self::Reply, JournalError>;

    /// A request of this turn panicked; its effects on the machine must be given up.
    fn panicked(&mut self, turn: Turn);

    /// A start will not read the stream's present blocks again: puts their effects into state.
    /// False when it can't: a start has to read them. `first` is the stream's low watermark, `last`
    /// gives the number of any stream's last block, up to which the state then covers everything.
    fn cover(
        &mut self,
        stream: StreamId,
        first: u64,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    ) -> bool;

    /// Makes durable outside the journal what has to precede the commit.
    ///
    /// # Errors
    /// It can't be written.
    fn prepare(&mut self) -> Result<(), JournalError>;

    /// A commit has returned.
    fn committed(&mut self);

    /// Time has passed: sweeps a bounded part of the idle state. Called periodically, as a commit
    /// of its own. `last` is as for [`Machine::cover`].
    fn sweep(
        &mut self,
        now: &Now,
        state: StateReader<'_>,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    );

    /// The journal stops: releases what was reserved.
    fn closing(&mut self, unit: &mut Unit);
}
