//! Reading a data directory that fjall would not open, file by file.
//!
//! Every table is opened by itself, whatever the lists of tables say, and the WAL is read by
//! `salvage`'s reader; the newest value of each small key counts, and every block whose checksum
//! is right. Nothing of the source is changed, or opened for writing.
//!
//! fjall gives keyspaces numbers in the order they are made: 1 is `blocks`, 3 is `meta`; `index`
//! is made anew from the chunks' directories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lsm_tree::{Cache, Checksum, InternalValue, Slice, Table};

use super::Piece;
use super::import::{Import, Imported};
use crate::journal::index::IndexEntry;
use crate::journal::salvage::{self, wal};
use crate::journal::store::{self, Store};
use crate::journal::watermark::Marks;
use crate::journal::{JournalError, TopicRecord, chunk, roster};
use crate::model::{Sequence, TopicId, TopicName, TopicSettings};

const BLOCKS: u64 = 1;
const META: u64 = 3;

/// Where a chunk is.
#[derive(Clone, Copy)]
enum Place {
    Table(usize),
    Wal { file: usize, at: usize, len: usize },
}

/// What could be read, and where the rest is.
#[derive(Default)]
struct Source {
    tables: Vec<Table>,
    wal: Vec<PathBuf>,
    chunks: BTreeMap<Sequence, Place>,
    meta: HashMap<Bytes, (u64, Option<Bytes>)>,
    blocks: BTreeMap<(TopicId, u64), IndexEntry>,
    /// Files that can't be read, or not all of them.
    bad: Vec<String>,
}

/// Makes a new data directory of what can be read of another one. `progress` is told the bytes of
/// messages saved so far. Returns what was saved, and what could not be read.
///
/// # Errors
/// The source can't be listed, or the new directory is there already or can't be written.
pub fn rebuild(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(u64),
) -> Result<(Imported, Vec<String>), JournalError> {
    let mut source = Source::default();
    source.read_tables(from)?;
    source.read_wal(from)?;
    source.read_directories();
    let mut import = Import::begin(to)?;
    let topics = source.give_meta(from, &mut import)?;
    let mut saved = 0;
    let blocks = std::mem::take(&mut source.blocks);
    for ((topic, _), entry) in blocks {
        if !topics.contains(&topic) {
            continue;
        }
        let Some(chunk) = source.chunk(entry.sequence) else { continue };
        if chunk::verify(&chunk, &entry).is_err() {
            source.bad.push(format!("sequence {}: a block's checksum", entry.sequence.0));
            continue;
        }
        let body = chunk::block(topic, &chunk, &entry).body;
        saved += body.len() as u64;
        import.take(Piece::Block { topic, entry, body })?;
        progress(saved);
    }
    let whole = source.chunks.keys().next_back().map_or(0, |last| last.0);
    let suspect = (!source.bad.is_empty()).then_some([0, whole]);
    Ok((import.finish(suspect)?, source.bad))
}

impl Source {
    fn read_tables(&mut self, from: &Path) -> Result<(), JournalError> {
        let keyspaces = from.join(store::FOLDER).join("keyspaces");
        if let Err(bad) = salvage::manifest::check(&from.join(store::FOLDER)) {
            self.bad.push(bad.to_string());
        }
        let cache = Arc::new(Cache::with_capacity_bytes(16 * 1024 * 1024));
        for keyspace in [META, BLOCKS] {
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
        if keyspace == BLOCKS
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
        if keyspace == BLOCKS {
            if let Some(sequence) = sequence_of(&key) {
                self.chunks.insert(Sequence(sequence), Place::Table(table));
            }
            return;
        }
        let value = (!item.is_tombstone()).then(|| Bytes::from(item.value));
        self.take_meta(key, seqno, value);
    }

    fn take_meta(&mut self, key: Bytes, seqno: u64, value: Option<Bytes>) {
        let newest = self.meta.get(&key).is_none_or(|(known, _)| *known <= seqno);
        if newest {
            self.meta.insert(key, (seqno, value));
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
                // Only an intact start marker tells the seqno; the next one up is as good.
                last_seqno = if batch.intact { batch.seqno } else { last_seqno + 1 };
                for item in wal::items(&bytes[batch.items.clone()]) {
                    self.take_wal_item(file, &bytes, item, last_seqno);
                }
            }
        }
        Ok(())
    }

