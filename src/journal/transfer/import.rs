//! Making a data directory of a journal's content.
//!
//! Offsets, epochs, times and receipts stay what they were; only places in the journal are new.
//!
//! Invariants: the directory is new, and complete once [`Import::finish`] has returned; memory is
//! bounded by a chunk, and a page a topic; a hole between a topic's blocks that was not announced
//! becomes damage, which somebody has to accept.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Piece;
use super::stream::Reader;
use crate::journal::chunk::{self, CHUNK_BYTES};
use crate::journal::index::{IndexEntry, TopicIndex};
use crate::journal::page::PAGE_ENTRIES;
use crate::journal::positions::{self, Positions};
use crate::journal::roster::Roster;
use crate::journal::salvage::sync_folder;
use crate::journal::store::{LowWatermark, Store};
use crate::journal::watermark::{self, Extent, Watermark};
use crate::journal::{Damage, JournalError, StorageSettings, TopicRecord};
use crate::model::{Gap, Sequence, TopicId};

/// Bytes after which what was taken is committed.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Offsets that a topic goes on behind when what it lost at its end can't be known.
const SUSPECT_OFFSETS: u64 = 1 << 20;

/// What was brought over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Topics.
    pub topics: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
    /// Offsets that are missing and were not announced.
    pub damaged: u64,
}

/// Makes a data directory of a backup. `progress` is told the bytes taken so far.
///
/// # Errors
/// The directory is there already, can't be written, or the backup is damaged or cut short; what
/// was made of it by then is no data directory.
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

struct Topic {
    record: TopicRecord,
    low: LowWatermark,
    index: TopicIndex,
}

/// A directory in the making.
pub(super) struct Import {
    directory: PathBuf,
    /// Where it is made; renamed at the end.
    making: PathBuf,
    store: Store,
    topics: BTreeMap<TopicId, Topic>,
    /// Low watermarks, as they may come before their topics.
    lows: BTreeMap<TopicId, LowWatermark>,
    positions: Positions,
    /// Blocks for the chunk in the making.
    blocks: Vec<(TopicId, IndexEntry, Bytes)>,
    blocks_bytes: usize,
    metas: Vec<(Bytes, Bytes)>,
    metas_bytes: usize,
    done: Imported,
}

impl Import {
    pub(super) fn begin(directory: &Path) -> Result<Self, JournalError> {
        let failed =
            |error| JournalError::Directory { path: directory.to_owned(), error: Arc::new(error) };
        if directory.try_exists().map_err(failed)? {
            let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(failed(exists));
        }
        let mut name = directory.file_name().unwrap_or_default().to_owned();
        name.push(".incomplete");
        let making = directory.with_file_name(name);
        // What an earlier try has left is for somebody to look at.
        std::fs::create_dir(&making).map_err(|error| JournalError::Directory {
            path: making.clone(),
            error: Arc::new(error),
        })?;
        let settings = StorageSettings { path: making.clone(), ..StorageSettings::default() };
        Store::ensure(&making, &settings)?;
        let store = Store::open(&making, &settings)?;
        let positions = store.positions()?;
        Ok(Self {
            directory: directory.to_owned(),
            making,
            store,
            topics: BTreeMap::new(),
            lows: BTreeMap::new(),
            positions,
            blocks: Vec::new(),
            blocks_bytes: 0,
            metas: Vec::new(),
            metas_bytes: 0,
            done: Imported::default(),
        })
    }

    pub(super) fn take(&mut self, piece: Piece) -> Result<(), JournalError> {
        match piece {
            Piece::Meta { key, value } => self.take_meta(key, value),
            Piece::Block { topic, entry, body } => self.take_block(topic, entry, body),
        }
    }

    /// A topic whose record did not come.
    pub(super) fn add_topic(&mut self, record: TopicRecord) {
        let mut index = TopicIndex::default();
        index.gaps.clone_from(&record.gaps);
        let low = self.lows.get(&record.id).copied().unwrap_or_default();
        self.positions.next_topic_id = self.positions.next_topic_id.max(record.id.0 + 1);
        self.topics.insert(record.id, Topic { record, low, index });
    }

    fn take_meta(&mut self, key: Bytes, value: Bytes) -> Result<(), JournalError> {
        if let Some(source) = Some(&value).filter(|_| *key == *positions::KEY) {
            // Topic ids are never used twice, and pieces of dedup windows are numbered by commits.
            let Some(source) = Positions::decode(source) else { return Ok(()) };
            self.positions.next_topic_id = self.positions.next_topic_id.max(source.next_topic_id);
            self.positions.commits = self.positions.commits.max(source.commits);
            self.positions.age_ms = self.positions.age_ms.max(source.age_ms);
            self.positions.last_time = self.positions.last_time.max(source.last_time);
            return Ok(());
        }
        if let Some((topic, low)) = Store::parse_low(&key, &value) {
            self.lows.insert(topic, low);
            if let Some(topic) = self.topics.get_mut(&topic) {
                topic.low = low;
            }
        }
        if let Some(record) = Store::parse_topic(&key, &value)? {
            self.add_topic(record);
            return Ok(());
        }
        if !Store::is_portable(&key) {
            return Ok(());
        }
        self.metas_bytes += key.len() + value.len();
        self.metas.push((key, value));
        if self.metas_bytes >= COMMIT_BYTES { self.commit() } else { Ok(()) }
    }

