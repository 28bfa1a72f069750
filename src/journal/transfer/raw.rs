//! Reading a data directory that fjall would not open, file by file.
//!
//! Every table is opened by itself, regardless of the lists of tables, and the WAL is read by
//! `salvage`'s reader; the newest value of each key counts, and every block with a correct
//! checksum. Nothing of the source is changed, or opened for writing.
//!
//! fjall gives keyspaces numbers in the order they are made (`store`); pages are made anew from the
//! chunks' directories.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lsm_tree::{Cache, Checksum, InternalValue, Slice, Table};

use super::Piece;
use super::import::{Import, Imported};
use crate::journal::format::chunk::{self, Found, Place};
use crate::journal::format::entry::ChunkEntry;
use crate::journal::format::positions;
use crate::journal::index::Page;
use crate::journal::salvage::{self, wal};
use crate::journal::state::{self, StateKey};
use crate::journal::store::keys::{self, KeyKind};
use crate::journal::watermark::Marks;
use crate::journal::{JournalError, store};
use crate::model::{Log, OwnerId, Sequence, StreamId};

const BLOCKS: u64 = 1;
const INDEX: u64 = 2;
const META: u64 = 3;
const SHORT: u64 = 4;

/// The log that a keyspace is.
fn log_of(keyspace: u64) -> Option<Log> {
    match keyspace {
        BLOCKS => Some(Log::Blocks),
        SHORT => Some(Log::Short),
        _ => None,
    }
}

/// Where a chunk's bytes are.
#[derive(Clone, Copy)]
enum Bytewise {
    Table(usize),
    Wal { file: usize, at: usize, len: usize },
}

/// The readable part, and the places of the rest.
#[derive(Default)]
struct Source {
    tables: Vec<Table>,
    wal: Vec<PathBuf>,
    chunks: BTreeMap<Place, Bytewise>,
    state: HashMap<Bytes, (u64, Option<Bytes>)>,
    /// By stream and number: its chunk, and which of its blocks it is.
    blocks: BTreeMap<(StreamId, u64), (Place, usize)>,
    /// Files that can't be read, or only in part.
    bad: Vec<String>,
}

/// Makes a new data directory of what can be read of another one; files of these names are copied
/// as they are. `progress` is called with the bytes of messages saved so far. Returns what was
/// saved, and what could not be read.
///
/// # Errors
/// The source can't be listed, or the new directory exists already or can't be written.
pub fn rebuild(
    from: &Path,
    to: &Path,
    copied: &[&str],
    mut progress: impl FnMut(u64),
) -> Result<(Imported, Vec<String>), JournalError> {
    let mut source = Source::default();
    source.read_tables(from)?;
    source.read_wal(from)?;
    source.read_directories();
    let mut import = Import::begin(to)?;
    let deleted = source.give_state(&mut import)?;
    let mut saved = 0;
    let mut read: Option<(Place, Bytes, Vec<Found>)> = None;
    for ((stream, _), (place, n)) in std::mem::take(&mut source.blocks) {
        if deleted.contains(&OwnerId::from(stream)) {
            continue;
        }
        if read.as_ref().is_none_or(|(last, ..)| *last != place) {
            read = source.read_chunk(place).map(|(chunk, blocks)| (place, chunk, blocks));
        }
        let Some((_, chunk, blocks)) = &read else { continue };
        let Some(Found { header, entry, .. }) = blocks.get(n).cloned() else { continue };
        if chunk::verify(chunk, &entry).is_err() {
            source.bad.push(format!("sequence {}: a block's checksum", place.sequence.0));
            continue;
        }
        let body = chunk::body(chunk, &entry);
        saved += body.len() as u64;
        let entry = ChunkEntry { stream, header, bytes: entry.bytes, crc: entry.crc };
        import.take(Piece::Block { log: place.log, entry, body })?;
        progress(saved);
    }
    for name in copied {
        // What is missing there is missing here too.
        let _ = std::fs::copy(from.join(name), import.making().join(name));
    }
    let mut places = source.chunks.keys().rev();
    let whole = places.find(|place| place.log == Log::Blocks).map_or(0, |last| last.sequence.0);
    let unreadable = (!source.bad.is_empty()).then_some([0, whole]);
    Ok((import.finish(unreadable)?, source.bad))
}

