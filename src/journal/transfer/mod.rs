//! Moving a journal's content as a whole: online copies, restoring them, checking a directory, and
//! saving what can be read of a damaged one.
//!
//! Whatever the source, content is a run of [`Piece`]s: small keys as they stand in `meta`, then
//! blocks, each topic's in the order of its offsets. `stream` writes them as bytes and reads them
//! back, `snapshot` takes them from a running journal, `raw` from files that fjall would not open,
//! and `import` makes a new data directory of them.

mod import;
mod raw;
mod snapshot;
mod stream;
mod verify;

use bytes::Bytes;

pub use import::{Imported, restore};
pub use raw::rebuild;
pub use snapshot::Backup;
pub use verify::{Checked, CheckedTopic, Verification, verify};

use super::index::IndexEntry;
use crate::model::TopicId;

/// A part of a journal's content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// A key of `meta` (positions excepted).
    Meta { key: Bytes, value: Bytes },
    /// A block. Its entry's place counts for nothing.
    Block { topic: TopicId, entry: IndexEntry, body: Bytes },
}
