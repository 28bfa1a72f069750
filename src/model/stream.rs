//! Streams and owners: their numbers on disk.
//!
//! Invariant: topics, streams and subscriptions take their numbers from one counter, so one
//! number never names two of them, and a number is never used again.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TopicId;

/// An owner of state or blocks in the journal: a topic, a stream or a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerId(pub u32);

impl OwnerId {
    /// The journal itself and the state shared by all topics.
    pub const JOURNAL: Self = Self(0);
}

/// A run of blocks in the journal. A topic's outgoing stream, which readers see, has the topic's
/// own number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<StreamId> for OwnerId {
    fn from(stream: StreamId) -> Self {
        Self(stream.0)
    }
}

impl From<TopicId> for OwnerId {
    fn from(topic: TopicId) -> Self {
        Self(topic.0)
    }
}

impl TopicId {
    /// The stream of the topic's outgoing messages.
    pub fn outgoing(self) -> StreamId {
        StreamId(self.0)
    }

    /// The topic of this stream of outgoing messages.
    pub fn of_outgoing(stream: StreamId) -> Self {
        Self(stream.0)
    }
}

/// Which of the journal's two logs a stream lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Log {
    /// Blocks kept for readers. Those that outlive their neighbours are copied forward.
    #[default]
    Blocks,
    /// Blocks needed for a short time only, then dropped with all before them, never copied.
    Short,
}

impl Log {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Blocks, Self::Short];
}
