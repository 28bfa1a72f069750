//! How far the journal is durable: syncing, recording that, starting and stopping cleanly.

use std::collections::BTreeSet;

use super::Writer;
use super::gathered::Gathered;
use super::pages::Written;
use crate::journal::JournalError;
use crate::journal::index::PageStart;
use crate::journal::machine::{Machine, Now};
use crate::journal::shared::log_ends;
use crate::journal::store::{StoreBatch, keys};
use crate::journal::unit::{SyncNeed, Unit};
use crate::journal::watermark::Extent;
use crate::model::StreamId;

impl<M: Machine> Writer<M> {
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
        Extent { age_ms: self.age.now_ms(), ..Extent::of(&self.positions) }
    }

    /// Records what recovery found, before anything is served: the machine's unit and, if it
    /// `examined` the content, every tail, all in one commit, so that it is found once. `stale`
    /// pages were not built on.
    pub(in crate::journal) fn begin(
        &mut self,
        mut unit: Unit,
        now: Now,
        examined: bool,
        stale: Vec<(StreamId, PageStart)>,
    ) -> Result<(), JournalError> {
        let mut commit = Gathered::new(now, 0);
        let write = examined || !unit.is_empty();
        self.take(&mut unit, &mut commit)?;
        if !write {
            return Ok(());
        }
        commit.examined = examined.then_some(stale);
        commit.need = SyncNeed::Now;
        self.commit(commit)
    }

    /// Records that the content has been examined. The tails of `paged` are written with this
    /// batch.
    pub(super) fn put_examined(
        &mut self,
        stale: &[(StreamId, PageStart)],
        paged: &[StreamId],
        batch: &mut StoreBatch<'_>,
    ) {
        let mut put = BTreeSet::new();
        for stream in paged {
            let page = self.streams.get(stream).and_then(|known| known.read_index().page());
            put.extend(page.and_then(|page| page.start()).map(|at| (*stream, at)));
        }
        let gone = stale.iter().filter(|page| !put.contains(page));
        gone.for_each(|(stream, start)| batch.remove_page(*stream, *start));
        batch.remove_state(&keys::findings());
        self.positions.examined_commits = self.positions.commits + 1;
    }

    pub(super) fn take_tails(&mut self, held: bool) -> Vec<StreamId> {
        self.pages.iter_mut().flat_map(|queue| queue.take_all(held)).collect()
    }

    /// Writes tails out, so that no chunk is known to memory alone; with `all`, those of streams
    /// that the machine does not cover, too.
    pub(super) fn write_tails(&mut self, all: bool) -> Result<(), JournalError> {
        let tails = self.take_tails(all);
        self.write_pages(tails, all)
    }

    fn write_pages(&mut self, mut tails: Vec<StreamId>, all: bool) -> Result<(), JournalError> {
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        let mut written = Written::default();
        self.put_pages(&mut tails, all, &mut batch, &mut written);
        written.put_into(&mut batch);
        let ends = log_ends(&self.positions);
        let indexed = self.first_unpaged();
        self.write(batch, ends, indexed, false)?;
        self.enter_into_index(&[], &tails);
        self.machine.committed();
        Ok(())
    }

    /// Releases what was reserved, leaves the next start nothing to read, and syncs.
    pub(super) fn close(&mut self) -> Result<(), JournalError> {
        let mut commit = Gathered::new(self.now(), 0);
        let mut unit = self.take_unit();
        self.machine.closing(&mut unit);
        self.take(&mut unit, &mut commit)?;
        self.commit(commit)?;
        self.write_tails(false)?;
        self.sync()?;
        self.watermark.close(self.extent())
    }
}
