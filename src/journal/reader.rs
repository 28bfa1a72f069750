//! Reading blocks by offset and by time, beside the writer and without stopping it.
//!
//! Invariants: a reader sees only what is committed, since only that is in the index; every body is
//! checked before it is returned; a miss is called damage only if the stream still exists and keeps
//! the offset (a tail becomes a page before it is cleared, so a reader that misses in one finds the
//! other); damage costs its own offsets and nothing else.

use std::sync::Arc;

use bytes::Bytes;

use super::format::chunk::{self, Place};
use super::index::{IndexEntry, PageStart};
use super::shared::{Shared, StreamState};
use super::{JournalError, StreamReadError};
use crate::model::{Gap, JournalAge, Log, PlacedBlock, ReadLimits, Sequence, StreamId, Timestamp};

/// How far a stream reaches, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamExtent {
    /// Low watermark: offset of the first message kept.
    pub first: u64,
    /// Offset of the next message.
    pub head: u64,
    /// Bytes of the blocks kept.
    pub bytes: u64,
}

/// The streams, for reading. Cloning shares them.
#[derive(Clone)]
pub struct Streams(pub(super) Arc<Shared>);

impl Streams {
    /// How far a stream reaches; `None` when there is no such stream.
    pub fn extent(&self, stream: StreamId) -> Option<StreamExtent> {
        let state = self.0.streams.get(&stream)?;
        let extent = state.read_index().extent;
        Some(StreamExtent { first: extent.first, head: extent.head, bytes: extent.bytes_kept() })
    }

    /// How old the journal is.
    pub fn age(&self) -> JournalAge {
        JournalAge(self.0.age.now_ms())
    }

