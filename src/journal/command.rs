//! What the writer is asked, and how it answers.

use tokio::sync::oneshot;

use super::catalogue::{TopicChange, TopicChangeError, TopicChanged};
use super::{AppendError, JournalError};
use crate::model::{AckLevel, Block, Incarnation, LanePosition, TopicId, TopicSettings};

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

/// A block that is stored at its topic's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first message.
    pub base_offset: u64,
    /// What its acknowledgement is worth.
    pub worth: Worth,
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
    Stop(oneshot::Sender<Result<(), JournalError>>),
}

impl Command {
    /// Answers the command with a failure. An asker that is gone needs no answer.
    pub(super) fn refuse(self, error: JournalError) {
        match self {
            Self::Append(append) => drop(append.reply.send(Err(error.into()))),
            Self::ChangeTopic(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Fence { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::Stop(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What is said once the commit has returned.
pub(super) enum Answer {
    Appended(oneshot::Sender<Result<Appended, AppendError>>, Appended),
    TopicChanged(oneshot::Sender<Result<TopicChanged, TopicChangeError>>, TopicChanged),
    Fenced(oneshot::Sender<Result<u64, AppendError>>, u64),
}

impl Answer {
    /// The commit failed. (An answer that is dropped would say "never handed over".)
    pub(super) fn refuse(self, error: &JournalError) {
        match self {
            Self::Appended(reply, _) => drop(reply.send(Err(error.clone().into()))),
            Self::TopicChanged(reply, _) => drop(reply.send(Err(error.clone().into()))),
            Self::Fenced(reply, _) => drop(reply.send(Err(error.clone().into()))),
        }
    }

    /// Whoever asked may have gone; then nobody needs to know.
    pub(super) fn give(self) {
        match self {
            Self::Appended(reply, appended) => drop(reply.send(Ok(appended))),
            Self::TopicChanged(reply, changed) => drop(reply.send(Ok(changed))),
            Self::Fenced(reply, head) => drop(reply.send(Ok(head))),
        }
    }
}
