//! The rest of something that is longer than a piece.

use std::sync::Weak;

use actix_web::web::Bytes;

use crate::edge::admission::Permit;
use crate::model::JournalAge;
use crate::queue::ReadBlock;

/// A long message that is encoded anew for each piece is sent in at most about N pieces.
const MESSAGE_PIECES: usize = 8;

/// See the module.
pub(super) enum Rest {
    /// Of a block's JSON, from this byte on.
    Block { block: Weak<ReadBlock>, base_offset: u64, at: usize },
    /// Of a text that has room of its own.
    Text { text: Bytes, room: Permit },
    /// Of the text of the message at this offset, which is encoded anew each time, from this byte
    /// on.
    Message { offset: u64, now: JournalAge, at: usize, whole: usize },
}

impl Rest {
    /// Shorter pieces would cost more to make than they save.
    pub(super) fn piece_bytes_min(&self) -> usize {
        match self {
            Self::Message { whole, .. } => whole / MESSAGE_PIECES,
            Self::Block { .. } | Self::Text { .. } => 0,
        }
    }
}
