//! Copying forward: blocks still needed in the oldest part of `blocks` are written anew at its end,
//! so that the oldest part can be dropped. Nothing is copied in `short`.
//!
//! A block's header and checksum stay unchanged; only its position changes, and with it its entry
//! in its index page.

use std::ops::Range;

use super::Reclaimer;
use crate::journal::JournalError;
use crate::journal::command::{Housekeeping, Moved};
use crate::journal::format::chunk::{self, CHUNK_BYTES, Found, Place};
use crate::journal::index::PageStart;
use crate::journal::machine::Request;
use crate::model::{Log, Sequence};

impl<R: Request> Reclaimer<R> {
    /// Copies everything needed of these sequences forward.
    pub(super) fn relocate(&mut self, segment: Range<u64>) -> Result<(), JournalError> {
        let mut moved = Vec::new();
        for n in segment {
            let place = Place { log: Log::Blocks, sequence: Sequence(n) };
            // A block that can't be read is damaged; a read of it reports that.
            let Ok(Some(chunk)) = self.shared.store.chunk(place) else { continue };
            let Ok(directory) = chunk::directory(place, &chunk) else { continue };
            for found in directory.blocks {
                let readable = chunk::verify(&chunk, &found.entry).is_ok();
                // A block whose page can't be read stays where it is, and blocks dropping what
                // follows.
                let page = self.needed_in(&found).ok().flatten();
                if let Some(page) = page.filter(|_| readable) {
                    let body = chunk::body(&chunk, &found.entry);
                    let Found { stream, header, entry } = found;
                    moved.push(Moved { stream, page, header, entry, body });
                }
            }
        }
        moved.sort_by_key(|moved| (moved.stream, moved.entry.number));
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

    /// The beginning of the index page that has a block at this very position; `None` when no
    /// stream needs it.
    fn needed_in(&self, found: &Found) -> Result<Option<PageStart>, JournalError> {
        let Found { stream, entry, .. } = found;
        let Some(state) = self.shared.stream(*stream) else { return Ok(None) };
        if entry.is_below(state.read_index().extent.first) {
            return Ok(None);
        }
        let store = &self.shared.store;
        let at = PageStart { base_offset: entry.base_offset, number: entry.number };
        let Some(page) = store.page_before(*stream, at)? else { return Ok(None) };
        let here = page.entries.iter().any(|known| known == entry);
        Ok(page.start().filter(|_| here))
    }
}
