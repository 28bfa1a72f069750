//! Copying forward: what is still needed of the oldest part of the journal is written anew at its
//! end, so that the oldest part can be dropped.
//!
//! A block's offsets, epoch, times and checksum stay as they are; only its place changes, and with
//! it its entry in its index page.

use std::ops::Range;

use super::Retention;
use crate::journal::JournalError;
use crate::journal::chunk::{self, CHUNK_BYTES, DirectoryEntry};
use crate::journal::command::{Housekeeping, Moved};
use crate::model::Sequence;

impl Retention {
    /// Copies everything needed of these sequences forward.
    pub(super) fn clean(&mut self, segment: Range<u64>) -> Result<(), JournalError> {
        let mut moved = Vec::new();
        for n in segment {
            let sequence = Sequence(n);
            // What can't be read is damage, and is told to those who read it.
            let Ok(Some(chunk)) = self.shared.store.chunk(sequence) else { continue };
            let Ok(directory) = chunk::directory(sequence, &chunk) else { continue };
            for found in directory {
                let readable = chunk::verify(&chunk, &found.entry).is_ok();
                // A block whose page can't be read stays where it is, and holds up what is behind it.
                let page = self.needed_in(&found).ok().flatten();
                if let Some(page) = page.filter(|_| readable) {
                    let block = chunk::block(found.topic, &chunk, &found.entry);
                    let DirectoryEntry { topic, entry } = found;
                    moved.push(Moved { topic, page, entry, body: block.body });
                }
            }
        }
        moved.sort_by_key(|moved| (moved.topic, moved.entry.base_offset));
        let mut batch = Vec::new();
        let mut bytes = 0;
        for moved in moved {
            if bytes > 0 && bytes + moved.body.len() > CHUNK_BYTES {
                self.move_blocks(std::mem::take(&mut batch))?;
                bytes = 0;
            }
            bytes += moved.body.len();
            batch.push(moved);
        }
        self.move_blocks(batch)
    }

    fn move_blocks(&mut self, batch: Vec<Moved>) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.ask(Housekeeping::Move(batch))
    }

    /// The first offset of the index page that knows a block at this very place; `None` when
    /// nobody needs it.
    fn needed_in(&self, found: &DirectoryEntry) -> Result<Option<u64>, JournalError> {
        let DirectoryEntry { topic, entry } = found;
        let Some(state) = self.shared.topics.get(topic).map(|state| state.clone()) else {
            return Ok(None);
        };
        if entry.end_offset() <= state.read_index().first {
            return Ok(None);
        }
        let Some(page) = self.shared.store.page_at(*topic, entry.base_offset)? else {
            return Ok(None);
        };
        let here = page.entries.iter().any(|known| known == entry);
        Ok(page.entries.first().map(|first| first.base_offset).filter(|_| here))
    }
}
