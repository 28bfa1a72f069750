//! Making a data directory of a journal's content.
//!
//! Offsets, epochs, times and receipts are unchanged; only positions in the journal are new. State
//! is copied unchanged, whatever it means. Blocks that no snapshot of the source covered are left
//! for the first start to read, which learns their effects from them.
//!
//! Invariants: the directory is new, and complete once [`Import::finish`] has returned; memory is
//! bounded by a chunk, and a page a stream; offsets that are missing are left for the first start
//! (`findings`), whose machine knows which of them were announced.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Piece;
use super::making::Making;
use super::stream::Reader;
use crate::journal::format::chunk::{self, Bodies, CHUNK_BYTES, Part, Place};
use crate::journal::format::entry::{ChunkEntry, Moment};
use crate::journal::format::positions::{self, Positions};
use crate::journal::index::{Extent, IndexEntry, PAGE_ENTRIES, Page};
use crate::journal::state::StateKey;
use crate::journal::store::keys::{self, KeyKind};
use crate::journal::store::{Store, StoreBatch};
use crate::journal::watermark::{self, Watermark};
use crate::journal::{JournalError, StorageSettings};
use crate::model::{Gap, Log, Sequence, StreamId};

/// Bytes of state after which it is committed.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// Largest offset that is believed.
const OFFSET_MAX: u64 = 1 << 62;

/// What was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Streams.
    pub streams: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
}

