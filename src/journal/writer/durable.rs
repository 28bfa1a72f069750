//! How far the journal is safe: syncing, saying so, and leaving it in order.

use super::Writer;
use crate::journal::JournalError;
use crate::journal::positions::Positions;
use crate::journal::watermark::Extent;
use crate::model::Sequence;

impl Writer {
    /// Makes everything committed durable.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        {
            let _in_store = self.watchdog.enter();
            self.shared.store.sync()?;
        }
        self.made_durable()
    }

    pub(super) fn made_durable(&mut self) -> Result<(), JournalError> {
        self.positions.durable_commits = self.positions.commits;
        self.sync_at = None;
        self.watermark.note(self.extent())
    }

    pub(super) fn extent(&self) -> Extent {
        let Positions { commits, durable_commits, next_sequence, .. } = self.positions;
        Extent { commits, durable_commits, next_sequence }
    }

    /// Writes every tail out, so that no chunk is known to memory alone.
    pub(super) fn write_tails(&mut self) -> Result<(), JournalError> {
        let tails = self.pages.all();
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        self.put_pages(&mut batch, &tails);
        self.write(batch, Sequence(self.positions.next_sequence), None, false)?;
        self.enter_into_index(&[], &tails);
        Ok(())
    }

    /// Gives back what was reserved, leaves the next start nothing to read, and syncs.
    pub(super) fn close(&mut self) -> Result<(), JournalError> {
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        for known in self.catalogue.topics_mut() {
            if known.record.reserved > known.next_offset {
                known.record.reserved = known.next_offset;
                batch.put_topic(&known.record);
            }
        }
        let indexed = self.pages.first_unpaged(&[]).map(|s| s.0);
        self.write(batch, Sequence(self.positions.next_sequence), indexed, false)?;
        self.write_tails()?;
        self.sync()?;
        self.watermark.close(self.extent())
    }
}
