//! What retention asks of the writer: commits of their own.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Writer;
use crate::journal::JournalError;
use crate::journal::chunk::{self, Chunk};
use crate::journal::command::{Housekeeping, Moved, Reclaimed, Trim};
use crate::journal::index::IndexEntry;
use crate::journal::page::Page;
use crate::journal::store::StoreBatch;
use crate::model::Sequence;

/// What follows once the commit has returned.
enum Done {
    Trimmed(Vec<Trim>),
    Moved(Vec<Moved>, Chunk),
    Other,
}

impl Writer {
    /// Does a piece of housekeeping and answers.
    pub(super) fn keep_house(
        &mut self,
        work: Housekeeping,
        reply: oneshot::Sender<Result<(), JournalError>>,
    ) -> Result<(), JournalError> {
        if matches!(work, Housekeeping::Floor(..))
            && self.shared.backups.load(Ordering::Acquire) > 0
        {
            // The copy's pages may point below the floor.
            let _ = reply.send(Err(JournalError::Held));
            return Ok(());
        }
        let done = self.housekeeping(work);
        // Whoever asked may have gone; then nobody needs to know.
        let _ = reply.send(done.clone());
        done
    }

    fn housekeeping(&mut self, work: Housekeeping) -> Result<(), JournalError> {
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        let mut next_sequence = Sequence(self.positions.next_sequence);
        let mut done = Done::Other;
        let sync = matches!(work, Housekeeping::Floor(..));
        match work {
            Housekeeping::Trim(trims) => {
                self.put_trims(&mut batch, &trims);
                done = Done::Trimmed(trims);
            }
            Housekeeping::Move(mut moved) => {
                // A topic may have been deleted meanwhile; its blocks are not to come back.
                moved.retain(|moved| self.catalogue.get(moved.topic).is_some());
                if moved.is_empty() {
                    return Ok(());
                }
                let stored = moved.iter().map(|moved| (moved.topic, moved.entry, &moved.body));
                let chunk = chunk::encode_again(next_sequence, stored);
                self.put_moved(&mut batch, &chunk, &moved)?;
                next_sequence = next_sequence.next();
                done = Done::Moved(moved, chunk);
            }
            Housekeeping::Reclaim(reclaimed) => put_reclaimed(&mut batch, &reclaimed),
            Housekeeping::Floor(floor, forgotten) => {
                self.positions.floor_sequence = floor.0;
                forgotten.iter().for_each(|topic| batch.forget_topic(*topic));
            }
            Housekeeping::WriteTails => return self.write_tails(),
            Housekeeping::NoteAge => {}
        }
        let indexed = self.pages.first_unpaged(&[]).map(|s| s.0);
        // Only what can't be taken back has to be durable, and with it is all that came before.
        self.write(batch, next_sequence, indexed, sync)?;
        match done {
            Done::Trimmed(trims) => self.trim(&trims),
            Done::Moved(moved, chunk) => {
                let mut ledger = self.shared.lock_ledger();
                moved.iter().for_each(|moved| ledger.remove(&moved.entry));
                chunk.entries.iter().for_each(|now| ledger.add(&now.entry));
            }
            Done::Other => {}
        }
        Ok(())
    }

    fn put_trims(&mut self, batch: &mut StoreBatch<'_>, trims: &[Trim]) {
        let number = self.positions.commits + 1;
        for Trim { topic, low, pages, .. } in trims {
            let Some(known) = self.catalogue.get_mut(*topic) else { continue };
            batch.put_low(*topic, *low);
            // Blocks that go before any page knew them take their message ids with them.
            if let Some(piece) = known.dedup.save(number) {
                batch.put_ids(*topic, number, &piece);
            }
            pages.iter().for_each(|base| batch.remove_page(*topic, *base));
        }
    }

    /// Shows readers the low watermarks that are durable now.
    fn trim(&mut self, trims: &[Trim]) {
        for Trim { topic, low, gone, .. } in trims {
            let Some(known) = self.catalogue.get_mut(*topic) else { continue };
            known.record.gaps.retain(|gap| gap.to >= low.first);
            let mut ledger = self.shared.lock_ledger();
            gone.iter().for_each(|entry| ledger.remove(entry));
            drop(ledger);
            let mut index = known.state.write_index();
            let before = index.tail.front().map(|entry| entry.sequence);
            index.trim(low.first, low.bytes_before);
            let after = index.tail.front().map(|entry| entry.sequence);
            drop(index);
            if before != after {
                before.into_iter().for_each(|first| self.pages.remove(first, *topic));
                after.into_iter().for_each(|first| self.pages.insert(first, *topic));
            }
        }
    }

    /// The moved blocks, and their pages as they are from now on.
    fn put_moved(
        &self,
        batch: &mut StoreBatch<'_>,
        chunk: &Chunk,
        moved: &[Moved],
    ) -> Result<(), JournalError> {
        batch.put_chunk(chunk.sequence, chunk.value.clone());
        let mut page: Option<(usize, Page)> = None;
        for (n, (now, Moved { topic, page: base, .. })) in
            chunk.entries.iter().zip(moved).enumerate()
        {
            let same = page
                .as_ref()
                .is_some_and(|(at, _)| (moved[*at].topic, moved[*at].page) == (*topic, *base));
            if !same {
                if let Some((at, page)) = page.take() {
                    batch.put_page(moved[at].topic, &page);
                }
                page = self.shared.store.page_at(*topic, *base)?.map(|page| (n, page));
            }
            let Some((_, page)) = &mut page else { continue };
            let is_it = |entry: &&mut _| same_block(entry, &now.entry);
            if let Some(entry) = page.entries.iter_mut().find(is_it) {
                *entry = now.entry;
            }
        }
        if let Some((at, page)) = page {
            batch.put_page(moved[at].topic, &page);
        }
        Ok(())
    }
}

fn same_block(a: &IndexEntry, b: &IndexEntry) -> bool {
    (a.base_offset, a.count, a.crc) == (b.base_offset, b.count, b.crc)
}

fn put_reclaimed(batch: &mut StoreBatch<'_>, reclaimed: &[Reclaimed]) {
    for Reclaimed { topic, pages, ids, producers } in reclaimed {
        pages.iter().for_each(|base| batch.remove_page(*topic, *base));
        ids.iter().for_each(|number| batch.remove_ids(*topic, *number));
        producers.iter().for_each(|name| batch.remove_producer(*topic, name));
    }
}
