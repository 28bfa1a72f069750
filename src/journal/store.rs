//! fjall, wrapped: three keyspaces with monotone or few keys, one batch a commit.
//!
//! - `blocks`: chunks by sequence (`u64` BE), see `chunk`.
//! - `index`: pages by topic and offset, see `index`.
//! - `meta`: [`Positions`] under `positions`, topic records under `topic/` + id (`u32` BE), the
//!   receipt key under `receipt-key`, the format version under `format`.
//!
//! What is set here and why is in DESIGN §4: few keyspaces and at least two workers (fjall 3.1.13
//! deadlocks its own workers otherwise), small memtables, no WAL compression. No other file
//! works with fjall; its error stands in [`JournalError`].

use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::index::Page;
use super::settings::StorageSettings;
use super::{JournalError, TopicRecord};
use crate::model::{AckLevel, ReceiptKey, Sequence, TopicId};

const FORMAT: &[u8] = b"weir journal 1";
const TOPIC_PREFIX: &[u8] = b"topic/";

/// The journal's place in the database.
#[derive(Clone)]
pub(super) struct Store {
    database: Database,
    blocks: Keyspace,
    index: Keyspace,
    meta: Keyspace,
}

/// Where the journal stands; written with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Positions {
    /// The next chunk's sequence; never derived from the last key.
    pub(super) next_sequence: u64,
    /// Chunks before this one are wholly known to index pages.
    pub(super) indexed_sequence: u64,
    /// The next topic's id.
    pub(super) next_topic_id: u32,
}

/// What one commit writes, all of it or nothing.
pub(super) struct StoreBatch<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
}

impl Store {
    /// Opens or creates the database under `directory`.
    pub(super) fn open(directory: &Path, settings: &StorageSettings) -> Result<Self, JournalError> {
        let database = Database::builder(directory)
            .worker_threads(2)
            .cache_size(settings.block_cache_bytes)
            .max_journaling_size(settings.wal_bytes_max)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.memtable_bytes)
                .manual_journal_persist(true)
        };
        let blocks = database.keyspace("blocks", || options().expect_point_read_hits(true))?;
        let index = database.keyspace("index", options)?;
        let meta = database.keyspace("meta", options)?;
        let store = Self { database, blocks, index, meta };
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), JournalError> {
        match self.meta.get(b"format")? {
            Some(found) if &*found == FORMAT => Ok(()),
            Some(found) => Err(JournalError::Metadata(format!(
                "format {:?} is not {:?}",
                String::from_utf8_lossy(&found),
                String::from_utf8_lossy(FORMAT)
            ))),
            None => {
                let mut batch = self.batch();
                batch.batch.insert(&self.meta, b"format", FORMAT);
                batch.commit(AckLevel::Sync)
            }
        }
    }

    pub(super) fn batch(&self) -> StoreBatch<'_> {
        StoreBatch { store: self, batch: self.database.batch() }
    }

    /// Makes everything committed so far durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    pub(super) fn chunk(&self, sequence: Sequence) -> Result<Option<Bytes>, JournalError> {
        Ok(self.blocks.get(sequence.0.to_be_bytes())?.map(Bytes::from))
    }

    /// The chunks from `sequence` on, in order.
    pub(super) fn chunks_from(
        &self,
        sequence: Sequence,
    ) -> impl Iterator<Item = Result<(Sequence, Bytes), JournalError>> {
        self.blocks.range(sequence.0.to_be_bytes()..).map(|guard| {
            let (key, value) = guard.into_inner()?;
            let key = <[u8; 8]>::try_from(&*key)
                .map_err(|_| JournalError::Metadata("a chunk's key is no sequence".into()))?;
            Ok((Sequence(u64::from_be_bytes(key)), Bytes::from(value)))
        })
    }

    /// The topic's page that holds `offset`, or would: the last one that begins at or before it.
    pub(super) fn page_at(
        &self,
        topic: TopicId,
        offset: u64,
    ) -> Result<Option<Page>, JournalError> {
        let range = Page::key(topic, 0)..=Page::key(topic, offset);
        let Some(guard) = self.index.range(range).next_back() else { return Ok(None) };
        let (key, value) = guard.into_inner()?;
        Page::decode(&key, &value)
            .map(Some)
            .map_err(|what| JournalError::Metadata(format!("topic {topic}: {what}")))
    }

    pub(super) fn positions(&self) -> Result<Positions, JournalError> {
        let Some(value) = self.meta.get(b"positions")? else { return Ok(Positions::default()) };
        let mut bytes = &value[..];
        if bytes.len() != 20 {
            return Err(JournalError::Metadata("positions have a wrong length".into()));
        }
        Ok(Positions {
            next_sequence: bytes.get_u64_le(),
            indexed_sequence: bytes.get_u64_le(),
            next_topic_id: bytes.get_u32_le(),
        })
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = Result<TopicRecord, JournalError>> {
        self.meta.prefix(TOPIC_PREFIX).map(|guard| {
            let value = guard.value()?;
            serde_json::from_slice(&value)
                .map_err(|error| JournalError::Metadata(format!("a topic record: {error}")))
        })
    }

    /// The key receipts are sealed with; made when there is none yet.
    pub(super) fn receipt_key(&self) -> Result<ReceiptKey, JournalError> {
        if let Some(found) = self.meta.get(b"receipt-key")? {
            let secret = <[u8; 16]>::try_from(&*found)
                .map_err(|_| JournalError::Metadata("the receipt key has a wrong length".into()))?;
            return Ok(ReceiptKey::new(secret));
        }
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| {
            JournalError::Metadata(format!("no randomness for the receipt key: {error}"))
        })?;
        let mut batch = self.batch();
        batch.batch.insert(&self.meta, b"receipt-key", secret);
        batch.commit(AckLevel::Sync)?;
        Ok(ReceiptKey::new(secret))
    }
}

