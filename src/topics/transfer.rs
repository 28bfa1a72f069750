//! Restoring a backup and saving what can be read of a damaged directory, with the effects on
//! topics.
//!
//! The journal moves the content as a whole; then the new directory is opened as by a start, which
//! reports what is missing.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::verify::Ignored;
use super::{Opened, Topics, roster};
use crate::clock::Clock;
use crate::journal::{self, Imported, JournalError, StorageSettings};
use crate::model::Gap;

/// The content of a new directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Topics.
    pub topics: usize,
    /// Messages.
    pub messages: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
    /// Offsets whose messages are missing and were not given up: their topics are quarantined.
    pub damaged: u64,
}

/// Makes a data directory of a backup. `progress` is called with the bytes taken so far.
///
/// # Errors
/// The directory exists already, can't be written, or the backup is damaged or cut short; the
/// partial result is not a data directory then.
pub async fn restore(
    from: impl Read,
    directory: &Path,
    progress: impl FnMut(u64),
) -> Result<Restored, JournalError> {
    let imported = journal::restore(from, directory, progress)?;
    open(directory, imported).await
}

/// Makes a new data directory of what can be read of another one. `progress` is called with the
/// bytes of messages saved so far. Returns what was saved, and what could not be read.
///
/// # Errors
/// The source can't be listed, or the new directory exists already or can't be written.
pub async fn rebuild(
    from: &Path,
    to: &Path,
    progress: impl FnMut(u64),
) -> Result<(Restored, Vec<String>), JournalError> {
    let (imported, unread) = journal::rebuild(from, to, &[roster::FILE_NAME], progress)?;
    Ok((open(to, imported).await?, unread))
}

async fn open(directory: &Path, imported: Imported) -> Result<Restored, JournalError> {
    let settings = StorageSettings::untouched(directory);
    let Opened { topics, records } = Topics::open(&settings, Clock::system(), Arc::new(Ignored))?;
    let damaged = records.iter().flat_map(|record| record.certain_damage());
    let damaged = damaged.map(|gap: Gap| gap.len()).sum();
    topics.stop().await?;
    let Imported { messages, bytes, .. } = imported;
    Ok(Restored { topics: records.len(), messages, bytes, damaged })
}