    fn take_block(
        &mut self,
        id: TopicId,
        entry: IndexEntry,
        body: Bytes,
    ) -> Result<(), JournalError> {
        let believable = entry.count > 0 && entry.base_offset < 1 << 62;
        if crc32c::crc32c(&body) != entry.crc || !believable {
            let error = std::io::Error::other("a block is not as it was written");
            return Err(JournalError::Backup(Arc::new(error)));
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        if entry.base_offset < topic.index.head || entry.end_offset() <= topic.low.first {
            // Known, or kept by nobody.
            return Ok(());
        }
        if topic.index.head == 0 && topic.index.bytes == 0 {
            topic.index.trim(topic.low.first, topic.low.bytes_before);
            topic.index.bytes = topic.low.bytes_before;
            topic.index.skip_to(topic.low.first);
        }
        self.done.damaged += topic.pass_over(entry.base_offset);
        topic.index.skip_to(entry.base_offset);
        self.positions.age_ms = self.positions.age_ms.max(entry.age_ms);
        self.positions.last_time = self.positions.last_time.max(entry.time);
        if self.blocks_bytes > 0 && self.blocks_bytes + body.len() > CHUNK_BYTES {
            self.commit()?;
        }
        // The head tells whether the next one follows; its place is known with the chunk.
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.index.head = entry.end_offset();
        }
        self.done.messages += u64::from(entry.count);
        self.done.bytes += body.len() as u64;
        self.blocks_bytes += body.len();
        self.blocks.push((id, entry, body));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let mut batch = self.store.batch();
        for (key, value) in self.metas.drain(..) {
            batch.put_meta(&key, &value);
        }
        self.metas_bytes = 0;
        let blocks: Vec<_> = self.blocks.drain(..).collect();
        self.blocks_bytes = 0;
        if !blocks.is_empty() {
            let stored = blocks.iter().map(|(topic, entry, body)| (*topic, *entry, body));
            let chunk = chunk::encode_again(Sequence(self.positions.next_sequence), stored);
            self.positions.next_sequence += 1;
            let mut paged = HashSet::new();
            for found in &chunk.entries {
                let Some(topic) = self.topics.get_mut(&found.topic) else { continue };
                if topic.index.tail.len() >= PAGE_ENTRIES && paged.insert(found.topic) {
                    topic.index.page().iter().for_each(|page| batch.put_page(found.topic, page));
                    topic.index.tail.clear();
                }
                topic.index.bytes += u64::from(found.entry.bytes);
                topic.index.tail.push_back(found.entry);
            }
            batch.put_chunk(chunk.sequence, chunk.value);
        }
        self.positions.commits += 1;
        batch.put_positions(self.positions);
        batch.commit(false)
    }

    /// Writes what is left and makes the directory real. With `suspect`, every topic may have lost
    /// messages at its end, since these sequences of the source could not be read.
    pub(super) fn finish(mut self, suspect: Option<[u64; 2]>) -> Result<Imported, JournalError> {
        self.commit()?;
        let mut batch = self.store.batch();
        for (id, topic) in &mut self.topics {
            if let Some(page) = topic.index.page() {
                batch.put_page(*id, &page);
            }
            topic.settle(suspect);
            batch.put_low(*id, topic.low);
            batch.put_topic(&topic.record);
        }
        self.positions.commits += 1;
        self.positions.durable_commits = self.positions.commits;
        self.positions.examined_commits = self.positions.commits;
        self.positions.indexed_sequence = self.positions.next_sequence;
        batch.put_positions(self.positions);
        batch.commit(true)?;
        self.done.topics = self.topics.len() as u64;

        let Positions { commits, next_sequence, next_topic_id, .. } = self.positions;
        let extent = Extent { commits, durable_commits: commits, next_sequence };
        let journal = self.positions.journal;
        Watermark::create(&self.making, watermark::boot_id(), journal, extent)?.close(extent)?;
        let records = self.topics.values().map(|topic| &topic.record);
        Roster::create(&self.making, records, next_topic_id)?;
        drop(self.store);
        let rename = || {
            std::fs::rename(&self.making, &self.directory)?;
            sync_folder(&self.directory)
        };
        rename().map_err(|error| JournalError::Directory {
            path: self.directory.clone(),
            error: Arc::new(error),
        })?;
        Ok(self.done)
    }
}

impl Topic {
    /// The next block begins here; how many offsets before it are missing without a word.
    fn pass_over(&mut self, next: u64) -> u64 {
        let mut missing = 0;
        let mut from = self.index.head;
        let known = self.record.gaps.iter().copied().chain(self.record.certain_damage());
        let mut known: Vec<Gap> = known.collect();
        known.sort_unstable();
        for gap in known {
            if let Some(hole) = Gap::before(from, gap.from.min(next)) {
                missing += hole.len();
                self.record.add_damage(hole);
            }
            from = from.max(gap.end());
        }
        if let Some(hole) = Gap::before(from, next) {
            missing += hole.len();
            self.record.add_damage(hole);
        }
        missing
    }

    /// Nothing is reserved beyond what was given out, damage at the very end included.
    fn settle(&mut self, suspect: Option<[u64; 2]>) {
        let given_up = self.record.gaps.last().map_or(0, Gap::end);
        let damaged = self.record.certain_damage().last().map_or(0, Gap::end);
        let end = self.index.head.max(self.low.first).max(given_up).max(damaged);
        self.record.reserved = end;
        if let Some(sequences) = suspect {
            let gap = Gap { from: end, to: end + SUSPECT_OFFSETS - 1 };
            self.record.damage.push(Damage { gap, sequences: Some(sequences) });
        }
    }
}
