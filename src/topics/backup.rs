//! A consistent copy of all topics, taken while work goes on.

use std::io::ErrorKind;

use bytes::Bytes;

use crate::journal::{self, JournalError};

/// A copy of what was committed when it was taken.
pub struct Backup(journal::Backup);

/// Why there is no copy, or no more of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// Another copy is being taken.
    #[error("a copy is being taken")]
    Busy,
    /// What the copy needs of the disk meanwhile is not free.
    #[error("{0}")]
    StorageFull(String),
    /// The store failed.
    #[error("{0}")]
    Failed(String),
}

impl From<JournalError> for BackupError {
    fn from(error: JournalError) -> Self {
        match &error {
            JournalError::Held => Self::Busy,
            JournalError::Backup(why) if why.kind() == ErrorKind::StorageFull => {
                Self::StorageFull(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Backup {
    pub(super) fn of(copy: journal::Backup) -> Self {
        Self(copy)
    }

    /// What stands before everything else.
    pub fn beginning() -> Bytes {
        journal::Backup::beginning()
    }

    /// Gives the copy piece by piece, until it ends or `out` returns false. Blocks the calling
    /// thread on the disk. A copy is given once: another call gives nothing.
    ///
    /// # Errors
    /// The store can't be read, or what is put aside can't be written. Blocks that are damaged are
    /// left out; the restored directory reports them as missing.
    pub fn write(&self, out: impl FnMut(Bytes) -> bool) -> Result<(), BackupError> {
        Ok(self.0.write(out)?)
    }
}
