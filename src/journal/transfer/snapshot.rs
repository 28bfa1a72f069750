//! Taking a consistent copy of a journal while it is in use.
//!
//! The writer writes every tail out as a page and takes a snapshot of the store between two
//! commits; from then on everybody goes on, and the snapshot is read at leisure. Retention drops
//! nothing meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Piece, stream};
use crate::journal::chunk;
use crate::journal::shared::Shared;
use crate::journal::store::Snapshot;
use crate::journal::{Journal, JournalError};

/// A consistent copy, to be read as bytes.
pub struct Backup {
    shared: Arc<Shared>,
    snapshot: Snapshot,
    _hold: Hold,
}

/// Keeps retention from dropping chunks.
struct Hold(Arc<Shared>);

impl Hold {
    fn new(shared: Arc<Shared>) -> Result<Self, JournalError> {
        let mine = shared.backups.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
        mine.map_err(|_| JournalError::Held)?;
        Ok(Self(shared))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.backups.store(0, Ordering::Release);
    }
}

impl Journal {
    /// Takes a copy of everything that was committed by now.
    ///
    /// # Errors
    /// [`JournalError::Held`] while another copy is being taken; the journal has stopped, or can't
    /// write.
    pub async fn backup(&self) -> Result<Backup, JournalError> {
        let hold = Hold::new(self.shared.clone())?;
        let snapshot = self.take_snapshot().await?;
        Ok(Backup { shared: self.shared.clone(), snapshot, _hold: hold })
    }
}

impl Backup {
    /// Gives the copy piece by piece, until it ends or `out` says false. Blocks the calling thread
    /// on the disk.
    ///
    /// # Errors
    /// The store can't be read. Blocks that are damaged are left out: whoever restores the copy
    /// is told that they are missing.
    pub fn write(&self, mut out: impl FnMut(Bytes) -> bool) -> Result<(), JournalError> {
        let mut frames = 0;
        let mut give = |piece: &Piece| {
            frames += 1;
            out(stream::frame(piece))
        };
        if !give_all(
            &mut give,
            self.snapshot.meta().map(|item| item.map(|(key, value)| Piece::Meta { key, value })),
        )? {
            return Ok(());
        }
        for page in self.snapshot.pages() {
            let (topic, page) = page?;
            let mut last = None;
            for entry in page.entries {
                let chunk = match last.take() {
                    Some((sequence, chunk)) if sequence == entry.sequence => Some(chunk),
                    _ => self.shared.store.chunk(entry.sequence).ok().flatten(),
                };
                let Some(chunk) = chunk.filter(|chunk| chunk::verify(chunk, &entry).is_ok()) else {
                    // Below the low watermark it may be gone; else its absence will be told.
                    let (offset, sequence) = (entry.base_offset, entry.sequence.0);
                    tracing::warn!(%topic, offset, sequence, "a block is left out of the copy");
                    continue;
                };
                let body = chunk::block(topic, &chunk, &entry).body;
                last = Some((entry.sequence, chunk));
                if !give(&Piece::Block { topic, entry, body }) {
                    return Ok(());
                }
            }
        }
        let end = stream::end(frames);
        out(end);
        Ok(())
    }

    /// What stands before everything else.
    pub fn beginning() -> Bytes {
        stream::begin()
    }
}

fn give_all(
    give: &mut impl FnMut(&Piece) -> bool,
    pieces: impl Iterator<Item = Result<Piece, JournalError>>,
) -> Result<bool, JournalError> {
    for piece in pieces {
        if !give(&piece?) {
            return Ok(false);
        }
    }
    Ok(true)
}
