//! The writer and the index: which tails are written with a commit, and what it adds to them.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::packer::Packed;
use super::page_queue::PageQueue;
use super::{Writer, last_number};
use crate::journal::index::{Extent, PAGE_ENTRIES};
use crate::journal::machine::Machine;
use crate::journal::reclaim::Deleted;
use crate::journal::shared::log_ends;
use crate::journal::state::StateKey;
use crate::journal::store::{StoreBatch, keys};
use crate::model::{Log, OwnerId, StreamId};

/// What a commit writes beside chunks and pages; each key once.
#[derive(Default)]
pub(super) struct Written {
    pub(super) state: FxHashMap<StateKey, Option<Bytes>>,
    pub(super) extents: FxHashMap<StreamId, Extent>,
}

impl Written {
    pub(super) fn put_into(&self, batch: &mut StoreBatch<'_>) {
        for (key, value) in &self.state {
            match value {
                Some(value) => batch.put_state(key, value),
                None => batch.remove_state(key),
            }
        }
        for (stream, extent) in &self.extents {
            batch.put_state(&keys::extent(*stream), &extent.encode());
        }
    }
}

impl<M: Machine> Writer<M> {
    /// Streams whose tails are to be written with this commit: the old ones, and those that this
    /// commit would make longer than a page.
    pub(super) fn due_pages(&mut self, packed: &[Packed]) -> Vec<StreamId> {
        let mut due: Vec<_> = self.pages.iter_mut().flat_map(PageQueue::take_due).collect();
        for Packed { chunk, blocks } in packed {
            for ((stream, _), (known, _)) in chunk.entries.iter().zip(blocks) {
                let index = known.read_index();
                if index.tail.len() < PAGE_ENTRIES || !self.streams.contains_key(stream) {
                    continue;
                }
                if !due.contains(stream) {
                    let first = index.tail.front().map(|entry| entry.sequence);
                    let queue = &mut self.pages[known.log as usize];
                    first.into_iter().for_each(|first| queue.remove(first, *stream));
                    due.push(*stream);
                }
            }
        }
        due
    }

    /// Puts tails into a batch as pages, if the machine covers the effects of their blocks; the
    /// others are left out of `streams` and stay tails. With `all` they are put as pages, too, but
    /// their streams' extents stay behind, so that the first start of a copy reads the blocks
    /// again.
    pub(super) fn put_pages(
        &mut self,
        streams: &mut Vec<StreamId>,
        all: bool,
        batch: &mut StoreBatch<'_>,
        written: &mut Written,
    ) {
        streams.retain(|stream| {
            let covered = self.put_page(*stream, all, batch, written);
            if !covered && let Some(known) = self.streams.get(stream) {
                let first = known.read_index().tail.front().map(|entry| entry.sequence);
                let queue = &mut self.pages[known.log as usize];
                first.into_iter().for_each(|first| queue.hold(first, *stream));
            }
            covered
        });
    }

    fn put_page(
        &mut self,
        stream: StreamId,
        all: bool,
        batch: &mut StoreBatch<'_>,
        written: &mut Written,
    ) -> bool {
        let Some(known) = self.streams.get(&stream) else { return true };
        let known = known.clone();
        let extent = known.read_index().extent;
        let covered = self.cover(stream, extent.first, written);
        let index = known.read_index();
        let page = match covered {
            true => index.page(),
            // A copy is to hold everything that its first start has to read.
            false => index.whole_page().filter(|_| all),
        };
        if covered {
            written.extents.insert(stream, extent);
        }
        page.iter().for_each(|page| batch.put_page(stream, page));
        covered
    }

    /// Has the machine put the effects of the stream's blocks into the commit's state.
    pub(super) fn cover(&mut self, stream: StreamId, first: u64, written: &mut Written) -> bool {
        let mut unit = self.take_unit();
        let streams = &self.streams;
        let last = |stream: StreamId| last_number(streams, stream);
        let covered = self.machine.cover(stream, first, &last, &mut unit);
        // All requests of the commit have been applied, so this is the newest state.
        written.state.extend(unit.state.drain(..));
        self.put_back_unit(unit);
        covered
    }

    /// Makes a completed commit visible to readers.
    pub(super) fn enter_into_index(&mut self, packed: &[Packed], paged: &[StreamId]) {
        for stream in paged {
            let Some(known) = self.streams.get(stream) else { continue };
            let mut index = known.write_index();
            if let Some(first) = index.tail.front() {
                self.pages[known.log as usize].remove(first.sequence, *stream);
            }
            // Entries that no page keeps are not needed any more.
            let mut usage = self.shared.log(known.log).lock_usage();
            let unknown = index.tail.iter().filter(|entry| !entry.is_indexed());
            unknown.for_each(|entry| usage.remove(entry.sequence, entry.weight()));
            index.tail.clear();
        }
        for Packed { chunk, blocks } in packed {
            let log = chunk.place.log;
            let mut weight = 0;
            for ((stream, entry), (known, _)) in chunk.entries.iter().zip(blocks) {
                // A stream deleted by this very commit has no index any more.
                if !self.going.is_empty() && !self.streams.contains_key(stream) {
                    continue;
                }
                let mut index = known.write_index();
                if index.tail.is_empty() {
                    self.pages[log as usize].insert(entry.sequence, *stream);
                }
                assert!(index.push(*entry), "a machine gives offsets without holes");
                weight += entry.weight();
            }
            self.shared.log(log).lock_usage().add(chunk.place.sequence, weight);
        }
    }

    /// Hands streams that a commit has deleted to reclaiming. Their blocks of that very commit are
    /// in no index and are not counted.
    pub(super) fn note_deleted(&mut self, deleted: &[OwnerId]) {
        let ends = log_ends(&self.positions);
        for owner in deleted {
            let (mut first, mut tail, mut log) = (0, Vec::new(), Log::Blocks);
            if let Some(state) = self.going.remove(owner) {
                let index = state.read_index();
                (first, log) = (index.extent.first, state.log);
                tail = index.tail.iter().copied().collect();
            }
            let deleted = Deleted { ends, log, counted: true, first, tail, reclaimed: false };
            self.shared.lock_deleted().insert(*owner, deleted);
        }
    }
}
