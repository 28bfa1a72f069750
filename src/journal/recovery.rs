//! Finding out where the journal stands: topics, heads, and the tails that no page knows.
//!
//! Invariants: nothing is written here; a chunk that is missing or does not match its checksums
//! ends recovery with the sequence named, it is never skipped.

use std::collections::HashMap;

use super::chunk;
use super::index::TopicIndex;
use super::store::Store;
use super::{JournalError, TopicRecord};
use crate::model::{Sequence, Timestamp, TopicId};

/// What stands in the journal.
pub(super) struct Recovered {
    pub(super) topics: Vec<(TopicRecord, TopicIndex)>,
    pub(super) next_sequence: Sequence,
    pub(super) next_topic_id: u32,
    pub(super) last_time: Timestamp,
}

pub(super) fn recover(store: &Store) -> Result<Recovered, JournalError> {
    let positions = store.positions()?;
    let mut topics: HashMap<TopicId, (TopicRecord, TopicIndex)> = HashMap::new();
    for record in store.topics() {
        let record = record?;
        let mut index = TopicIndex::default();
        if let Some(page) = store.page_at(record.id, u64::MAX)? {
            index.resume_after(&page);
        }
        topics.insert(record.id, (record, index));
    }

    let mut next = Sequence(positions.indexed_sequence);
    for item in store.chunks_from(next) {
        let (sequence, value) = item?;
        let damaged = |what| JournalError::Damaged { sequence: next, what };
        if sequence != next {
            return Err(damaged("the chunk is missing"));
        }
        for found in chunk::directory(sequence, &value).map_err(damaged)? {
            chunk::verify(&value, &found.entry).map_err(damaged)?;
            // Blocks of deleted topics stay until their space is reclaimed.
            let Some((_, index)) = topics.get_mut(&found.topic) else { continue };
            let known_by_page = found.entry.end_offset() <= index.head;
            if !known_by_page && !index.push(found.entry) {
                return Err(damaged("a block does not follow its topic's last one"));
            }
        }
        next = next.next();
    }
    if next.0 != positions.next_sequence {
        return Err(JournalError::Damaged { sequence: next, what: "the chunk is missing" });
    }

    let last_time = topics.values().map(|(_, index)| index.last_time).max().unwrap_or_default();
    let mut topics: Vec<_> = topics.into_values().collect();
    topics.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let next_topic_id = positions.next_topic_id;
    Ok(Recovered { topics, next_sequence: next, next_topic_id, last_time })
}
