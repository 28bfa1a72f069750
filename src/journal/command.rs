//! The writer's commands beside the machine's requests.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::JournalError;
use super::index::{IndexEntry, PageStart};
use super::machine::Request;
use super::state::StateKey;
use super::store::Snapshot;
use crate::model::{Log, OwnerId, Sequence, StreamId};

/// A command to the writer.
pub(super) enum Command<R> {
    /// The machine's request.
    Ask(R),
    /// Takes a snapshot between two commits, every tail written out.
    Snapshot(oneshot::Sender<Result<Snapshot, JournalError>>),
    /// A commit of its own. Answered when it is committed.
    Housekeeping(Housekeeping, oneshot::Sender<Result<(), JournalError>>),
    Stop(oneshot::Sender<Result<(), JournalError>>),
}

/// Reclaiming's requests to the writer.
#[derive(Debug)]
pub(super) enum Housekeeping {
    /// Moves low watermarks. Pages wholly below them are removed.
    Trim(Vec<Trim>),
    /// Writes old blocks anew at the end of their log.
    Move(Vec<Moved>),
    /// Removes keys and pages of a deleted owner.
    Reclaim(Vec<Reclaimed>),
    /// No chunk of the log before this sequence is needed any more; deleted owners whose blocks all
    /// lie before both floors are forgotten.
    Floor(Log, Sequence, Vec<OwnerId>),
    /// Writes every tail out, so that no chunk is known to memory alone.
    WriteTails,
    /// Lets the machine sweep what is idle.
    Sweep,
    /// Writes the journal's age down.
    NoteAge,
}

/// A low watermark to move.
#[derive(Debug)]
pub(super) struct Trim {
    pub(super) stream: StreamId,
    /// The low watermark that it was computed from.
    pub(super) from: u64,
    /// The first offset kept, and the bytes before it.
    pub(super) first: u64,
    pub(super) bytes_before: u64,
    /// The pages to remove.
    pub(super) pages: Vec<PageStart>,
    /// The blocks to remove.
    pub(super) gone: Vec<IndexEntry>,
}

/// A block to move.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) stream: StreamId,
    /// The page that refers to it.
    pub(super) page: PageStart,
    pub(super) header: crate::model::BlockHeader,
    pub(super) entry: IndexEntry,
    pub(super) body: Bytes,
}

/// What is left of a deleted owner, but its blocks.
#[derive(Debug)]
pub(super) struct Reclaimed {
    pub(super) stream: StreamId,
    pub(super) pages: Vec<PageStart>,
    pub(super) keys: Vec<StateKey>,
}

impl<R: Request> Command<R> {
    /// Answers the command with a failure. A requester that has gone needs no answer.
    pub(super) fn refuse(self, error: &JournalError) {
        match self {
            Self::Ask(request) => request.refuse(error),
            Self::Snapshot(reply) => drop(reply.send(Err(error.clone()))),
            Self::Housekeeping(_, reply) | Self::Stop(reply) => {
                drop(reply.send(Err(error.clone())));
            }
        }
    }
}
