//! Disk and inodes kept back for what must go on when others have filled the disk: deletions,
//! settings, retention, backups, a stop and a start.
//!
//! `DIR/reserve/space` is a preallocated file, `DIR/reserve/N` are empty ones. They are given up piece by
//! piece where less is free than the next writes may need, and taken again when there is room. What
//! others take of a piece before the store does is lost to it: a disk that somebody keeps filling is
//! full in the end.
//!
//! Invariants: nothing here is ever read, and losing it loses nothing; a piece given up is free when the
//! call returns.

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
/// Empty files, which hold inodes.
const INODES: u64 = 32;
/// What is given up at once, and taken at once where the file system can't preallocate.
const STEP_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    folder: PathBuf,
    /// What it is to hold.
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

    /// Room that it should hold and does not.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// Inodes that it should hold and does not.
    pub(super) fn missing_inodes(&self) -> u64 {
        if self.bytes_max == 0 { 0 } else { INODES - self.inodes }
    }

    /// Frees at least so much, as far as there is so much.
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
                tracing::warn!(
                    given_up,
                    left,
                    "the disk is full: giving up room kept back for that"
                );
                self.bytes = left;
            }
            Err(error) => tracing::error!(%error, "room kept back can't be given up"),
        }
    }

    /// Frees all inodes.
    pub(super) fn give_up_inodes(&mut self) {
        if self.inodes == 0 {
            return;
        }
        tracing::warn!("no inodes are left on the disk: giving up those kept back for that");
        for n in 0..self.inodes {
            // One that is gone is free.
            let _ = std::fs::remove_file(self.folder.join(n.to_string()));
        }
        self.inodes = 0;
    }

    /// Takes room and inodes, at once or, where the file system can't preallocate, a piece; true when
    /// nothing is missing any more.
    ///
    /// # Errors
    /// The file system has no more room for us, or can't be written.
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
                // What a failed call has taken is given back.
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
