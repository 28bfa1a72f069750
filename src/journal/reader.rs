//! Reading blocks by offset and by time, beside the writer and without stopping it.
//!
//! Invariants: a reader sees only what is committed at its topic's level, since only that is in
//! the index; every body is checked before it is handed out; a miss is
//! called damage only if the topic is still there (a tail becomes a page before it is cleared, so a
//! reader that misses in one finds the other).

use std::sync::Arc;

use bytes::Bytes;

use super::chunk;
use super::index::IndexEntry;
use super::{Journal, JournalError, ReadError, TopicState};
use crate::model::{PlacedBlock, Sequence, Timestamp, TopicId};

/// How much one read gives.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Blocks are added until they hold this many messages …
    pub messages: u64,
    /// … or this many bytes.
    pub bytes: u64,
}

impl Journal {
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
        let state = self.state(topic)?;
        let mut blocks = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        let mut next = from;
        let mut last_chunk: Option<(Sequence, Bytes)> = None;
        while messages < limits.messages && bytes < limits.bytes {
            let entries = self.entries_from(topic, &state, next)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if messages >= limits.messages || bytes >= limits.bytes {
                    break;
                }
                let chunk = match &last_chunk {
                    Some((sequence, chunk)) if *sequence == entry.sequence => chunk.clone(),
                    _ => self.chunk(topic, entry.sequence)?,
                };
                chunk::verify(&chunk, &entry).map_err(|what| damaged(entry.sequence, what))?;
                blocks.push(Arc::new(chunk::block(topic, &chunk, &entry)));
                last_chunk = Some((entry.sequence, chunk));
                messages += entry.end_offset() - next.max(entry.base_offset);
                bytes += u64::from(entry.bytes);
                next = entry.end_offset();
            }
        }
        Ok(blocks)
    }

    /// The first offset whose message was published at `time` or later; the head when there is
    /// none. Blocks the calling thread on the disk.
    ///
    /// # Errors
    /// [`ReadError::NoSuchTopic`], or the store failed.
    pub fn offset_at(&self, topic: TopicId, time: Timestamp) -> Result<u64, ReadError> {
        let state = self.state(topic)?;
        let (first, head) = {
            let index = state.read_index();
            let before_tail = index.tail.front().is_none_or(|front| front.time >= time);
            if !before_tail {
                let after = index.tail.partition_point(|entry| entry.time < time);
                return Ok(index.tail.get(after).map_or(index.head, |entry| entry.base_offset));
            }
            (index.first, index.head)
        };
        // Times rise with offsets, so halve the offsets; each step looks at one block's entry.
        let (mut low, mut high) = (first, head);
        while low < high {
            let middle = low + (high - low) / 2;
            let entries = self.entries_from(topic, &state, middle)?;
            let Some(entry) = entries.first() else { break };
            if entry.time < time {
                low = entry.end_offset();
            } else {
                high = entry.base_offset.max(low);
            }
        }
        Ok(low)
    }

    fn state(&self, topic: TopicId) -> Result<Arc<TopicState>, ReadError> {
        let found = self.shared.topics.get(&topic).map(|state| state.clone());
        found.ok_or(ReadError::NoSuchTopic(topic))
    }

    /// Some of the topic's entries from the one that holds `offset` on; none only at the head.
    fn entries_from(
        &self,
        topic: TopicId,
        state: &TopicState,
        offset: u64,
    ) -> Result<Vec<IndexEntry>, ReadError> {
        {
            let index = state.read_index();
            if offset < index.first {
                return Err(ReadError::Gone { first: index.first });
            }
            if offset > index.head {
                return Err(ReadError::Ahead { head: index.head });
            }
            if offset == index.head {
                return Ok(Vec::new());
            }
            if let Some(entries) = index.tail_from(offset) {
                return Ok(entries.copied().collect());
            }
        }
        // Not in the tail, so in a page: entries leave the tail only after their page is there.
        if let Some(page) = self.shared.store.page_at(topic, offset)? {
            let start = page.entries.partition_point(|entry| entry.end_offset() <= offset);
            if start < page.entries.len() {
                return Ok(page.entries[start..].to_vec());
            }
        }
        self.state(topic)?;
        let what = format!("topic {topic}: no index page holds offset {offset}");
        Err(JournalError::Metadata(what).into())
    }

    fn chunk(&self, topic: TopicId, sequence: Sequence) -> Result<Bytes, ReadError> {
        match self.shared.store.chunk(sequence)? {
            Some(chunk) => Ok(chunk),
            None => {
                self.state(topic)?;
                Err(damaged(sequence, "the chunk is missing"))
            }
        }
    }
}

fn damaged(sequence: Sequence, what: &'static str) -> ReadError {
    JournalError::Damaged { sequence, what }.into()
}
