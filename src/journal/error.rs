//! What can go wrong with the journal, as its callers see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::salvage::manifest::BadFile;
use crate::model::{Gap, Sequence, StreamId};

/// The journal could not be opened or can no longer be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds the data directory.
    #[error("the data directory {0:?} is in use by another process")]
    Locked(PathBuf),
    /// The data directory can't be made, read or written.
    #[error("{path:?}: {error}")]
    Directory {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: Arc<std::io::Error>,
    },
    /// A file is damaged. Nothing was changed.
    #[error(
        "{path:?} is damaged: {what}. Nothing was changed. `weir verify` says what can be read, and \
         `weir verify --rebuild-into DIR` saves it"
    )]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The damage.
        what: String,
    },
    /// The store does not open, and no checksum identifies the damaged file.
    #[error("the store in {path:?} does not open: {error}")]
    Opening {
        /// The store's folder.
        path: PathBuf,
        /// The store's error.
        error: Box<JournalError>,
    },
    /// A write, a sync or a read of the store failed.
    #[error("the store failed: {0}")]
    Store(Arc<fjall::Error>),
    /// Stored bytes differ from what was written.
    #[error("the journal is damaged at sequence {}: {what}", sequence.0)]
    Damaged {
        /// Where.
        sequence: Sequence,
        /// The damage.
        what: &'static str,
    },
    /// A backup can't be read.
    #[error("the backup: {0}")]
    Backup(Arc<std::io::Error>),
    /// Stored metadata can't be read.
    #[error("the journal's metadata is damaged: {0}")]
    Metadata(String),
    /// A later version wrote this directory. Nothing was changed.
    #[error("the journal was written by a later version: {0}")]
    LaterVersion(String),
    /// A bug, or a planned fault: the writer stops as after a failed write.
    #[error("the journal stopped: {0}")]
    Internal(&'static str),
    /// The data directory was removed, renamed or replaced while the journal was open.
    #[error("the data directory {0:?} is not the one that was opened any more")]
    DirectoryGone(PathBuf),
    /// The machine's clock is before 1970; the store can't record when tables were written.
    #[error("the machine's clock is before 1970; set it first")]
    ClockBefore1970,
    /// A write or sync has not returned.
    #[error("a write or sync has not come back for {0:?}")]
    Stalled(Duration),
    /// Nothing is dropped during an online copy.
    #[error("a copy is being taken")]
    Held,
    /// The writer has stopped, in order or after a failure.
    #[error("the journal is stopped")]
    Stopped,
}

impl From<fjall::Error> for JournalError {
    fn from(error: fjall::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<BadFile> for JournalError {
    fn from(BadFile { path, what }: BadFile) -> Self {
        Self::BadFile { path, what }
    }
}

/// Why the journal accepts no messages for the time being.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    /// The disk has no room to spare.
    #[error("the disk is full: {free} bytes are free, {needed} are needed to go on")]
    StorageFull {
        /// What is free.
        free: u64,
        /// What has to be free.
        needed: u64,
    },
    /// The file system has no inodes to spare: no file can be created.
    #[error("the disk has {free} inodes free, {needed} are needed to go on")]
    NoInodes {
        /// What is free.
        free: u64,
        /// What has to be free.
        needed: u64,
    },
    /// The file system refuses room, though it reports some: a quota, say.
    #[error(
        "the file system refused to allocate {needed} bytes although {free} are free (a quota?)"
    )]
    NoRoomGiven {
        /// The free space that it reports.
        free: u64,
        /// The room asked for.
        needed: u64,
    },
}

/// Why a read returned nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamReadError {
    /// The stream does not exist (any more).
    #[error("stream {0} does not exist")]
    NoSuchStream(StreamId),
    /// The offset is no longer kept.
    #[error("the first message kept is {first}")]
    Gone {
        /// The stream's low watermark.
        first: u64,
    },
    /// The offset has not been written yet.
    #[error("the next message will be {head}")]
    Ahead {
        /// The stream's head.
        head: u64,
    },
    /// The offset can't be read any more. Others can.
    #[error("the messages from {} to {} are damaged", .0.from, .0.to)]
    Damaged(Gap),
    /// The store failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
