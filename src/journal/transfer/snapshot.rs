//! Taking a consistent copy of a journal while it is in use.
//!
//! The writer writes every tail out as a page and takes a snapshot of the store between two
//! commits; then it continues. The snapshot's state and pages are put aside at once (`spool`), and
//! the blocks they name are read later. Nothing is dropped meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::spool::{Spool, SpoolWriter};
use super::{Piece, stream};
use crate::journal::format::chunk::{self, Found, Place};
use crate::journal::format::entry::ChunkEntry;
use crate::journal::format::positions;
use crate::journal::index::Extent;
use crate::journal::machine::Machine;
use crate::journal::shared::Shared;
use crate::journal::state::{self, StateKey};
use crate::journal::store::Snapshot;
use crate::journal::store::keys::{self, KeyKind};
use crate::journal::{Journal, JournalError};
use crate::model::{Log, OwnerId, Sequence, StreamId};

/// A consistent copy, to be read as bytes.
pub struct Backup {
    shared: Arc<Shared>,
    /// Until the copy begins.
    snapshot: Mutex<Option<Snapshot>>,
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

impl<M: Machine> Journal<M> {
    /// Takes a copy of everything that was committed by now.
    ///
    /// # Errors
    /// [`JournalError::Held`] while another copy is being taken; the journal has stopped, or can't
    /// write.
    pub async fn backup(&self) -> Result<Backup, JournalError> {
        let hold = Hold::new(self.shared.clone())?;
        let snapshot = self.take_snapshot().await?;
        let snapshot = Mutex::new(Some(snapshot));
        Ok(Backup { shared: self.shared.clone(), snapshot, _hold: hold })
    }
}

impl Backup {
    /// Gives the copy piece by piece, until it ends or `out` returns false. Blocks the calling
    /// thread on the disk. A copy is given once: another call gives nothing.
    ///
    /// # Errors
    /// The store can't be read, or what is put aside can't be written. Blocks that are damaged are
    /// left out; the restored directory reports them as missing.
    pub fn write(&self, mut out: impl FnMut(Bytes) -> bool) -> Result<(), JournalError> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(snapshot) = snapshot else { return Ok(()) };
        let (mut spool, logs, mut frames) = self.put_aside(&snapshot)?;
        drop(snapshot);
        while let Some(state) = spool.state()? {
            if !out(state) {
                return Ok(());
            }
        }
        let mut give = |piece: &Piece| {
            frames += 1;
            out(stream::frame(piece))
        };
        if !self.give_blocks(&mut spool, &logs, &mut give)? {
            return Ok(());
        }
        let end = stream::end(frames);
        out(end);
        Ok(())
    }

    /// What the snapshot knows: state and pages, each stream's log, and how many frames of state.
    fn put_aside(
        &self,
        snapshot: &Snapshot,
    ) -> Result<(Spool, HashMap<StreamId, Log>, u64), JournalError> {
        let mut spool = SpoolWriter::create_in(&self.shared.store.directory())?;
        let (mut deleted, mut logs, mut frames) = (HashSet::new(), HashMap::new(), 0);
        for item in snapshot.small_state().chain(snapshot.bulk_state()) {
            let (key, sealed) = item?;
            let Some(value) = content(&key, &sealed, &mut deleted)? else { continue };
            if let (KeyKind::Extent(stream), Some(extent)) =
                (keys::kind(&key), Extent::decode(&value))
            {
                logs.insert(stream, extent.log);
            }
            frames += 1;
            spool.state(&stream::frame(&Piece::State { key, value }))?;
        }
        for page in snapshot.pages() {
            let (stream, page) = page?;
            if logs.contains_key(&stream) {
                spool.page(stream, &page)?;
            }
        }
        Ok((spool.finish()?, logs, frames))
    }

    /// Gives the blocks in pages; false when `give` wants no more.
    fn give_blocks(
        &self,
        spool: &mut Spool,
        logs: &HashMap<StreamId, Log>,
        give: &mut impl FnMut(&Piece) -> bool,
    ) -> Result<bool, JournalError> {
        while let Some((stream, page)) = spool.page()? {
            let Some(log) = logs.get(&stream).copied() else { continue };
            let mut last: Option<(Sequence, Bytes, Vec<Found>)> = None;
            for entry in page.entries {
                if last.as_ref().is_none_or(|(sequence, ..)| *sequence != entry.sequence) {
                    last = self.chunk(Place { log, sequence: entry.sequence });
                }
                let found = last.as_ref().and_then(|(_, chunk, found)| {
                    let here = found.iter().find(|f| f.stream == stream && f.entry == entry)?;
                    chunk::verify(chunk, &entry).is_ok().then_some((chunk, here))
                });
                let Some((chunk, found)) = found else {
                    // Below the low watermark it may be gone; else the restored copy reports its
                    // absence.
                    let (offset, sequence) = (entry.base_offset, entry.sequence.0);
                    tracing::warn!(%stream, offset, sequence, "a block is left out of the copy");
                    continue;
                };
                if !give(&piece(stream, log, found, chunk::body(chunk, &entry))) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn chunk(&self, place: Place) -> Option<(Sequence, Bytes, Vec<Found>)> {
        let chunk = self.shared.store.chunk(place).ok().flatten()?;
        let directory = chunk::directory(place, &chunk).ok()?;
        Some((place.sequence, chunk, directory.blocks))
    }

    /// The beginning of the copy.
    pub fn beginning() -> Bytes {
        stream::begin()
    }
}

fn piece(stream: StreamId, log: Log, found: &Found, body: Bytes) -> Piece {
    let (bytes, crc) = (found.entry.bytes, found.entry.crc);
    Piece::Block {
        log,
        entry: ChunkEntry { stream, header: found.header.clone(), bytes, crc },
        body,
    }
}

/// The value of a key that belongs to the content: its checksum verified, none of a deleted
/// owner's.
fn content(
    key: &StateKey,
    sealed: &Bytes,
    deleted: &mut HashSet<OwnerId>,
) -> Result<Option<Bytes>, JournalError> {
    Ok(match keys::kind(key) {
        KeyKind::Own => (key.as_bytes() == positions::KEY).then(|| sealed.clone()),
        KeyKind::Deleted(owner) => {
            deleted.insert(owner);
            None
        }
        KeyKind::Findings => None,
        _ if deleted.contains(&key.owner()) => None,
        KeyKind::Extent(_) | KeyKind::State => Some(state::open(key, sealed)?),
    })
}
