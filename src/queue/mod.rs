//! The message queue tier: what consumers read from, whatever tier backs it.
//!
//! Today that is the journal itself ([`Embedded`]); an external cluster can take its place later.
//! Tails, polls and subscriptions read through [`Queue`] and never through the journal.
//!
//! Invariants: a read returns only what is safe at its topic's ack level; memory kept for readers,
//! the JSON form of messages included, is bounded by the tail cache's budget.

mod embedded;
mod read_block;
mod read_cache;
mod read_threads;
mod tail_cache;

use std::sync::Arc;

pub use crate::model::{Damage, ReadError, ReadLimits, TopicExtent};
pub use embedded::{Embedded, Feed};
pub use read_block::{BlockJson, ReadBlock};

use crate::model::{Gap, JournalAge, Timestamp, TopicId};

/// Called on the writer thread when a topic's head has advanced; must not block.
pub type HeadWatcher = Arc<dyn Fn() + Send + Sync>;

/// The tier in use. Cloning shares it.
#[derive(Clone)]
pub enum Queue {
    /// The broker's own journal.
    Embedded(Embedded),
}

impl Queue {
    /// How far a topic reaches; `None` when there is no such topic.
    pub fn extent(&self, topic: TopicId) -> Option<TopicExtent> {
        match self {
            Self::Embedded(embedded) => embedded.extent(topic),
        }
    }

    /// The age that messages expire by.
    pub fn age(&self) -> JournalAge {
        match self {
            Self::Embedded(embedded) => embedded.age(),
        }
    }

    /// Nothing can be published, since the disk is full.
    pub fn is_storage_full(&self) -> bool {
        match self {
            Self::Embedded(embedded) => embedded.is_storage_full(),
        }
    }

    /// The tier behind it has failed, and accepts nothing any more.
    pub fn has_failed(&self) -> bool {
        match self {
            Self::Embedded(embedded) => embedded.has_failed(),
        }
    }

    /// The topic's announced gaps that reach into the kept offsets, in order.
    pub fn gaps(&self, topic: TopicId) -> Vec<Gap> {
        match self {
            Self::Embedded(embedded) => embedded.gaps(topic),
        }
    }

    /// The topic's damage that is not accepted yet.
    pub fn damage(&self, topic: TopicId) -> Vec<Damage> {
        match self {
            Self::Embedded(embedded) => embedded.damage(topic),
        }
    }

    /// Has `watcher` called whenever the topic's head advances, in place of the one before it.
    pub fn watch(&self, topic: TopicId, watcher: HeadWatcher) {
        match self {
            Self::Embedded(embedded) => embedded.watch(topic, watcher),
        }
    }

    /// Forgets a deleted topic.
    pub fn forget(&self, topic: TopicId) {
        match self {
            Self::Embedded(embedded) => embedded.forget(topic),
        }
    }

    /// Reads blocks from the one that holds `from` on, if memory has it; never waits for a disk.
    /// The first block may begin before `from`. Empty at the head.
    pub fn read_cached(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Option<Vec<Arc<ReadBlock>>> {
        match self {
            Self::Embedded(embedded) => embedded.read_cached(topic, from, limits),
        }
    }

    /// As [`Queue::read_cached`], but goes to the disk (on another thread) where it has to.
    ///
    /// # Errors
    /// [`ReadError`]: no such topic, not kept any more, not yet written, or damaged.
    pub async fn read(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Result<Vec<Arc<ReadBlock>>, ReadError> {
        match self {
            Self::Embedded(embedded) => embedded.read(topic, from, limits).await,
        }
    }

    /// The first offset published at `time` or later; the head when there is none.
    ///
    /// # Errors
    /// [`ReadError::NoSuchTopic`], or the store failed.
    pub async fn offset_at(&self, topic: TopicId, time: Timestamp) -> Result<u64, ReadError> {
        match self {
            Self::Embedded(embedded) => embedded.offset_at(topic, time).await,
        }
    }
}
