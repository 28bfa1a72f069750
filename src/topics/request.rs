//! The requests to the topics' machine, and its answers.

use tokio::sync::oneshot;
use tracing::Span;

use super::change::{TopicChange, TopicChangeError, TopicChanged};
use super::claims::Claimed;
use crate::journal::{self, AppendRefused, JournalError};
use crate::model::{AppendError, Appended, Block, Gap, Incarnation, LanePosition, TopicId};

/// A block in flight to the disk, and the channel of its answer.
#[derive(Debug)]
pub struct Append {
    /// The topic it belongs to.
    pub topic: TopicId,
    /// The ingest logger that sends it.
    pub incarnation: Incarnation,
    /// Its position in its producer's order; `None` where no order is promised.
    pub lane: Option<LanePosition>,
    /// The messages.
    pub block: Block,
    /// Answered when the block is stored or refused; dropped only if it was never handed over.
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

impl From<JournalError> for AppendError {
    fn from(error: JournalError) -> Self {
        Self::Failed(error.to_string().into())
    }
}

impl From<AppendRefused> for AppendError {
    fn from(refused: AppendRefused) -> Self {
        Self::StorageFull(refused.to_string().into())
    }
}

type Answer<T, E = AppendError> = oneshot::Sender<Result<T, E>>;

/// A request to the machine.
pub enum Request {
    /// Store a block.
    Append(Append),
    /// Change the catalogue.
    Change(Box<TopicChange>, Answer<TopicChanged, TopicChangeError>),
    /// Refuse blocks of earlier incarnations from now on; answers the topic's head.
    Fence(TopicId, Incarnation, Answer<u64>),
    /// Claim a producer's name, behind everything sent before.
    Claim(TopicId, Box<str>, Answer<Claimed>),
    /// A reader found these offsets damaged.
    Damaged(TopicId, Gap),
}

impl journal::Request for Request {
    fn refuse(self, error: &JournalError) {
        let error = error.clone();
        match self {
            Self::Append(append) => drop(append.reply.send(Err(error.into()))),
            Self::Change(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Fence(.., reply) => drop(reply.send(Err(error.into()))),
            Self::Claim(.., reply) => drop(reply.send(Err(error.into()))),
            Self::Damaged(..) => {}
        }
    }
}

/// The machine's answer once the commit has returned. A requester that has gone needs no answer.
pub enum Reply {
    /// To [`Request::Append`], with the stage of its trace that ends then.
    Appended(Answer<Appended>, Result<Appended, AppendError>, Span),
    /// To [`Request::Change`].
    Changed(Answer<TopicChanged, TopicChangeError>, Result<TopicChanged, TopicChangeError>),
    /// To [`Request::Fence`].
    Fenced(Answer<u64>, Result<u64, AppendError>),
    /// To [`Request::Claim`].
    Claimed(Answer<Claimed>, Result<Claimed, AppendError>),
    /// To a request without an answer.
    Noted,
}

impl journal::Reply for Reply {
    fn give(self) {
        match self {
            Self::Appended(reply, result, stage) => {
                drop(reply.send(result));
                drop(stage);
            }
            Self::Changed(reply, result) => drop(reply.send(result)),
            Self::Fenced(reply, result) => drop(reply.send(result)),
            Self::Claimed(reply, result) => drop(reply.send(result)),
            Self::Noted => {}
        }
    }

    fn refuse(self, error: &JournalError) {
        let error = error.clone();
        match self {
            Self::Appended(reply, ..) => drop(reply.send(Err(error.into()))),
            Self::Changed(reply, _) => drop(reply.send(Err(error.into()))),
            Self::Fenced(reply, _) => drop(reply.send(Err(error.into()))),
            Self::Claimed(reply, _) => drop(reply.send(Err(error.into()))),
            Self::Noted => {}
        }
    }
}