    fn take_wal_item(&mut self, file: usize, bytes: &[u8], item: wal::Item<'_>, seqno: u64) {
        match (item.keyspace, item.value) {
            (BLOCKS, Some(value)) => {
                let at = value.as_ptr() as usize - bytes.as_ptr() as usize;
                let place = Place::Wal { file, at, len: value.len() };
                if let Some(sequence) = sequence_of(item.key) {
                    self.chunks.entry(Sequence(sequence)).or_insert(place);
                }
            }
            (META, value) => {
                let value = value.map(Bytes::copy_from_slice);
                self.take_meta(Bytes::copy_from_slice(item.key), seqno, value);
            }
            _ => {}
        }
    }

    /// Finds out which blocks there are. One that was copied forward is there twice; either does.
    fn read_directories(&mut self) {
        let sequences: Vec<_> = self.chunks.keys().copied().collect();
        for sequence in sequences {
            let directory = self.chunk(sequence).map(|chunk| chunk::directory(sequence, &chunk));
            match directory {
                Some(Ok(found)) => {
                    let blocks =
                        found.into_iter().map(|f| ((f.topic, f.entry.base_offset), f.entry));
                    self.blocks.extend(blocks);
                }
                _ => self.bad.push(format!("sequence {}: the chunk can't be read", sequence.0)),
            }
        }
    }

    fn chunk(&self, sequence: Sequence) -> Option<Bytes> {
        match *self.chunks.get(&sequence)? {
            Place::Table(table) => Some(Bytes::from(point(&self.tables[table], sequence)?.value)),
            Place::Wal { file, at, len } => {
                use std::os::unix::fs::FileExt;
                let mut chunk = vec![0; len];
                let file = std::fs::File::open(&self.wal[file]).ok()?;
                file.read_exact_at(&mut chunk, at as u64).ok()?;
                Some(chunk.into())
            }
        }
    }

    /// Hands the small keys over; the topics whose blocks are wanted.
    fn give_meta(
        &self,
        from: &Path,
        import: &mut Import,
    ) -> Result<BTreeSet<TopicId>, JournalError> {
        let mut deleted = BTreeSet::new();
        let mut topics = BTreeSet::new();
        for (key, value) in &self.meta {
            let (key, Some(value)) = (key.clone(), value.1.clone()) else { continue };
            deleted.extend(Store::parse_deleted(&key));
            if Store::is_content(&key) {
                if let Ok(Some(record)) = Store::parse_topic(&key, &value) {
                    topics.insert(record.id);
                }
                import.take(Piece::Meta { key, value })?;
            }
        }
        let listed = roster::listed(from).unwrap_or_default();
        let unknown: BTreeSet<_> = self.blocks.keys().map(|(topic, _)| *topic).collect();
        for id in unknown {
            if topics.contains(&id) || deleted.contains(&id) {
                continue;
            }
            let name = match listed.iter().find(|listed| listed.id == id) {
                Some(listed) => listed.name.clone(),
                None => match TopicName::new(&format!("recovered-{id}")) {
                    Ok(name) => name,
                    Err(_) => continue,
                },
            };
            import.add_topic(TopicRecord::new(id, name, TopicSettings::default()));
            topics.insert(id);
        }
        Ok(topics)
    }
}

fn sequence_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn point(table: &Table, sequence: Sequence) -> Option<InternalValue> {
    let key = Slice::from(sequence.0.to_be_bytes());
    table.range(key.clone()..=key).next()?.ok()
}
