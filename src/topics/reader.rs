//! Reading a topic: its outgoing stream, with gaps skipped and damage reported.
//!
//! Invariants: a reader sees only what is committed at its topic's level; messages missing without
//! an announcement are damage, which quarantines the topic; damage costs its own offsets only.

use std::sync::Arc;

use super::Topics;
use super::request::Request;
use super::view::View;
use crate::journal::{JournalError, StreamReadError};
use crate::model::{
    Damage, Gap, PlacedBlock, ReadError, ReadLimits, Timestamp, TopicExtent, TopicId,
};

impl From<JournalError> for ReadError {
    fn from(error: JournalError) -> Self {
        Self::Failed(error.to_string().into())
    }
}

impl Topics {
    /// How far a topic reaches; `None` when there is no such topic.
    pub fn extent(&self, topic: TopicId) -> Option<TopicExtent> {
        let extent = self.streams.extent(topic.outgoing())?;
        let view = self.views.of(topic);
        Some(TopicExtent {
            first: extent.first,
            head: extent.head,
            messages: view.messages(extent.first, extent.head),
            bytes: extent.bytes,
            damaged: !view.damage.is_empty() || view.given_up,
        })
    }

    /// The topic's damage that is not accepted yet.
    pub fn damage(&self, topic: TopicId) -> Vec<Damage> {
        self.views.of(topic).damage.clone()
    }

    /// The topic's announced gaps that reach into the kept offsets, in order.
    pub fn gaps(&self, topic: TopicId) -> Vec<Gap> {
        let view = self.views.of(topic);
        if view.gaps.is_empty() {
            return Vec::new();
        }
        let first = self.streams.extent(topic.outgoing()).map_or(0, |extent| extent.first);
        view.gaps.iter().copied().filter(|gap| gap.to >= first).collect()
    }

    /// Reads the blocks from the one that holds `from` on, at least one if there is one, and no
    /// more once a limit is reached. `from` at the head gives none. Blocks the calling thread on
    /// the disk.
    ///
    /// # Errors
    /// [`ReadError`]: no such topic, not kept any more, not yet written, or damaged.
    pub fn read(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Result<Vec<Arc<PlacedBlock>>, ReadError> {
        let stream = topic.outgoing();
        let mut from = from;
        loop {
            let view = self.views.of(topic);
            let extent = self.streams.extent(stream).ok_or(ReadError::NoSuchTopic(topic))?;
            if from >= extent.first && from < extent.head {
                if let Some(damage) = view.damage_at(from) {
                    return Err(ReadError::Damaged(damage));
                }
                if let Some(gap) = view.gap_at(from) {
                    from = gap.end();
                    continue;
                }
            }
            let until = view.damage_after(from);
            let blocks = match self.streams.read(stream, from, until, limits) {
                Err(StreamReadError::Damaged(gap)) => return Err(self.damaged(topic, gap)),
                read => read.map_err(|error| of_stream(topic, error))?,
            };
            let end = until.min(extent.head);
            return match self.unannounced(topic, &view, from, end, &blocks) {
                None => Ok(blocks),
                Some(gap) => Err(self.damaged(topic, gap)),
            };
        }
    }

    /// Offsets missing before the first of these blocks, without an announcement.
    fn unannounced(
        &self,
        topic: TopicId,
        view: &View,
        from: u64,
        end: u64,
        blocks: &[Arc<PlacedBlock>],
    ) -> Option<Gap> {
        let extent = self.streams.extent(topic.outgoing())?;
        let next = blocks.first().map_or(end, |block| block.base_offset);
        let gap = Gap::before(from, next)?;
        // It may have been removed meanwhile, or found already.
        let known = gap.from < extent.first || *self.views.of(topic) != *view;
        (!known).then_some(gap)
    }

    /// The first offset whose message was published at `time` or later; the head when there is
    /// none. Blocks the calling thread on the disk.
    ///
    /// # Errors
    /// [`ReadError::NoSuchTopic`], or the store failed.
    pub fn offset_at(&self, topic: TopicId, time: Timestamp) -> Result<u64, ReadError> {
        let found = self.streams.offset_at(topic.outgoing(), time);
        found.map_err(|error| of_stream(topic, error))
    }

    /// Quarantines the damage. A stopped machine does not record it; the next start finds it again.
    fn damaged(&self, topic: TopicId, gap: Gap) -> ReadError {
        self.journal.ask(Request::Damaged(topic, gap));
        ReadError::Damaged(gap)
    }
}

fn of_stream(topic: TopicId, error: StreamReadError) -> ReadError {
    match error {
        StreamReadError::NoSuchStream(_) => ReadError::NoSuchTopic(topic),
        StreamReadError::Gone { first } => ReadError::Gone { first },
        StreamReadError::Ahead { head } => ReadError::Ahead { head },
        StreamReadError::Damaged(gap) => ReadError::Damaged(gap),
        StreamReadError::Journal(error) => error.into(),
    }
}
