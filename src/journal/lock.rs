//! One process a data directory.
//!
//! Invariant: the lock is taken before anything else in the directory is read, and held until the
//! journal has stopped. It is the kernel's (flock), so it goes with the process however that dies.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::files::sync_folder;

/// Holds the data directory.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
    path: PathBuf,
    /// The store's folder, and which one it was.
    store: Option<(PathBuf, [u64; 2])>,
}

impl DirectoryLock {
    pub(super) fn acquire(directory: &Path) -> Result<Self, JournalError> {
        let failed = |path: &Path, error| JournalError::Directory {
            path: path.to_owned(),
            error: Arc::new(error),
        };
        if !directory.is_dir() {
            std::fs::create_dir_all(directory).map_err(|e| failed(directory, e))?;
            sync_folder(directory).map_err(|e| failed(directory, e))?;
        }
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| failed(&path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path, store: None }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked(directory.to_owned())),
            Err(TryLockError::Error(e)) => Err(failed(&path, e)),
        }
    }

    /// The directory, by the name it was locked under.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// From now on [`Self::holds`] asks for this folder, too.
    pub(super) fn watch(&mut self, folder: PathBuf) {
        let found = std::fs::metadata(&folder).ok();
        self.store = found.map(|found| (folder, identity(&found)));
    }

    /// The directory is still the one that was locked: nobody has removed, renamed or replaced it.
    pub(super) fn holds(&self) -> bool {
        let same = |path: &Path, expected| {
            std::fs::metadata(path).is_ok_and(|found| identity(&found) == expected)
        };
        let locked = self.file.metadata().is_ok_and(|file| same(&self.path, identity(&file)));
        locked && self.store.as_ref().is_none_or(|(path, expected)| same(path, *expected))
    }
}

/// Which file it is, whatever it is called.
fn identity(file: &Metadata) -> [u64; 2] {
    [file.dev(), file.ino()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_until_it_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(directory.path()).unwrap();
        let second = DirectoryLock::acquire(directory.path());
        assert!(matches!(second, Err(JournalError::Locked(_))));
        drop(lock);
        DirectoryLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_removed_renamed_or_replaced_is_not_held_any_more() {
        let parent = tempfile::tempdir().unwrap();
        let (path, away) = (parent.path().join("data"), parent.path().join("away"));
        let acquire = || {
            let mut lock = DirectoryLock::acquire(&path).unwrap();
            std::fs::create_dir_all(path.join("journal")).unwrap();
            lock.watch(path.join("journal"));
            assert!(lock.holds());
            lock
        };
        let lock = acquire();
        std::fs::rename(&path, &away).unwrap();
        assert!(!lock.holds(), "renamed");
        let successor = acquire();
        assert!(!lock.holds(), "replaced");
        std::fs::remove_dir_all(path.join("journal")).unwrap();
        assert!(!successor.holds(), "without the store");
        std::fs::remove_dir_all(&path).unwrap();
        assert!(!successor.holds(), "removed");
    }
}
