//! The results of storing messages: acknowledgement, outcome, durability, and why a block is
//! refused.

use std::sync::Arc;

use super::{AckLevel, TopicSettings};

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
    /// The block holds more than [`BLOCK_BYTES_MAX`](super::BLOCK_BYTES_MAX), and more than one
    /// message: send it in parts.
    #[error("a block of {bytes} bytes is more than the {max} that are stored at once")]
    TooLarge {
        /// What it holds.
        bytes: usize,
        /// What it may hold.
        max: usize,
    },
    /// The store takes no messages for the time being: how much room there is, and how much is
    /// needed.
    #[error("{0}")]
    StorageFull(Arc<str>),
    /// The store takes nothing any more.
    #[error("{0}")]
    Failed(Arc<str>),
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
