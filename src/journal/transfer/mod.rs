//! Moving a journal's content as a whole: online copies, restoring them, checking a directory, and
//! saving what can be read of a damaged one.
//!
//! Whatever the source, content is a sequence of [`Piece`]s: state by key, then blocks, each
//! stream's in the order of its offsets. `stream` writes them as bytes and reads them back,
//! `snapshot` takes them from a running journal, `raw` from files that fjall would not open, and
//! `import` makes a new data directory of them, in `making` until it is complete.

mod files;
mod import;
mod making;
mod raw;
mod snapshot;
mod spool;
mod stream;

use bytes::Bytes;

pub use files::{BadFiles, CheckCopy, check_files, copy_for_check};
pub use import::{Imported, restore};
pub use raw::rebuild;
pub use snapshot::Backup;

use super::format::entry::ChunkEntry;
use super::state::StateKey;
use crate::model::Log;

/// A part of a journal's content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// A value of state (or the positions), without its checksum.
    State { key: StateKey, value: Bytes },
    /// A block.
    Block { log: Log, entry: ChunkEntry, body: Bytes },
}