/// Makes a data directory of a backup. `progress` is called with the bytes taken so far.
///
/// # Errors
/// The directory exists already, can't be written, or the backup is damaged or cut short; then none
/// is left.
pub fn restore(
    from: impl Read,
    directory: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Imported, JournalError> {
    let failed = |error| JournalError::Backup(Arc::new(error));
    let mut reader = Reader::new(from).map_err(failed)?;
    let mut import = Import::begin(directory)?;
    while let Some(piece) = reader.next().map_err(failed)? {
        import.take(piece)?;
        progress(import.done.bytes);
    }
    import.finish(None)
}

#[derive(Debug, Default)]
struct Stream {
    /// The source's number.
    source: Extent,
    /// The number here.
    here: Extent,
    /// Blocks that are to be in the next page.
    tail: Vec<IndexEntry>,
    /// Everything received is in pages.
    paged: bool,
}

/// A directory in the making.
pub(super) struct Import {
    store: Store,
    /// Behind the store, which is closed before.
    making: Making,
    streams: BTreeMap<StreamId, Stream>,
    positions: Positions,
    /// By log: blocks for the chunk in the making.
    blocks: [Vec<(ChunkEntry, Bytes)>; 2],
    blocks_bytes: [usize; 2],
    state: Vec<(StateKey, Bytes)>,
    state_bytes: usize,
    /// By log: the first chunk with a block that no page knows.
    unpaged: [Option<u64>; 2],
    missing: Vec<(StreamId, Gap)>,
    done: Imported,
}

impl Import {
    pub(super) fn begin(directory: &Path) -> Result<Self, JournalError> {
        let making = Making::begin(directory)?;
        let path = making.path();
        let settings = StorageSettings { path: path.to_owned(), ..StorageSettings::default() };
        Store::ensure(path, &settings)?;
        let store = Store::open(path, &settings)?;
        let positions = store.positions()?;
        Ok(Self {
            store,
            making,
            streams: BTreeMap::new(),
            positions,
            blocks: Default::default(),
            blocks_bytes: [0; 2],
            state: Vec::new(),
            state_bytes: 0,
            unpaged: [None; 2],
            missing: Vec::new(),
            done: Imported::default(),
        })
    }

    /// Where files that belong to it are to be copied to.
    pub(super) fn making(&self) -> &Path {
        self.making.path()
    }

    pub(super) fn take(&mut self, piece: Piece) -> Result<(), JournalError> {
        match piece {
            Piece::State { key, value } => self.take_state(key, value),
            Piece::Block { log, entry, body } => self.take_block(log, entry, body),
        }
    }

    fn take_state(&mut self, key: StateKey, value: Bytes) -> Result<(), JournalError> {
        if key.as_bytes() == positions::KEY {
            // Numbers are never used twice, and ages never fall.
            let Some(source) = Positions::decode(&value) else { return Ok(()) };
            let here = &mut self.positions;
            here.next_owner = here.next_owner.max(source.next_owner);
            here.commits = here.commits.max(source.commits);
            here.age_ms = here.age_ms.max(source.age_ms);
            here.last_time = here.last_time.max(source.last_time);
            return Ok(());
        }
        match keys::kind(&key) {
            KeyKind::Extent(stream) => {
                if let Some(source) = Extent::decode(&value) {
                    self.begin_stream(stream, source);
                }
                return Ok(());
            }
            KeyKind::Own | KeyKind::Deleted(_) | KeyKind::Findings => return Ok(()),
            KeyKind::State => {}
        }
        self.state_bytes += value.len();
        self.state.push((key, value));
        if self.state_bytes >= COMMIT_BYTES { self.commit() } else { Ok(()) }
    }

    fn begin_stream(&mut self, id: StreamId, source: Extent) {
        let Extent { log, first, bytes_before_first, .. } = source;
        let here = Extent {
            log,
            first,
            bytes_before_first,
            head: first,
            bytes: bytes_before_first,
            ..Extent::default()
        };
        self.positions.next_owner = self.positions.next_owner.max(id.0 + 1);
        self.streams.insert(id, Stream { source, here, tail: Vec::new(), paged: true });
    }

    fn take_block(&mut self, log: Log, entry: ChunkEntry, body: Bytes) -> Result<(), JournalError> {
        let ChunkEntry { stream: id, header, crc, .. } = &entry;
        if crc32c::crc32c(&body) != *crc || header.base_offset >= OFFSET_MAX {
            let error = std::io::Error::other("a block is not as it was written");
            return Err(JournalError::Backup(Arc::new(error)));
        }
        let id = *id;
        if !self.streams.contains_key(&id) {
            self.begin_stream(id, Extent { log, ..Extent::default() });
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let here = &mut stream.here;
        let known = header.number <= here.number && here.number > 0;
        if known || (header.end_offset() <= here.first && header.count > 0) {
            // It came before, or is not kept any more.
            return Ok(());
        }
        if let Some(gap) = Gap::before(here.head, header.base_offset) {
            self.missing.push((id, gap));
        }
        here.head = header.end_offset().max(here.head);
        here.number = header.number;
        here.last_time = here.last_time.max(header.published_at);
        self.positions.age_ms = self.positions.age_ms.max(header.age_ms);
        self.positions.last_time = self.positions.last_time.max(header.published_at);
        self.done.messages += u64::from(header.count);
        self.done.bytes += body.len() as u64;
        let n = log as usize;
        if self.blocks_bytes[n] > 0 && self.blocks_bytes[n] + body.len() > CHUNK_BYTES {
            self.commit()?;
        }
        self.blocks_bytes[n] += body.len();
        self.blocks[n].push((entry, body));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let store = self.store.clone();
        let mut batch = store.batch();
        for (key, value) in self.state.drain(..) {
            batch.put_state(&key, &value);
        }
        self.state_bytes = 0;
        for log in Log::ALL {
            self.put_chunk(log, &mut batch);
        }
        self.positions.commits += 1;
        batch.put_positions(&self.positions);
        batch.commit(false)
    }

    fn put_chunk(&mut self, log: Log, batch: &mut StoreBatch<'_>) {
        let blocks = std::mem::take(&mut self.blocks[log as usize]);
        self.blocks_bytes[log as usize] = 0;
        if blocks.is_empty() {
            return;
        }
        let next = &mut self.positions.log_mut(log).next_sequence;
        let place = Place { log, sequence: Sequence(*next) };
        *next += 1;
        let part = |(entry, body): &'_ (ChunkEntry, Bytes)| (entry.stream, entry.crc, body.clone());
        let kept: Vec<_> = blocks.iter().map(part).collect();
        let parts: Vec<_> = blocks
            .iter()
            .zip(&kept)
            .map(|((entry, _), (stream, crc, body))| Part {
                stream: *stream,
                header: &entry.header,
                bodies: Bodies::Stored(body, *crc),
            })
            .collect();
        let chunk = chunk::encode(place, self.positions.commits + 1, Moment::default(), &parts);
        let mut full = Vec::new();
        for (id, entry) in &chunk.entries {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            if entry.number > stream.source.number {
                // No snapshot covers it: the first start has to read it.
                stream.paged = false;
                self.unpaged[log as usize].get_or_insert(place.sequence.0);
                continue;
            }
            stream.here.bytes += u64::from(entry.bytes);
            stream.tail.push(*entry);
            if stream.tail.len() >= PAGE_ENTRIES && !full.contains(id) {
                full.push(*id);
            }
        }
        batch.put_chunk(chunk.place, chunk.value);
        for id in full {
            self.put_page(id, batch);
        }
    }

    fn put_page(&mut self, id: StreamId, batch: &mut StoreBatch<'_>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let entries: Vec<_> = stream.tail.drain(..).filter(IndexEntry::is_indexed).collect();
        let bytes: u64 = entries.iter().map(|entry| u64::from(entry.bytes)).sum();
        let bytes_before = stream.here.bytes.saturating_sub(bytes);
        batch.put_page(id, &Page { bytes_before, entries });
    }

    /// Writes the rest and completes the directory. `unreadable` are sequences of the source that
    /// could not be read, so that every stream may have lost messages at its end.
    pub(super) fn finish(mut self, unreadable: Option<[u64; 2]>) -> Result<Imported, JournalError> {
        self.commit()?;
        let store = self.store.clone();
        let mut batch = store.batch();
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            self.put_page(id, &mut batch);
            let Some(stream) = self.streams.get(&id) else { continue };
            if let Some(gap) = Gap::before(stream.here.head, stream.source.head) {
                self.missing.push((id, gap));
            }
            batch.put_state(&keys::extent(id), &stream.end().encode());
        }
        // Also without any, so that the first start knows that this is a copy.
        batch.put_state(&keys::findings(), &keys::encode_findings(&self.missing, unreadable));
        self.positions.commits += 1;
        self.positions.durable_commits = self.positions.commits;
        self.positions.examined_commits = self.positions.commits;
        for log in Log::ALL {
            let of_log = self.positions.log_mut(log);
            of_log.indexed_sequence = self.unpaged[log as usize].unwrap_or(of_log.next_sequence);
        }
        batch.put_positions(&self.positions);
        batch.commit(true)?;
        self.done.streams = self.streams.len() as u64;
        self.make_real()
    }

    fn make_real(self) -> Result<Imported, JournalError> {
        let extent = watermark::Extent::of(&self.positions);
        let journal = self.positions.journal;
        let path = self.making.path();
        Watermark::create(path, watermark::boot_id(), journal, extent)?.close(extent)?;
        drop(self.store);
        self.making.make_real()?;
        Ok(self.done)
    }
}

impl Stream {
    /// Where it ends as far as pages know.
    fn end(&self) -> Extent {
        let (head, number) = if self.paged {
            (self.here.head.max(self.source.head), self.here.number.max(self.source.number))
        } else {
            (self.source.head.max(self.here.first), self.source.number)
        };
        let last_time = self.here.last_time.max(self.source.last_time);
        Extent { head, number, last_time, ..self.here }
    }
}
