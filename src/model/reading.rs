//! What a topic's readers receive beside messages: its extent, the limits of a read, and why it
//! failed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Gap, TopicId};

/// How much one read gives.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Blocks are added until they hold this many messages …
    pub messages: u64,
    /// … or this many bytes.
    pub bytes: u64,
}

/// A topic's extent, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicExtent {
    /// Low watermark: offset of the first message kept.
    pub first: u64,
    /// Offset of the next message.
    pub head: u64,
    /// Messages kept.
    pub messages: u64,
    /// Bytes of the blocks kept.
    pub bytes: u64,
    /// Some of its messages are damaged, and that has not been accepted yet.
    pub damaged: bool,
}

/// Why a read returned nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The topic does not exist (any more).
    #[error("topic {0} does not exist")]
    NoSuchTopic(TopicId),
    /// The offset is no longer kept.
    #[error("the first message kept is {first}")]
    Gone {
        /// The topic's low watermark.
        first: u64,
    },
    /// The offset has not been written yet.
    #[error("the next message will be {head}")]
    Ahead {
        /// The topic's head.
        head: u64,
    },
    /// The offset can't be read any more. Others can.
    #[error("the messages from {} to {} are damaged", .0.from, .0.to)]
    Damaged(Gap),
    /// The store failed.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// Messages that were acknowledged and can't be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The offsets, or, for a suspect, those that may be affected.
    #[serde(flatten)]
    pub gap: Gap,
    /// Only for a suspect: the damage is in these sequences of the journal, both included, and the
    /// owners of their messages are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences: Option<[u64; 2]>,
}
