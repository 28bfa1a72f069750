//! A directory in the making: under a temporary name until it is complete, and removed if it never
//! is.
//!
//! Invariant: only a complete directory gets the real name.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::JournalError;
use crate::journal::files::sync_folder;

/// See the module.
pub(super) struct Making {
    /// Its name in the end.
    directory: PathBuf,
    /// Its temporary name.
    path: PathBuf,
    is_real: bool,
}

impl Making {
    /// Makes the directory under its temporary name.
    ///
    /// # Errors
    /// One of either name exists, or it can't be made.
    pub(super) fn begin(directory: &Path) -> Result<Self, JournalError> {
        if directory.try_exists().map_err(|error| failed(directory, error))? {
            return Err(failed(directory, ErrorKind::AlreadyExists.into()));
        }
        let mut name = directory.file_name().unwrap_or_default().to_owned();
        name.push(".incomplete");
        let path = directory.with_file_name(name);
        std::fs::create_dir(&path).map_err(|error| {
            let error = match error.kind() {
                ErrorKind::AlreadyExists => Error::new(
                    ErrorKind::AlreadyExists,
                    "exists: another restore or rebuild makes it, or was killed while it did; \
                     delete it if none runs",
                ),
                _ => error,
            };
            failed(&path, error)
        })?;
        Ok(Self { directory: directory.to_owned(), path, is_real: false })
    }

    /// Its present path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name. Nothing in it may be open.
    ///
    /// # Errors
    /// It can't be renamed.
    pub(super) fn make_real(mut self) -> Result<(), JournalError> {
        std::fs::rename(&self.path, &self.directory)
            .and_then(|()| {
                self.is_real = true;
                sync_folder(&self.directory)
            })
            .map_err(|error| failed(&self.directory, error))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.is_real {
            // A remainder shows its state by its name.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn failed(path: &Path, error: Error) -> JournalError {
    JournalError::Directory { path: path.to_owned(), error: Arc::new(error) }
}
