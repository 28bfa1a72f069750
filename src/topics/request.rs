//! The requests to the topics' machine, and its answers.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::Span;

use super::change::{TopicChange, TopicChangeError, TopicChanged};
use super::claims::Claimed;
use crate::journal::{self, AppendRefused, JournalError};
use crate::model::{AckLevel, Block, Gap, Incarnation, LanePosition, TopicId, TopicSettings};

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

/// A block that is stored at its topic's level, except for messages that need not or must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first message that is stored.
    pub base_offset: u64,
    /// How durable it is.
    pub durability: Durability,
    /// The messages that were not stored, by place in the block, in order; mostly none.
    pub not_stored: Arc<[(u32, NotStored)]>,
}

/// Why a message was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// It is stored already: at this offset, or, for a named producer, at an unknown one.
    Duplicate(Option<u64>),
    /// Its message id belongs to a message with another payload.
    Conflict,
}

/// The result of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored at this offset.
    Stored(u64),
    /// It is not stored.
    Not(NotStored),
}

impl Appended {
    /// The result of each message of the block, in order, without end.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        let mut not_stored = self.not_stored.iter().peekable();
        let mut offset = self.base_offset;
        (0u32..).map(move |place| match not_stored.next_if(|(at, _)| *at == place) {
            Some((_, why)) => Outcome::Not(*why),
            None => {
                offset += 1;
                Outcome::Stored(offset - 1)
            }
        })
    }
}

/// How durable an acknowledged message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durability {
    /// When the message was acknowledged.
    pub ack_level: AckLevel,
    /// How many milliseconds of acknowledged messages a power loss may take.
    pub loss_bound_ms: u64,
}

impl Durability {
    /// The durability of these settings.
    pub fn of(settings: &TopicSettings) -> Self {
        Self { ack_level: settings.ack_level, loss_bound_ms: settings.loss_bound_ms() }
    }
}

/// Why a block was not stored. None of them has stored a part of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The block is not the next one of its lane, or comes from a fenced incarnation: send it
    /// again, after what comes before it.
    #[error("out of turn: send again, in order")]
    OutOfTurn,
    /// The topic was deleted.
    #[error("the topic was deleted")]
    TopicDeleted,
    /// Another socket has taken the producer's name.
    #[error("another socket has taken the producer's name")]
    Fenced,
    /// The topic gave up after too many restarts, or is damaged.
    #[error("the topic is quarantined")]
    Quarantined,
    /// The block holds more than [`BLOCK_BYTES_MAX`](crate::model::BLOCK_BYTES_MAX), and more than one message: send it in parts.
    #[error("a block of {bytes} bytes is more than the {max} that are stored at once")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most bytes.
        max: usize,
    },
    /// The journal accepts no messages for the time being.
    #[error(transparent)]
    Refused(#[from] AppendRefused),
    /// The journal stores nothing any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_counted_past_what_was_not_stored() {
        let durability = Durability { ack_level: AckLevel::Sync, loss_bound_ms: 0 };
        let not_stored =
            [(0, NotStored::Duplicate(Some(3))), (2, NotStored::Conflict)].as_slice().into();
        let appended = Appended { base_offset: 10, durability, not_stored };
        let outcomes: Vec<_> = appended.outcomes().take(4).collect();
        let [a, b, c, d] = outcomes[..] else { panic!() };
        assert_eq!(a, Outcome::Not(NotStored::Duplicate(Some(3))));
        assert_eq!((b, d), (Outcome::Stored(10), Outcome::Stored(11)));
        assert_eq!(c, Outcome::Not(NotStored::Conflict));
    }
}
