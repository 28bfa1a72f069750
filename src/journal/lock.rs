//! One process a data directory.
//!
//! Invariant: the lock is taken before anything else in the directory is read, and held until the
//! journal has stopped. It is the kernel's (flock), so it goes with the process however that dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::Arc;

use super::JournalError;
use super::files::sync_folder;

/// Holds the data directory.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
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
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked(directory.to_owned())),
            Err(TryLockError::Error(e)) => Err(failed(&path, e)),
        }
    }
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
}
