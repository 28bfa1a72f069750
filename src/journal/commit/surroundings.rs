//! What the writer checks beside its commands: deadlines, the disk, the directory, the time.
//!
//! Invariant: a commit is answered only while the directory is the one that was locked.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Writer;
use crate::journal::machine::{Machine, Now};
use crate::journal::{AppendRefused, JournalError};

/// How often an idle writer checks its surroundings; a kill costs the journal's age at most this.
const TICK: Duration = Duration::from_millis(200);

impl<M: Machine> Writer<M> {
    /// When to check next if no command arrives.
    pub(super) fn tick_at(&self) -> Instant {
        self.ticked + TICK
    }

    /// Does what fell due while no command arrived.
    pub(super) fn on_time(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync()?;
        }
        if self.watermark.sync_at().is_some_and(|at| at <= now) {
            self.watermark.sync()?;
        }
        if self.ticked + TICK <= now {
            self.tick()?;
        }
        Ok(())
    }

    /// Checks the disk and the directory, and records the journal's age.
    fn tick(&mut self) -> Result<(), JournalError> {
        self.ticked = Instant::now();
        if !self.lock.holds_all() {
            return Err(self.directory_gone());
        }
        self.space.make_room(self.flushing_bytes());
        self.look_at_space();
        self.watermark.note_age(self.age.now_ms())
    }

    /// At most what tables that are being written may take.
    pub(super) fn flushing_bytes(&self) -> u64 {
        self.shared.store.sealed_memtables() as u64 * self.memtable_bytes
    }

    /// What is written into a directory that was removed is lost.
    pub(super) fn check_directory(&self) -> Result<(), JournalError> {
        match self.lock.holds() {
            true => Ok(()),
            false => Err(self.directory_gone()),
        }
    }

    fn directory_gone(&self) -> JournalError {
        JournalError::DirectoryGone(self.lock.directory().to_owned())
    }

    fn look_at_space(&mut self) -> Option<AppendRefused> {
        let refusal = self.space.refusal(self.shared.store.unflushed_bytes());
        self.shared.storage_full.store(refusal.is_some(), Ordering::Relaxed);
        self.shared.free_bytes.store(self.space.free_bytes(), Ordering::Relaxed);
        refusal
    }

    /// The moment that a commit's requests are decided by.
    pub(super) fn now(&mut self) -> Now {
        let (age_ms, time) = (self.age.now_ms(), self.clock.now());
        Now { age_ms, time, full: self.look_at_space() }
    }
}
