//! Where a reader begins, and the gap of messages that it has missed.
//!
//! An offset does not show what its reader has seen: the topic may have been created anew under its
//! name, or restored. A position does, by its epoch.
//!
//! Invariant: a reader with a position never starts after a message that it can't have seen, and
//! gets a gap for messages that are gone.

use crate::actors::directory::TopicHandle;
use crate::model::{Gap, Position, Timestamp};
use crate::queue::{Queue, ReadError, TopicExtent};
use crate::topics::TopicRecord;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first message kept.
    Earliest,
    /// The next message to be published.
    Latest,
    /// This offset.
    Offset(u64),
    /// The message at this position, or the next one.
    Position(Position),
    /// The first message published at this time or later.
    Time(Timestamp),
}

/// What a [`Start`] resolves to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The offset to begin at.
    pub offset: u64,
    /// Offsets that the reader asked for and that are gone; to be announced first.
    pub gap: Option<Gap>,
}

impl Start {
    /// The same, if it must not be beyond the head.
    ///
    /// # Errors
    /// As [`Start::resolve`], and [`ReadError::Ahead`].
    pub async fn resolve_within(
        self,
        queue: &Queue,
        topic: &TopicHandle,
    ) -> Result<Beginning, ReadError> {
        let beginning = self.resolve(queue, topic).await?;
        let head = queue.extent(topic.id()).map_or(0, |extent| extent.head);
        if beginning.offset > head { Err(ReadError::Ahead { head }) } else { Ok(beginning) }
    }

    /// Its offset now.
    ///
    /// # Errors
    /// [`ReadError`]: no such topic, or the store failed.
    pub async fn resolve(self, queue: &Queue, topic: &TopicHandle) -> Result<Beginning, ReadError> {
        let id = topic.id();
        let extent = queue.extent(id).ok_or(ReadError::NoSuchTopic(id))?;
        let offset = match self {
            Self::Earliest => extent.first,
            Self::Latest => extent.head,
            Self::Offset(offset) => offset,
            Self::Position(position) => return Ok(at(position, &topic.record(), &extent)),
            Self::Time(time) => queue.offset_at(id, time).await?,
        };
        Ok(Beginning { offset, gap: None })
    }
}

/// The offset of a position in a topic.
fn at(position: Position, record: &TopicRecord, extent: &TopicExtent) -> Beginning {
    let Position { epoch, offset } = position;
    if epoch == record.epoch {
        return Beginning { offset, gap: None };
    }
    let ended = (epoch < record.epoch).then(|| record.end_of(epoch)).flatten();
    if let Some(end) = ended {
        // Messages that the client saw beyond the end are not here: reading meets the gap announced
        // there.
        let next = offset.min(end);
        return Beginning { offset: next.max(extent.first), gap: Gap::before(next, extent.first) };
    }
    let gap = Gap { from: offset, to: offset.max(extent.first.saturating_sub(1)) };
    Beginning { offset: extent.first, gap: Some(gap) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, TopicId, TopicName, TopicSettings};

    /// A topic that was made in epoch 5; 6 began where 15 messages were, 9 where 25 were.
    fn record() -> TopicRecord {
        TopicRecord {
            id: TopicId(1),
            name: TopicName::new("t").unwrap(),
            epoch: Epoch(9),
            first_epoch: Epoch(5),
            epochs: vec![(Epoch(6), 15), (Epoch(9), 25)],
            settings: TopicSettings::default(),
            gaps: Vec::new(),
            damage: Vec::new(),
            ingest: None,
        }
    }

    fn begin(epoch: u64, offset: u64, first: u64, head: u64) -> (u64, Option<(u64, u64)>) {
        let extent = TopicExtent { first, head, messages: 0, bytes: 0, damaged: false };
        let position = Position { epoch: Epoch(epoch), offset };
        let Beginning { offset, gap } = at(position, &record(), &extent);
        (offset, gap.map(|gap| (gap.from, gap.to)))
    }

    #[test]
    fn a_position_of_the_topic_is_its_offset_up_to_the_end_of_its_epoch() {
        assert_eq!(begin(9, 20, 10, 30), (20, None));
        assert_eq!(begin(9, 5, 10, 30), (5, None), "what retention took is found out by reading");
        assert_eq!(begin(9, 31, 10, 30), (31, None), "beyond the head is an error of the caller's");
        assert_eq!(begin(5, 12, 10, 30), (12, None));
        assert_eq!(begin(5, 17, 10, 30), (15, None), "the next epoch's messages are not the same");
        assert_eq!(begin(6, 28, 10, 30), (25, None));
        assert_eq!(begin(7, 28, 10, 30), (25, None), "of another copy");
        assert_eq!(begin(5, 17, 20, 30), (20, Some((15, 19))), "retention took the rest");
    }

    #[test]
    fn a_position_of_another_life_begins_with_the_first_message_and_a_gap() {
        assert_eq!(begin(4, 20, 0, 30), (0, Some((20, 20))));
        assert_eq!(begin(4, 3, 10, 30), (10, Some((3, 9))));
        assert_eq!(begin(10, 3, 0, 2), (0, Some((3, 3))), "of a later life: this one was restored");
    }
}
