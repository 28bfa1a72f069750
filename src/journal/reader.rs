//! Reading blocks by offset and by time, beside the writer and without stopping it.
//!
//! Invariants: a reader sees only what is committed at its topic's level, since only that is in
//! the index; every body is checked before it is handed out; a miss is
//! called damage only if the topic is still there and keeps the offset (a tail becomes a page before
//! it is cleared, so a reader that misses in one finds the other); damage costs its own offsets
//! and nothing else.

use std::sync::Arc;

use bytes::Bytes;

use super::chunk;
use super::command::Command;
use super::index::{IndexEntry, NoMessage};
use super::shared::TopicState;
use super::{Journal, JournalError, ReadError};
use crate::model::{Gap, PlacedBlock, Sequence, Timestamp, TopicId};

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
            let entries = match self.entries_from(topic, &state, next) {
                // What was read is right; the next read will say what follows it.
                Err(ReadError::Damaged(_)) if !blocks.is_empty() => break,
                entries => entries?,
            };
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if messages >= limits.messages || bytes >= limits.bytes {
                    break;
                }
                let chunk = match &last_chunk {
                    Some((sequence, chunk)) if *sequence == entry.sequence => Some(chunk.clone()),
                    _ => self.chunk(topic, entry.sequence)?,
                };
                let Some(chunk) = chunk.filter(|chunk| chunk::verify(chunk, &entry).is_ok()) else {
                    if self.has_moved(topic, &state, &entry) {
                        break;
                    }
                    let damaged = self.damaged(topic, &entry);
                    return if blocks.is_empty() { Err(damaged) } else { Ok(blocks) };
                };
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
        // Times rise with offsets, so halve the offsets; each step looks at one block's entry, the
        // next one where an offset holds no message.
        let (mut low, mut high) = (first, head);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry_from(topic, &state, middle)? {
                Some(entry) if entry.time < time => low = entry.end_offset(),
                Some(entry) => high = entry.base_offset.min(middle).max(low),
                None => high = middle,
            }
        }
        Ok(self.entry_from(topic, &state, low)?.map_or(head, |entry| entry.base_offset.max(low)))
    }

    /// The entry of the block that holds `offset`, or of the next one; `None` at the end.
    fn entry_from(
        &self,
        topic: TopicId,
        state: &TopicState,
        offset: u64,
    ) -> Result<Option<IndexEntry>, ReadError> {
        let mut offset = offset;
        loop {
            match self.entries_from(topic, state, offset) {
                Err(ReadError::Damaged(gap)) => offset = gap.end(),
                Err(ReadError::Ahead { .. }) => return Ok(None),
                entries => return Ok(entries?.first().copied()),
            }
        }
    }

    fn state(&self, topic: TopicId) -> Result<Arc<TopicState>, ReadError> {
        let found = self.shared.topics.get(&topic).map(|state| state.clone());
        found.ok_or(ReadError::NoSuchTopic(topic))
    }

    /// Some of the topic's entries from the one that holds `offset` on, or the next one behind a
    /// gap; none only at the head.
    fn entries_from(
        &self,
        topic: TopicId,
        state: &TopicState,
        offset: u64,
    ) -> Result<Vec<IndexEntry>, ReadError> {
        let mut offset = offset;
        let readable_to;
        {
            let index = state.read_index();
            if offset < index.first {
                return Err(ReadError::Gone { first: index.first });
            }
            if offset > index.head {
                return Err(ReadError::Ahead { head: index.head });
            }
            match index.no_message_at(offset) {
                Some(NoMessage::Gap(gap)) => offset = gap.end(),
                Some(NoMessage::Damage(gap)) => return Err(ReadError::Damaged(gap)),
                None => {}
            }
            if offset >= index.head {
                return Ok(Vec::new());
            }
            readable_to = index.damage_after(offset).unwrap_or(u64::MAX);
            if let Some(entries) = index.tail_from(offset) {
                let readable = entries.take_while(|entry| entry.base_offset < readable_to);
                return Ok(readable.copied().collect());
            }
        }
        // Not in the tail, so in a page: entries leave the tail only after their page is there.
        if let Some(page) = self.shared.store.page_at(topic, offset)? {
            let readable = |entry: &&IndexEntry| entry.base_offset < readable_to;
            let after = page.entries.iter().skip_while(|entry| entry.end_offset() <= offset);
            let entries: Vec<_> = after.take_while(readable).copied().collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        // The low watermark may have passed us by meanwhile, or be about to be shown.
        let shown = self.state(topic)?.read_index().first;
        let first = shown.max(self.shared.store.low(topic)?.first);
        if offset < first {
            return Err(ReadError::Gone { first });
        }
        let what = format!("topic {topic}: no index page holds offset {offset}");
        Err(JournalError::Metadata(what).into())
    }

    /// A chunk; `None` when it is missing or its table is damaged.
    fn chunk(&self, topic: TopicId, sequence: Sequence) -> Result<Option<Bytes>, ReadError> {
        match self.shared.store.chunk(sequence) {
            Ok(Some(chunk)) => Ok(Some(chunk)),
            Err(JournalError::Store(error)) if matches!(*error, fjall::Error::Io(_)) => {
                Err(JournalError::Store(error).into())
            }
            Ok(None) | Err(_) => {
                self.state(topic)?;
                Ok(None)
            }
        }
    }

    /// The block has been copied to another place since the index was asked.
    fn has_moved(&self, topic: TopicId, state: &TopicState, entry: &IndexEntry) -> bool {
        let now = self.entries_from(topic, state, entry.base_offset);
        now.is_ok_and(|now| now.first().is_some_and(|now| now.sequence != entry.sequence))
    }

    /// Quarantines what is damaged, unless it is gone by now.
    fn damaged(&self, topic: TopicId, entry: &IndexEntry) -> ReadError {
        let first = self.extent(topic).map_or(u64::MAX, |extent| extent.first);
        if entry.end_offset() <= first {
            return ReadError::Gone { first };
        }
        let gap = Gap { from: entry.base_offset, to: entry.end_offset() - 1 };
        // A writer that has stopped takes no note; the next start finds it again.
        let _ = self.commands.send(Command::Damaged(topic, gap));
        ReadError::Damaged(gap)
    }
}
