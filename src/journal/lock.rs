//! One process a data directory.
//!
//! Invariant: the lock is taken before anything else in the directory is read, and held until the
//! journal has stopped. It is the kernel's (flock), so it ends with the process in any case.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::files::sync_folder;
use super::salvage::newest_wal_file;

/// Holds the data directory.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
    path: PathBuf,
    store: Option<Opened>,
}

/// The store's folder while the store is open.
#[derive(Debug)]
struct Opened {
    folder: Folder,
    /// Those in it that tables are written to.
    tables: Vec<Folder>,
    /// The newest WAL file seen.
    newest_wal: Option<u64>,
}

/// A folder, and its identity.
#[derive(Debug)]
struct Folder(PathBuf, [u64; 2]);

impl Folder {
    fn find(path: PathBuf) -> Option<Self> {
        let found = std::fs::metadata(&path).ok()?;
        Some(Self(path, identity(&found)))
    }

    fn is_there(&self) -> bool {
        std::fs::metadata(&self.0).is_ok_and(|found| identity(&found) == self.1)
    }
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

    /// From now on the store in this folder is checked, too.
    pub(super) fn watch(&mut self, folder: PathBuf) {
        let keyspaces = std::fs::read_dir(folder.join("keyspaces")).into_iter().flatten().flatten();
        let tables = keyspaces.filter_map(|keyspace| Folder::find(keyspace.path().join("tables")));
        let (tables, newest_wal) = (tables.collect(), newest_wal_file(&folder).ok().flatten());
        self.store = Folder::find(folder).map(|folder| Opened { folder, tables, newest_wal });
    }

    /// The store's folder is still the one that was opened, under the same name: neither it nor a
    /// folder above it was removed, renamed or replaced.
    pub(super) fn holds(&self) -> bool {
        self.store.as_ref().is_none_or(|store| store.folder.is_there())
    }

    /// The same of the lock, the folders in the store and the WAL file in use: the store would
    /// otherwise write on into files that no start finds again.
    pub(super) fn holds_all(&mut self) -> bool {
        let is_there = |file: Metadata| Folder(self.path.clone(), identity(&file)).is_there();
        if !self.file.metadata().is_ok_and(is_there) || !self.holds() {
            return false;
        }
        let Some(store) = &mut self.store else { return true };
        // Their numbers grow. A folder that can't be listed now is checked again soon.
        let newest = newest_wal_file(&store.folder.0).unwrap_or(store.newest_wal);
        let kept = newest >= store.newest_wal && store.tables.iter().all(Folder::is_there);
        store.newest_wal = store.newest_wal.max(newest);
        kept
    }
}

/// The file's identity, whatever its name.
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
            std::fs::create_dir_all(path.join("journal/keyspaces/0/tables")).unwrap();
            std::fs::write(path.join("journal/9.jnl"), "").unwrap();
            lock.watch(path.join("journal"));
            assert!(lock.holds() && lock.holds_all());
            lock
        };
        let mut lock = acquire();
        std::fs::write(path.join("journal/10.jnl"), "").unwrap();
        std::fs::remove_file(path.join("journal/9.jnl")).unwrap();
        assert!(lock.holds_all(), "fjall goes on to the next file");
        std::fs::remove_file(path.join("journal/10.jnl")).unwrap();
        assert!(!lock.holds_all(), "without the WAL");
        std::fs::write(path.join("journal/10.jnl"), "").unwrap();
        assert!(lock.holds_all());
        std::fs::remove_dir(path.join("journal/keyspaces/0/tables")).unwrap();
        assert!(!lock.holds_all(), "without a folder of tables");
        std::fs::rename(&path, &away).unwrap();
        assert!(!lock.holds(), "renamed");
        let mut successor = acquire();
        assert!(!lock.holds(), "replaced");
        std::fs::remove_file(path.join("lock")).unwrap();
        assert!(successor.holds() && !successor.holds_all(), "without the lock");
        std::fs::remove_dir_all(path.join("journal")).unwrap();
        assert!(!successor.holds(), "without the store");
        std::fs::remove_dir_all(&path).unwrap();
        assert!(!successor.holds(), "removed");
    }
}