impl Source {
    fn read_tables(&mut self, from: &Path) -> Result<(), JournalError> {
        let keyspaces = from.join(store::FOLDER).join("keyspaces");
        if let Err(bad) = salvage::manifest::check(&from.join(store::FOLDER)) {
            self.bad.push(bad.to_string());
        }
        let cache = Arc::new(Cache::with_capacity_bytes(16 * 1024 * 1024));
        for keyspace in [META, INDEX, BLOCKS, SHORT] {
            let folder = keyspaces.join(keyspace.to_string()).join("tables");
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                let checksum = Checksum::from_raw(0);
                match Table::recover(
                    path.clone(),
                    checksum,
                    0,
                    0,
                    cache.clone(),
                    None,
                    false,
                    false,
                ) {
                    Ok(table) => self.read_table(keyspace, table, &path),
                    Err(error) => self.bad.push(format!("{path:?}: {error}")),
                }
            }
        }
        Ok(())
    }

    fn read_table(&mut self, keyspace: u64, table: Table, path: &Path) {
        let number = self.tables.len();
        let mut last = None;
        for item in table.iter() {
            match item {
                Ok(item) => {
                    last = sequence_of(&item.key.user_key);
                    self.take_item(keyspace, item, number);
                }
                Err(error) => {
                    self.bad.push(format!("{path:?}: {error}"));
                    break;
                }
            }
        }
        // A damaged block ends the run; the ones behind it are found by their keys.
        if log_of(keyspace).is_some()
            && self.bad.last().is_some_and(|bad| bad.contains(&format!("{path:?}")))
        {
            let highest = sequence_of(table.metadata.key_range.max());
            let from =
                last.map_or_else(|| sequence_of(table.metadata.key_range.min()), |l| Some(l + 1));
            if let (Some(from), Some(to)) = (from, highest) {
                for sequence in from..=to {
                    if let Some(item) = point(&table, Sequence(sequence)) {
                        self.take_item(keyspace, item, number);
                    }
                }
            }
        }
        self.tables.push(table);
    }

    fn take_item(&mut self, keyspace: u64, item: InternalValue, table: usize) {
        let (key, seqno) = (Bytes::from(item.key.user_key.clone()), item.key.seqno);
        if let Some(log) = log_of(keyspace) {
            if let Some(sequence) = sequence_of(&key) {
                let place = Place { log, sequence: Sequence(sequence) };
                self.chunks.insert(place, Bytewise::Table(table));
            }
            return;
        }
        let value = (!item.is_tombstone()).then(|| Bytes::from(item.value));
        self.take_value(key, seqno, value);
    }

    fn take_value(&mut self, key: Bytes, seqno: u64, value: Option<Bytes>) {
        let newest = self.state.get(&key).is_none_or(|(known, _)| *known <= seqno);
        if newest && Page::parse_key(&key).is_none() {
            self.state.insert(key, (seqno, value));
        }
    }

    fn read_wal(&mut self, from: &Path) -> Result<(), JournalError> {
        self.wal = salvage::wal_files(&from.join(store::FOLDER))?;
        let mut last_seqno = 0;
        let journal = Marks::read(from)?.journal();
        for file in 0..self.wal.len() {
            let path = self.wal[file].clone();
            let Ok(bytes) = salvage::read(&path) else {
                self.bad.push(format!("{path:?} can't be read"));
                continue;
            };
            for piece in wal::scan(&bytes) {
                let batch = match piece {
                    wal::Piece::Batch(batch)
                        if journal.is_none_or(|journal| journal == batch.positions.journal) =>
                    {
                        batch
                    }
                    wal::Piece::Batch(_) => continue,
                    wal::Piece::Damage(range) => {
                        self.bad.push(format!("{path:?}: bytes {} to {}", range.start, range.end));
                        continue;
                    }
                };
                // Only an intact start marker has the seqno; the next one up serves as well.
                last_seqno = if batch.intact { batch.seqno } else { last_seqno + 1 };
                for item in wal::items(&bytes[batch.items.clone()]) {
                    self.take_wal_item(file, &bytes, item, last_seqno);
                }
            }
        }
        Ok(())
    }

    fn take_wal_item(&mut self, file: usize, bytes: &[u8], item: wal::Item<'_>, seqno: u64) {
        match (log_of(item.keyspace), item.value) {
            (Some(log), Some(value)) => {
                let at = value.as_ptr() as usize - bytes.as_ptr() as usize;
                if let Some(sequence) = sequence_of(item.key) {
                    let place = Place { log, sequence: Sequence(sequence) };
                    let bytewise = Bytewise::Wal { file, at, len: value.len() };
                    self.chunks.entry(place).or_insert(bytewise);
                }
            }
            (None, value) if matches!(item.keyspace, META | INDEX) => {
                let value = value.map(Bytes::copy_from_slice);
                self.take_value(Bytes::copy_from_slice(item.key), seqno, value);
            }
            _ => {}
        }
    }

    /// Finds out which blocks exist. One that was copied forward exists twice; either serves.
    fn read_directories(&mut self) {
        let places: Vec<_> = self.chunks.keys().copied().collect();
        for place in places {
            match self.read_chunk(place) {
                Some((_, blocks)) => {
                    let blocks = blocks.iter().enumerate();
                    let keyed = blocks.map(|(n, f)| ((f.stream, f.entry.number), (place, n)));
                    self.blocks.extend(keyed);
                }
                None => {
                    let sequence = place.sequence.0;
                    self.bad.push(format!("sequence {sequence}: the chunk can't be read"));
                }
            }
        }
    }

    /// A chunk with an intact directory, and its blocks.
    fn read_chunk(&self, place: Place) -> Option<(Bytes, Vec<Found>)> {
        let chunk = self.chunk(place)?;
        let blocks = chunk::directory(place, &chunk).ok()?.blocks;
        Some((chunk, blocks))
    }

    fn chunk(&self, place: Place) -> Option<Bytes> {
        match *self.chunks.get(&place)? {
            Bytewise::Table(table) => {
                Some(Bytes::from(point(&self.tables[table], place.sequence)?.value))
            }
            Bytewise::Wal { file, at, len } => {
                use std::os::unix::fs::FileExt;
                let mut chunk = vec![0; len];
                let file = std::fs::File::open(&self.wal[file]).ok()?;
                file.read_exact_at(&mut chunk, at as u64).ok()?;
                Some(chunk.into())
            }
        }
    }

    /// Hands the state over; the owners that are deleted.
    fn give_state(&mut self, import: &mut Import) -> Result<HashSet<OwnerId>, JournalError> {
        let mut deleted = HashSet::new();
        let mut found = Vec::new();
        for (key, (_, value)) in self.state.drain() {
            let (Some(key), Some(value)) = (StateKey::parse(&key), value) else { continue };
            match keys::kind(&key) {
                KeyKind::Own if key.as_bytes() == positions::KEY => found.push((key, value)),
                KeyKind::Own | KeyKind::Findings => {}
                KeyKind::Deleted(owner) => drop(deleted.insert(owner)),
                KeyKind::Extent(_) | KeyKind::State => match state::open(&key, &value) {
                    Ok(value) => found.push((key, value)),
                    Err(error) => self.bad.push(error.to_string()),
                },
            }
        }
        for (key, value) in found {
            if !deleted.contains(&key.owner()) {
                import.take(Piece::State { key, value })?;
            }
        }
        Ok(deleted)
    }
}

fn sequence_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn point(table: &Table, sequence: Sequence) -> Option<InternalValue> {
    let key = Slice::from(sequence.0.to_be_bytes());
    table.range(key.clone()..=key).next()?.ok()
}
