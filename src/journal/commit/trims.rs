//! Moving low watermarks: offsets that a unit gives up, and those that reclaiming found too old.

use rustc_hash::FxHashMap;

use super::Writer;
use super::pages::Written;
use crate::journal::JournalError;
use crate::journal::command::Trim;
use crate::journal::index::{Extent, IndexEntry, StreamIndex};
use crate::journal::machine::Machine;
use crate::journal::reclaim;
use crate::journal::store::StoreBatch;
use crate::model::StreamId;

impl<M: Machine> Writer<M> {
    /// Offsets that units give up, as trims.
    pub(super) fn trims(
        &self,
        wanted: &FxHashMap<StreamId, u64>,
    ) -> Result<Vec<Trim>, JournalError> {
        let mut trims = Vec::new();
        for (stream, first) in wanted {
            let Some(known) = self.streams.get(stream) else { continue };
            let below = |entry: &IndexEntry, _: u64| entry.end_offset() <= *first;
            let found = reclaim::walk(&self.shared.store, *stream, known, below)?;
            trims.extend(found.trim);
        }
        Ok(trims)
    }

    /// Puts low watermarks, if the machine covers the effects of the blocks below them; the others
    /// are left out of `trims`.
    pub(super) fn put_trims(
        &mut self,
        trims: &mut Vec<Trim>,
        batch: &mut StoreBatch<'_>,
        written: &mut Written,
    ) {
        trims.retain(|Trim { stream, from, first, bytes_before, pages, .. }| {
            let Some(known) = self.streams.get(stream) else { return false };
            if known.read_index().extent.first != *from {
                // Another trim has moved it further.
                return false;
            }
            let paged = written.extents.get(stream).copied();
            let end = paged.unwrap_or_else(|| end_of_known(&known.read_index(), *first));
            if !self.cover(*stream, *first, written) {
                return false;
            }
            let extent = Extent { first: *first, bytes_before_first: *bytes_before, ..end };
            written.extents.insert(*stream, extent);
            pages.iter().for_each(|page| batch.remove_page(*stream, *page));
            true
        });
    }

    /// Makes durable low watermarks visible to readers.
    pub(super) fn trimmed(&mut self, trims: &[Trim]) {
        for Trim { stream, first, bytes_before, gone, .. } in trims {
            let Some(known) = self.streams.get(stream) else { continue };
            let log = known.log;
            {
                let mut usage = self.shared.log(log).lock_usage();
                gone.iter().for_each(|entry| usage.remove(entry.sequence, entry.weight()));
            }
            let mut index = known.write_index();
            let before = index.tail.front().map(|entry| entry.sequence);
            index.trim(*first, *bytes_before);
            let after = index.tail.front().map(|entry| entry.sequence);
            drop(index);
            let queue = &mut self.pages[log as usize];
            if before != after {
                before.into_iter().for_each(|first| queue.remove(first, *stream));
                after.into_iter().for_each(|first| queue.insert(first, *stream));
            }
        }
        if !trims.is_empty() {
            // Removed blocks need no page any more. The floor that follows is durable before
            // anything is dropped.
            self.show_indexed();
        }
    }
}

/// The stream's end as far as pages and the low watermark show: what the tail holds beyond them is
/// read again by a start.
fn end_of_known(index: &StreamIndex, first: u64) -> Extent {
    let mut extent = index.extent;
    let mut left = index.tail.iter().filter(|entry| !entry.is_below(first));
    if let Some(front) = left.next() {
        let bytes = u64::from(front.bytes) + left.map(|entry| u64::from(entry.bytes)).sum::<u64>();
        let paged = index.tail.front().map_or(0, |entry| entry.base_offset);
        extent.head = paged.max(first);
        extent.number = front.number - 1;
        extent.bytes = extent.bytes.saturating_sub(bytes);
    }
    extent
}
