//! Disk and inodes reserved for what must continue when other programs have filled the disk:
//! deletions, settings, retention, backups, a stop and a start.
//!
//! `DIR/reserve/space` is a preallocated file, `DIR/reserve/N` are empty ones. They are released
//! piece by piece when less is free than the next writes may need, and reserved again when there is
//! room. What other programs take of a piece before the store does is lost to it: a disk that they
//! keep filling is full in the end.
//!
//! Invariants: nothing here is ever read, and losing it loses nothing; a released piece is free
//! when the call returns.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Its folder in the data directory.
pub(super) const FOLDER: &str = "reserve";
/// The file that holds room.
const SPACE: &str = "space";
/// Empty files, which reserve inodes.
const INODES: u64 = 32;
/// The size released at once, and reserved at once if the file system can't preallocate.
const STEP_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    folder: PathBuf,
    /// The size to reserve.
    bytes_max: u64,
    bytes: u64,
    inodes: u64,
}

impl Reserve {
    /// What an earlier run left of it.
    pub(super) fn find(directory: &Path, bytes_max: u64) -> Self {
        let folder = directory.join(FOLDER);
        let bytes = std::fs::metadata(folder.join(SPACE)).map_or(0, |space| space.len());
        let held = |n: &u64| folder.join(n.to_string()).exists();
        let inodes = (0..INODES).take_while(held).count() as u64;
        Self { folder, bytes_max, bytes, inodes }
    }

    /// Room that is missing from it.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// Inodes that are missing from it.
    pub(super) fn missing_inodes(&self) -> u64 {
        if self.bytes_max == 0 { 0 } else { INODES - self.inodes }
    }

    /// Frees at least N bytes, as far as the reserve has them.
    pub(super) fn give_up(&mut self, bytes: u64) {
        let left = self.bytes.saturating_sub(bytes.next_multiple_of(STEP_BYTES));
        if self.bytes == 0 {
            return;
        }
        let shorten = || {
            let space = OpenOptions::new().write(true).open(self.folder.join(SPACE))?;
            space.set_len(left)?;
            // Some file systems free blocks with their next commit only.
            space.sync_all()
        };
        match shorten() {
            Ok(()) => {
                let given_up = self.bytes - left;
                tracing::warn!(given_up, left, "the disk is full: releasing reserved room");
                self.bytes = left;
            }
            Err(error) => tracing::error!(%error, "the reserve can't be released"),
        }
    }

    /// Frees all inodes.
    pub(super) fn give_up_inodes(&mut self) {
        if self.inodes == 0 {
            return;
        }
        tracing::warn!("no inodes are left on the disk: releasing the reserved ones");
        for n in 0..self.inodes {
            // A file that is gone counts as free.
            let _ = std::fs::remove_file(self.folder.join(n.to_string()));
        }
        self.inodes = 0;
    }

    /// Reserves room and inodes, at once or, if the file system can't preallocate, a piece; true
    /// when nothing is missing any more.
    ///
    /// # Errors
    /// The file system has no more room, or can't be written.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.missing_bytes() == 0 && self.missing_inodes() == 0 {
            return Ok(true);
        }
        match std::fs::create_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        while self.inodes < INODES {
            File::create(self.folder.join(self.inodes.to_string()))?;
            self.inodes += 1;
        }
        let path = self.folder.join(SPACE);
        let space = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let missing = self.missing_bytes();
        if missing == 0 {
            return Ok(true);
        }
        match fallocate(&space, FallocateFlags::empty(), self.bytes, missing) {
            Ok(()) => self.bytes = self.bytes_max,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let piece = vec![0; missing.min(STEP_BYTES) as usize];
                space.write_all_at(&piece, self.bytes)?;
                self.bytes += piece.len() as u64;
            }
            Err(error) => {
                // What a failed call has reserved is released.
                space.set_len(self.bytes)?;
                return Err(error.into());
            }
        }
        Ok(self.missing_bytes() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated(directory: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(directory.join(FOLDER).join(SPACE)).unwrap().blocks() * 512
    }

    #[test]
    fn what_is_kept_back_is_really_there_until_it_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::find(directory.path(), 16 << 20);
        assert_eq!((reserve.missing_bytes(), reserve.missing_inodes()), (16 << 20, INODES));
        while !reserve.fill().unwrap() {}
        assert!(allocated(directory.path()) >= 16 << 20);
        let mut reserve = Reserve::find(directory.path(), 16 << 20);
        assert_eq!((reserve.missing_bytes(), reserve.missing_inodes()), (0, 0));
        reserve.give_up(1);
        assert_eq!((reserve.missing_bytes(), allocated(directory.path())), (1 << 20, 15 << 20));
        reserve.give_up(u64::MAX / 2);
        reserve.give_up_inodes();
        assert_eq!(allocated(directory.path()), 0);
        assert_eq!(std::fs::read_dir(directory.path().join(FOLDER)).unwrap().count(), 1);
        while !reserve.fill().unwrap() {}
        assert!(reserve.missing_inodes() == 0 && allocated(directory.path()) >= 16 << 20);
    }

    #[test]
    fn a_reserve_of_nothing_makes_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::find(directory.path(), 0);
        assert!(reserve.fill().unwrap());
        reserve.give_up(1);
        reserve.give_up_inodes();
        assert!(!directory.path().join(FOLDER).exists());
    }
}
