//! What the writer is asked, and how it answers.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::Span;

use super::index::IndexEntry;
use super::store::{LowWatermark, Snapshot};
use super::writer::catalogue::{TopicChange, TopicChangeError, TopicChanged};
use super::{AppendError, JournalError};
use crate::model::{
    AckLevel, Block, Gap, Incarnation, LanePosition, Sequence, TopicId, TopicSettings,
};

/// A block on its way to disk, and who wants to know.
#[derive(Debug)]
pub struct Append {
    /// The topic it belongs to.
    pub topic: TopicId,
    /// The ingest logger that sends it.
    pub incarnation: Incarnation,
    /// Its place in its producer's order; `None` where no order is promised.
    pub lane: Option<LanePosition>,
    /// The messages.
    pub block: Block,
    /// Answered when the block is stored or refused; dropped only if it was never handed over.
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// A block that is stored at its topic's level, but for messages that need not or must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first message that is stored.
    pub base_offset: u64,
    /// What its acknowledgement is worth.
    pub worth: Worth,
    /// The messages that were not stored, by place in the block, in order; mostly none.
    pub exceptions: Arc<[(u32, Exception)]>,
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// It is stored already: at this offset, or, for a named producer, at one not known any more.
    Duplicate(Option<u64>),
    /// Its message id belongs to a message with another payload.
    Conflict,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored at this offset.
    Stored(u64),
    /// It is not stored.
    Not(Exception),
}

impl Appended {
    /// What became of each message of the block, in order, without end.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        let mut exceptions = self.exceptions.iter().peekable();
        let mut offset = self.base_offset;
        (0u32..).map(move |place| match exceptions.next_if(|(at, _)| *at == place) {
            Some((_, exception)) => Outcome::Not(*exception),
            None => {
                offset += 1;
                Outcome::Stored(offset - 1)
            }
        })
    }
}

/// What an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worth {
    /// When the message was acknowledged.
    pub ack_level: AckLevel,
    /// How many milliseconds of acknowledged messages a power loss may take.
    pub loss_bound_ms: u64,
}

impl Worth {
    /// What these settings make of it.
    pub fn of(settings: &TopicSettings) -> Self {
        Self { ack_level: settings.ack_level, loss_bound_ms: settings.loss_bound_ms() }
    }
}

/// What the writer is asked to do.
pub(super) enum Command {
    Append(Append),
    ChangeTopic(TopicChange, oneshot::Sender<Result<TopicChanged, TopicChangeError>>),
    Fence {
        topic: TopicId,
        incarnation: Incarnation,
        reply: oneshot::Sender<Result<u64, AppendError>>,
    },
    /// Asks for a named producer's last id, behind everything sent before.
    LastId {
        topic: TopicId,
        name: Box<str>,
        reply: oneshot::Sender<Result<Option<u64>, AppendError>>,
    },
    /// A reader found these offsets damaged.
    Damaged(TopicId, Gap),
    /// Takes a snapshot between two commits, every tail written out.
    Snapshot(oneshot::Sender<Result<Snapshot, JournalError>>),
    /// Retention's work, a commit of its own. Answered when it is committed.
    Housekeeping(Housekeeping, oneshot::Sender<Result<(), JournalError>>),
    Stop(oneshot::Sender<Result<(), JournalError>>),
}

/// What retention has the writer do.
#[derive(Debug)]
pub(super) enum Housekeeping {
    /// Moves low watermarks. The pages that lie wholly below them go.
    Trim(Vec<Trim>),
    /// Writes old blocks anew at the journal's end.
    Move(Vec<Moved>),
    /// Removes what is left of deleted topics but their blocks.
    Reclaim(Vec<Reclaimed>),
    /// No chunk before this sequence is needed any more; deleted topics whose blocks all lie
    /// before it are forgotten.
    Floor(Sequence, Vec<TopicId>),
    /// Writes every tail out, so that no chunk is held by memory alone.
    WriteTails,
    /// Writes the journal's age down.
    NoteAge,
}

/// A low watermark to move.
#[derive(Debug)]
pub(super) struct Trim {
    pub(super) topic: TopicId,
    pub(super) low: LowWatermark,
    /// First offsets of the pages that go.
    pub(super) pages: Vec<u64>,
    /// The blocks that go.
    pub(super) gone: Vec<IndexEntry>,
}

/// A block to move.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) topic: TopicId,
    /// First offset of the page that knows it.
    pub(super) page: u64,
    pub(super) entry: IndexEntry,
    pub(super) body: Bytes,
}

/// Keys of a deleted topic.
#[derive(Debug)]
pub(super) struct Reclaimed {
    pub(super) topic: TopicId,
    pub(super) pages: Vec<u64>,
    pub(super) ids: Vec<u64>,
    pub(super) producers: Vec<String>,
}

impl Command {
    /// Answers the command with a failure. An asker that is gone needs no answer.
    pub(super) fn refuse(self, error: JournalError) {
        match self {
            Self::Append(append) => drop(append.reply.send(Err(error.into()))),
            Self::ChangeTopic(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Fence { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::LastId { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::Damaged(..) => {}
            Self::Snapshot(reply) => drop(reply.send(Err(error))),
            Self::Housekeeping(_, reply) | Self::Stop(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What is said once the commit has returned.
pub(super) enum Answer {
    Appended {
        reply: oneshot::Sender<Result<Appended, AppendError>>,
        appended: Appended,
        /// Ends with the answer.
        _stage: Span,
    },
    TopicChanged(oneshot::Sender<Result<TopicChanged, TopicChangeError>>, TopicChanged),
    Fenced(oneshot::Sender<Result<u64, AppendError>>, u64),
    LastId(oneshot::Sender<Result<Option<u64>, AppendError>>, Option<u64>),
}

impl Answer {
    /// The commit failed. (An answer that is dropped would say "never handed over".)
    pub(super) fn refuse(self, error: &JournalError) {
        match self {
            Self::Appended { reply, .. } => drop(reply.send(Err(error.clone().into()))),
            Self::TopicChanged(reply, _) => drop(reply.send(Err(error.clone().into()))),
            Self::Fenced(reply, _) => drop(reply.send(Err(error.clone().into()))),
            Self::LastId(reply, _) => drop(reply.send(Err(error.clone().into()))),
        }
    }

    /// Whoever asked may have gone; then nobody needs to know.
    pub(super) fn give(self) {
        match self {
            Self::Appended { reply, appended, .. } => drop(reply.send(Ok(appended))),
            Self::TopicChanged(reply, changed) => drop(reply.send(Ok(changed))),
            Self::Fenced(reply, head) => drop(reply.send(Ok(head))),
            Self::LastId(reply, id) => drop(reply.send(Ok(id))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_counted_past_what_was_not_stored() {
        let worth = Worth { ack_level: AckLevel::Sync, loss_bound_ms: 0 };
        let exceptions =
            [(0, Exception::Duplicate(Some(3))), (2, Exception::Conflict)].as_slice().into();
        let appended = Appended { base_offset: 10, worth, exceptions };
        let outcomes: Vec<_> = appended.outcomes().take(4).collect();
        let [a, b, c, d] = outcomes[..] else { panic!() };
        assert_eq!(a, Outcome::Not(Exception::Duplicate(Some(3))));
        assert_eq!((b, d), (Outcome::Stored(10), Outcome::Stored(11)));
        assert_eq!(c, Outcome::Not(Exception::Conflict));
    }
}