    /// Appending is refused since the disk is full.
    pub fn is_storage_full(&self) -> bool {
        self.0.storage_full.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Reads the blocks from the one that holds `from` on, or from the next one where none does, up
    /// to the offset `until`; at least one if there is one, and no more once a limit is reached.
    /// `from` at the head gives none. Blocks the calling thread on the disk.
    ///
    /// # Errors
    /// [`StreamReadError`]: no such stream, not kept any more, not yet written, or damaged.
    pub fn read(
        &self,
        stream: StreamId,
        from: u64,
        until: u64,
        limits: ReadLimits,
    ) -> Result<Vec<Arc<PlacedBlock>>, StreamReadError> {
        let state = self.state(stream)?;
        let mut blocks = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        let mut next = from;
        let mut last_chunk: Option<(Sequence, Bytes)> = None;
        while messages < limits.messages && bytes < limits.bytes && next < until {
            let entries = self.entries_from(stream, &state, next)?;
            if entries.first().is_none_or(|entry| entry.base_offset >= until) {
                break;
            }
            for entry in entries {
                let full = messages >= limits.messages || bytes >= limits.bytes;
                if full || entry.base_offset >= until {
                    return Ok(blocks);
                }
                let chunk = match &last_chunk {
                    Some((sequence, chunk)) if *sequence == entry.sequence => Some(chunk.clone()),
                    _ => self.chunk(stream, state.log, entry.sequence)?,
                };
                let Some(chunk) = chunk.filter(|chunk| chunk::verify(chunk, &entry).is_ok()) else {
                    if self.has_moved(stream, &state, &entry) {
                        break;
                    }
                    let damaged = self.damaged(stream, &entry);
                    return if blocks.is_empty() { Err(damaged) } else { Ok(blocks) };
                };
                blocks.push(Arc::new(chunk::block(stream, &chunk, &entry)));
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
    /// [`StreamReadError::NoSuchStream`], or the store failed.
    pub fn offset_at(&self, stream: StreamId, time: Timestamp) -> Result<u64, StreamReadError> {
        let state = self.state(stream)?;
        let (first, head) = {
            let index = state.read_index();
            let before_tail = index.tail.front().is_none_or(|front| front.time >= time);
            if !before_tail {
                let after = index.tail.partition_point(|entry| entry.time < time);
                let entry = index.tail.range(after..).find(|entry| entry.count > 0);
                return Ok(entry.map_or(index.extent.head, |entry| entry.base_offset));
            }
            (index.extent.first, index.extent.head)
        };
        // Times rise with offsets, so halve the offsets; each step looks at one block's entry, the
        // next one where an offset holds no message.
        let (mut low, mut high) = (first, head);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry_from(stream, &state, middle)? {
                Some(entry) if entry.time < time => low = entry.end_offset(),
                Some(entry) => high = entry.base_offset.min(middle).max(low),
                None => high = middle,
            }
        }
        let entry = self.entry_from(stream, &state, low)?;
        Ok(entry.map_or(head, |entry| entry.base_offset.max(low)))
    }

    /// The entry of the block that holds `offset`, or of the next one; `None` at the end.
    fn entry_from(
        &self,
        stream: StreamId,
        state: &StreamState,
        offset: u64,
    ) -> Result<Option<IndexEntry>, StreamReadError> {
        match self.entries_from(stream, state, offset) {
            Err(StreamReadError::Ahead { .. }) => Ok(None),
            entries => Ok(entries?.first().copied()),
        }
    }

    fn state(&self, stream: StreamId) -> Result<Arc<StreamState>, StreamReadError> {
        self.0.stream(stream).ok_or(StreamReadError::NoSuchStream(stream))
    }

    /// Some of the stream's entries from the one that holds `offset` on, or the next one; none only
    /// at the head.
    fn entries_from(
        &self,
        stream: StreamId,
        state: &StreamState,
        offset: u64,
    ) -> Result<Vec<IndexEntry>, StreamReadError> {
        {
            let index = state.read_index();
            let extent = &index.extent;
            if offset < extent.first {
                return Err(StreamReadError::Gone { first: extent.first });
            }
            if offset > extent.head {
                return Err(StreamReadError::Ahead { head: extent.head });
            }
            if offset == extent.head {
                return Ok(Vec::new());
            }
            if let Some(entries) = index.tail_from(offset) {
                return Ok(entries.copied().collect());
            }
        }
        // Not in the tail, so in a page: entries leave the tail only after their page is there.
        // Where nothing holds the offset, what follows may begin a page, or the tail.
        let behind = |entry: &IndexEntry| entry.count > 0 && entry.end_offset() > offset;
        let store = &self.0.store;
        if let Some(page) = store.page_at(stream, offset)? {
            let entries: Vec<_> = page.entries.into_iter().filter(behind).collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        // The low watermark may have passed `next` meanwhile, or is about to be shown.
        let stored = store.extent(stream)?.map_or(0, |extent| extent.first);
        let first = state.read_index().extent.first.max(stored);
        if offset < first {
            return Err(StreamReadError::Gone { first });
        }
        for page in store.pages_from(stream, PageStart::at(offset)) {
            let entries: Vec<_> = page?.entries.into_iter().filter(behind).collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        let index = state.read_index();
        Ok(index.tail.iter().filter(|entry| behind(entry)).copied().collect())
    }

    /// A chunk; `None` when it is missing or its table is damaged.
    fn chunk(
        &self,
        stream: StreamId,
        log: Log,
        sequence: Sequence,
    ) -> Result<Option<Bytes>, StreamReadError> {
        match self.0.store.chunk(Place { log, sequence }) {
            Ok(Some(chunk)) => Ok(Some(chunk)),
            Err(JournalError::Store(error)) if matches!(*error, fjall::Error::Io(_)) => {
                Err(JournalError::Store(error).into())
            }
            Ok(None) | Err(_) => {
                self.state(stream)?;
                Ok(None)
            }
        }
    }

    /// The block has been moved since the index lookup.
    fn has_moved(&self, stream: StreamId, state: &StreamState, entry: &IndexEntry) -> bool {
        let now = self.entries_from(stream, state, entry.base_offset);
        now.is_ok_and(|now| now.first().is_some_and(|now| now.sequence != entry.sequence))
    }

    /// The damaged range, unless it is gone by now.
    fn damaged(&self, stream: StreamId, entry: &IndexEntry) -> StreamReadError {
        let first = self.extent(stream).map_or(u64::MAX, |extent| extent.first);
        if entry.end_offset() <= first {
            return StreamReadError::Gone { first };
        }
        StreamReadError::Damaged(Gap { from: entry.base_offset, to: entry.end_offset() - 1 })
    }
}
