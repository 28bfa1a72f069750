//! Stopping before the disk is full.
//!
//! fjall ends for good at the first write that finds no room, so publishing is refused while there
//! is still room for what was accepted: what is in memory and has yet to be written as tables, and
//! `storage.free_bytes_min` (an eighth of the file system, if that is less) to spare. Reads,
//! deletions and retention continue. If other programs have filled the disk these use the
//! [reserve](Reserve), which is released before a write may need it. Publishing resumes by itself
//! once there is room again.
//!
//! A file system can refuse room that it reports as free (a quota). That shows when the reserve
//! can't be completed; publishing is refused then, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::StatVfs;

use crate::journal::reserve::Reserve;
use crate::journal::{AppendRefused, JournalError, StorageSettings};

/// How old a measurement of the disk may be.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How many bytes may be written before the next measurement.
const LOOK_AGAIN_BYTES: usize = 4 * 1024 * 1024;
/// What should be free for the next write, beside what is being written as tables.
const WORKING_BYTES: u64 = 1 << 20;
/// The share of a small file system that this may be, and the share that the reserve may be.
const WORKING_SHARE: u64 = 64;
const RESERVE_SHARE: u64 = 8;
/// Inodes that must be free for publishing to continue; tables, WAL files and manifests are files.
const INODES_MIN: u64 = 64;
/// Inodes that the next writes may need.
const WORKING_INODES: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(in crate::journal) struct DiskSpace {
    path: PathBuf,
    free_bytes_min: u64,
    reserve: Reserve,
    /// The reserve could not be completed, though there seemed to be room.
    refused_room: bool,
    looked: Option<Instant>,
    written: usize,
    refusal: Option<AppendRefused>,
    free: u64,
}

impl DiskSpace {
    /// To be made before the store is opened; releases what opening it may need. `wal_bytes` is
    /// what becomes tables then.
    pub(in crate::journal) fn new(settings: &StorageSettings, wal_bytes: u64) -> Self {
        let path = settings.path.clone();
        let total = look(&path).map_or(0, |found| total_bytes(&found));
        let reserve = Reserve::find(&path, settings.reserve_bytes.min(total / RESERVE_SHARE));
        let mut space = Self {
            path,
            free_bytes_min: settings.free_bytes_min,
            reserve,
            refused_room: false,
            looked: None,
            written: 0,
            refusal: None,
            free: 0,
        };
        // What the WAL holds may become tables.
        space.make_room(wal_bytes.saturating_add(WORKING_BYTES));
        space
    }

    /// Counts what was written.
    pub(super) fn written(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Bytes that were free at the last measurement.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free
    }

    /// Releases some of the reserve if the next write may need it. `flushing` is what is being
    /// written as tables.
    pub(super) fn make_room_to_write(&mut self, flushing: u64) {
        let Ok(found) = look(&self.path) else { return };
        let working = WORKING_BYTES.min(total_bytes(&found) / WORKING_SHARE);
        self.make_room_on(&found, working.saturating_add(flushing));
    }

    /// Releases some of the reserve if less than this is free. Other programs may take what is
    /// released without need.
    pub(super) fn make_room(&mut self, needed: u64) {
        if let Ok(found) = look(&self.path) {
            self.make_room_on(&found, needed);
        }
    }

    fn make_room_on(&mut self, found: &StatVfs, needed: u64) {
        let free = free_bytes(found);
        if free < needed {
            self.reserve.give_up(needed - free);
        }
        if found.f_files > 0 && found.f_favail < WORKING_INODES {
            self.reserve.give_up_inodes();
        }
    }

    /// Why nothing more can be accepted now, if so. Measures the disk when the last measurement is
    /// old.
    pub(super) fn refusal(&mut self, unflushed: u64) -> Option<AppendRefused> {
        let recent = self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN_AFTER);
        if !recent || self.written >= LOOK_AGAIN_BYTES {
            self.looked = Some(Instant::now());
            self.written = 0;
            self.look(unflushed);
        }
        self.refusal
    }

    fn look(&mut self, unflushed: u64) {
        let was_full = self.refusal.is_some();
        // A file system that does not report it is not full.
        self.refusal = look(&self.path).ok().and_then(|found| self.judge(&found, unflushed));
        match &self.refusal {
            Some(why) if !was_full => tracing::error!(%why, "publishing is refused"),
            None if was_full => tracing::info!("there is room on the disk again"),
            _ => {}
        }
    }

    fn judge(&mut self, found: &StatVfs, unflushed: u64) -> Option<AppendRefused> {
        let (free, total) = (free_bytes(found), total_bytes(found));
        self.free = free;
        let needed = self.free_bytes_min.min(total / 8).saturating_add(unflushed);
        if free < needed {
            return Some(AppendRefused::StorageFull { free, needed });
        }
        let inodes = (found.f_files > 0).then_some(found.f_favail);
        if let Some(free) = inodes.filter(|free| *free < INODES_MIN) {
            return Some(AppendRefused::NoInodes { free, needed: INODES_MIN });
        }
        let missing = self.reserve.missing_bytes();
        let room = free >= needed.saturating_add(missing)
            && inodes.is_none_or(|free| free >= INODES_MIN + self.reserve.missing_inodes());
        self.refused_room = room && self.reserve.fill().is_err();
        self.refused_room.then_some(AppendRefused::NoRoomGiven { free, needed: missing })
    }
}

fn free_bytes(found: &StatVfs) -> u64 {
    found.f_bavail * found.f_frsize
}

fn total_bytes(found: &StatVfs) -> u64 {
    found.f_blocks * found.f_frsize
}

fn look(path: &Path) -> Result<StatVfs, JournalError> {
    rustix::fs::statvfs(path).map_err(|error| JournalError::Directory {
        path: path.to_owned(),
        error: Arc::new(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> (DiskSpace, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let settings =
            StorageSettings { path: directory.path().to_owned(), ..StorageSettings::default() };
        (DiskSpace::new(&settings, 0), directory)
    }

    #[test]
    fn a_disk_with_too_little_room_is_full_and_says_how_much_is_missing() {
        let (mut space, _directory) = space();
        let total = total_bytes(&look(&space.path).unwrap());
        space.look(0);
        assert!(space.refusal.is_none());
        assert_eq!(space.reserve.missing_bytes(), 0, "it is filled where there is room");
        space.look(total + 1);
        let Some(AppendRefused::StorageFull { free, needed }) = space.refusal else { panic!() };
        assert!(free < needed);
        space.look(0);
        assert!(space.refusal.is_none(), "it goes on by itself");
    }

    #[test]
    fn the_reserve_is_given_up_before_a_write_may_need_it_and_taken_again() {
        let (mut space, _directory) = space();
        space.look(0);
        let found = look(&space.path).unwrap();
        space.make_room(free_bytes(&found) + (1 << 30));
        assert!(space.reserve.missing_bytes() > 0);
        space.look(total_bytes(&found));
        assert!(space.reserve.missing_bytes() > 0, "not while the disk is full");
        space.look(0);
        assert_eq!(space.reserve.missing_bytes(), 0);
    }

    #[test]
    fn a_disk_without_inodes_is_full() {
        let (mut space, _directory) = space();
        let found = StatVfs { f_files: 1_000, f_favail: 10, ..look(&space.path).unwrap() };
        let refusal = space.judge(&found, 0);
        assert_eq!(refusal, Some(AppendRefused::NoInodes { free: 10, needed: INODES_MIN }));
        let unlimited = StatVfs { f_files: 0, f_favail: 0, ..found };
        assert_eq!(space.judge(&unlimited, 0), None, "some file systems have no such limit");
    }
}
