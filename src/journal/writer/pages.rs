//! The writer and the index: which tails go out with a commit, and what it adds to them.

use super::Writer;
use super::commit::{Commit, Removed};
use crate::journal::chunk::Chunk;
use crate::journal::page::{PAGE_ENTRIES, Page};
use crate::journal::retention::Deleted;
use crate::journal::store::StoreBatch;
use crate::model::{Sequence, TopicId};

impl Writer {
    /// Tails to write out with this commit: the old ones, and those that this commit would make
    /// longer than a page.
    pub(super) fn due_pages(&self, chunks: &[Chunk]) -> Vec<TopicId> {
        let mut due = self.pages.due();
        for entry in chunks.iter().flat_map(|chunk| &chunk.entries) {
            let Some(known) = self.catalogue.get(entry.topic) else { continue };
            if known.state.read_index().tail.len() >= PAGE_ENTRIES && !due.contains(&entry.topic) {
                due.push(entry.topic);
            }
        }
        due
    }

    /// Puts tails into a batch as pages, and the message ids that came with them.
    pub(super) fn put_pages(&mut self, batch: &mut StoreBatch<'_>, topics: &[TopicId]) {
        let number = self.positions.commits + 1;
        for topic in topics {
            let Some(known) = self.catalogue.get_mut(*topic) else { continue };
            let page: Option<Page> = known.state.read_index().page();
            if let Some(page) = page {
                batch.put_page(*topic, &page);
            }
            if let Some(piece) = known.dedup.save(number) {
                batch.put_ids(*topic, number, &piece);
            }
        }
    }

    /// Shows a commit that has returned to readers.
    pub(super) fn enter_into_index(&mut self, chunks: &[Chunk], paged: &[TopicId]) {
        for topic in paged {
            let Some(known) = self.catalogue.get(*topic) else { continue };
            let mut index = known.state.write_index();
            if let Some(first) = index.tail.front() {
                self.pages.remove(first.sequence, *topic);
            }
            index.tail.clear();
        }
        let mut ledger = self.shared.lock_ledger();
        for entry in chunks.iter().flat_map(|chunk| &chunk.entries) {
            // A topic deleted by this very commit has no index any more.
            let Some(known) = self.catalogue.get(entry.topic) else { continue };
            let mut index = known.state.write_index();
            if index.tail.is_empty() {
                self.pages.insert(entry.entry.sequence, entry.topic);
            }
            let next = index.push(entry.entry);
            assert!(next, "the writer gives offsets without holes");
            ledger.add(&entry.entry);
        }
    }

    /// Tells retention of topics that a commit has deleted. Their blocks of that very commit are in
    /// no index and count for nothing.
    pub(super) fn note_deleted(&self, commit: &Commit, chunks: &[Chunk]) {
        let end = Sequence(self.positions.next_sequence);
        for Removed { id, state, .. } in &commit.topics_removed {
            let index = state.read_index();
            let (first, tail) = (index.first, index.tail.iter().copied().collect());
            let deleted = Deleted { end, counted: true, first, tail, reclaimed: false };
            self.shared.lock_deleted().insert(*id, deleted);
        }
        debug_assert!(chunks.iter().all(|chunk| chunk.sequence < end));
    }
}