impl StoreBatch<'_> {
    pub(super) fn put_chunk(&mut self, sequence: Sequence, value: Bytes) {
        self.batch.insert(&self.store.blocks, sequence.0.to_be_bytes(), value);
    }

    pub(super) fn put_page(&mut self, topic: TopicId, page: &Page) {
        let Some(first) = page.entries.first() else { return };
        let key = Page::key(topic, first.base_offset);
        let value = page.encode(&key);
        self.batch.insert(&self.store.index, key, value);
    }

    pub(super) fn put_positions(&mut self, positions: Positions) {
        let mut value = Vec::with_capacity(20);
        value.put_u64_le(positions.next_sequence);
        value.put_u64_le(positions.indexed_sequence);
        value.put_u32_le(positions.next_topic_id);
        self.batch.insert(&self.store.meta, b"positions", value);
    }

    pub(super) fn put_topic(&mut self, record: &TopicRecord) {
        let value = serde_json::to_vec(record).expect("a topic record is plain data");
        self.batch.insert(&self.store.meta, topic_key(record.id), value);
    }

    /// Takes a topic out of the catalogue, and its pages with it. Its blocks stay where they are.
    pub(super) fn remove_topic(&mut self, topic: TopicId) -> Result<(), JournalError> {
        self.batch.remove(&self.store.meta, topic_key(topic));
        for guard in self.store.index.prefix(topic.0.to_be_bytes()) {
            self.batch.remove(&self.store.index, guard.key()?);
        }
        Ok(())
    }

    /// Writes everything or nothing, and returns once it is as safe as `level` says.
    pub(super) fn commit(self, level: AckLevel) -> Result<(), JournalError> {
        let mode = match level {
            AckLevel::Os => PersistMode::Buffer,
            AckLevel::Sync => PersistMode::SyncData,
        };
        Ok(self.batch.durability(Some(mode)).commit()?)
    }
}

fn topic_key(topic: TopicId) -> Vec<u8> {
    [TOPIC_PREFIX, &topic.0.to_be_bytes()].concat()
}
