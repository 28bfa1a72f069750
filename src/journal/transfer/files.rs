//! Checking a data directory's files without touching them.
//!
//! fjall truncates files when it opens them, so a check gets a copy: tables, which fjall never
//! changes, as hard links if the file system allows, everything else copied.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::salvage::{self, manifest};
use crate::journal::{JournalError, store};

/// Files of a store that differ from what was written, by name, with the damage.
pub type BadFiles = Vec<String>;

/// Checks every file of the store in a data directory by the checksums that fjall keeps.
pub fn check_files(directory: &Path) -> BadFiles {
    match manifest::trees(&directory.join(store::FOLDER)) {
        Ok(trees) => {
            let tables = trees.iter().flat_map(|(_, tables)| tables);
            tables
                .filter_map(|table| manifest::check_table(table).err())
                .map(|bad| bad.to_string())
                .collect()
        }
        Err(bad) => vec![bad.to_string()],
    }
}

/// A copy of a data directory, to be opened in place of the original; removed when it is dropped.
#[derive(Debug)]
pub struct CheckCopy {
    path: PathBuf,
    /// Keeps brokers out of the original.
    _in_use: Option<File>,
}

impl CheckCopy {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many files starts have moved aside in it.
    pub fn files_aside(&self) -> u64 {
        let entries = std::fs::read_dir(self.path.join(salvage::ASIDE));
        entries.map_or(0, |entries| entries.count() as u64)
    }
}

impl Drop for CheckCopy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = ?self.path, %error, "the copy could not be removed");
        }
    }
}

/// Copies the data directory `from` to `to`, which must not exist.
///
/// # Errors
/// The directory is in use, or can't be copied.
pub fn copy_for_check(from: &Path, to: &Path) -> Result<CheckCopy, JournalError> {
    let in_use = not_in_use(from)?;
    let failed = |error| JournalError::Directory { path: to.to_owned(), error: Arc::new(error) };
    std::fs::create_dir(to).map_err(failed)?;
    let copy = CheckCopy { path: to.to_owned(), _in_use: in_use };
    copy_into(from, to).map_err(failed)?;
    Ok(copy)
}

/// Holds the directory's lock, without creating one.
fn not_in_use(directory: &Path) -> Result<Option<File>, JournalError> {
    let path = directory.join(store::FOLDER);
    if !path.is_dir() {
        let error = Arc::new(std::io::Error::from(std::io::ErrorKind::NotFound));
        return Err(JournalError::Directory { path, error });
    }
    let Ok(lock) = File::open(directory.join("lock")) else { return Ok(None) };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(directory.to_owned())),
        _ => Ok(Some(lock)),
    }
}

fn copy_into(from: &Path, to: &Path) -> std::io::Result<()> {
    let tables = from.ends_with("tables");
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy_into(&entry.path(), &target)?;
        } else if !tables || std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
