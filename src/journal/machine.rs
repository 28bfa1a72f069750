//! What the writer thread hosts: a plain state machine that turns requests into units.
//!
//! The journal knows streams and keys; what they mean, what may be appended, and which numbers and
//! stamps blocks get is the machine's. It is generic, so a request costs no dynamic call.
//!
//! **Running.** [`Machine::apply`] is transactional: the unit it fills is put into the commit when it
//! returns, and dropped when it panics; [`Machine::panicked`] then gives up the request's owner. A
//! reply is given when the commit has returned. [`Machine::cover`] is called before blocks are no
//! longer read again by a start, so that their effects are in the state by then.
//!
//! **Starting.** [`Machine::load`] for every small value, then [`Machine::replay`] for the headers of
//! blocks that no page covers, in the order of their commits, then [`Machine::recovered`].

use std::collections::HashMap;

use bytes::Bytes;

use super::state::StateKey;
use super::store::Store;
use super::unit::Unit;
use super::{AppendRefused, JournalError};
use crate::model::{BlockHeader, Gap, OwnerId, Sequence, StreamId, Timestamp};

/// Whose turn in the fair queue a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits behind the owner's other requests; owners take turns.
    Owner(OwnerId),
    /// It goes before all others.
    First,
}

/// A request.
pub trait Request: Send + 'static {
    /// The journal can't do it any more.
    fn refuse(self, error: &JournalError);
}

/// What a request is answered with.
pub trait Reply: Send {
    /// The commit has returned.
    fn give(self);

    /// The commit failed. A reply that is dropped would say that it was never handed over.
    fn refuse(self, error: &JournalError);
}

/// The moment a request is applied at; the same for all of a commit.
#[derive(Clone, Debug)]
pub struct Now {
    /// How old the journal is.
    pub age_ms: u64,
    /// The wall clock.
    pub time: Timestamp,
    /// Why no messages can be taken, if so.
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

/// What was found to be missing when the journal was opened.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Offsets whose blocks are lost or unreadable and were not known to be.
    pub missing: HashMap<StreamId, Vec<Gap>>,
    /// By log: chunks are lost, and nothing tells whose blocks they held.
    pub suspect: [Option<Suspect>; 2],
    /// Everything that was written before is there.
    pub complete: bool,
    /// Durable commits are missing.
    pub damaged: bool,
    /// The journal is new.
    pub new: bool,
    /// It is a copy that was not open before: its source may have gone on, and so may other copies.
    pub copied: bool,
}

/// Chunks of a log that are lost, with whatever they held.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The first and last sequence of the chunks.
    pub sequences: [u64; 2],
    /// How many messages a stream may have lost.
    pub messages_max: u64,
    /// Where each stream was seen last.
    pub(super) last_seen: HashMap<StreamId, Sequence>,
}

impl Suspect {
    /// The stream may have lost blocks at its end.
    pub fn suspects(&self, stream: StreamId) -> bool {
        self.last_seen.get(&stream).is_none_or(|seen| seen.0 <= self.sequences[1])
    }
}

/// What a machine knows of a stream before its blocks are looked at.
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
    /// What it is asked.
    type Request: Request;
    /// How it answers.
    type Reply: Reply;

    /// Takes a small value that was stored.
    ///
    /// # Errors
    /// The value is malformed, or critical and not known.
    fn load(&mut self, key: StateKey, value: Bytes) -> Result<(), JournalError>;

    /// What it knows of a stream.
    fn known(&self, stream: StreamId) -> Known;

    /// A stream with blocks that no loaded value speaks of.
    fn adopt(&mut self, stream: StreamId, header: &BlockHeader);

    /// Takes the header of a block that no page covers.
    ///
    /// # Errors
    /// The header can't follow what is known.
    fn replay(&mut self, stream: StreamId, header: &BlockHeader) -> Result<(), JournalError>;

    /// Everything is read; what has to be written down about it before anything is served.
    ///
    /// # Errors
    /// What is missing makes going on impossible.
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

    /// Whose turn a request takes.
    fn turn(&self, request: &Self::Request) -> Turn;

    /// A commit begins: what goes with it whatever is asked. `last` is as for [`Machine::cover`].
    fn begin(&mut self, last: &dyn Fn(StreamId) -> u64, unit: &mut Unit);

    /// Does a request.
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

    /// A request of this turn panicked; what it did to the machine is to be given up.
    fn panicked(&mut self, turn: Turn);

    /// A start will not read the blocks again that the stream has now: puts what they did into state.
    /// False when it can't: a start is to read them. `first` is the stream's low watermark, `last`
    /// gives the number of any stream's last block, up to which the state then stands for all.
    fn cover(
        &mut self,
        stream: StreamId,
        first: u64,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    ) -> bool;

    /// Makes durable outside the journal what has to be before the commit.
    ///
    /// # Errors
    /// It can't be written.
    fn prepare(&mut self) -> Result<(), JournalError>;

    /// A commit has returned.
    fn committed(&mut self);

    /// Time has passed: sweeps a bounded part of what is idle. Called now and then, as a commit of its
    /// own. `last` is as for [`Machine::cover`].
    fn sweep(
        &mut self,
        now: &Now,
        state: StateReader<'_>,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    );

    /// The journal stops: gives back what was reserved.
    fn closing(&mut self, unit: &mut Unit);
}
