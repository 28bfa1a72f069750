//! What one commit writes, all of it or nothing.

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode};

use super::Store;
use super::keys::{self, LowWatermark};
use crate::journal::page::Page;
use crate::journal::positions::{self, Positions};
use crate::journal::{JournalError, TopicRecord};
use crate::model::{Sequence, TopicId};

/// See the module.
pub(in crate::journal) struct StoreBatch<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
}

impl<'a> StoreBatch<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, batch: store.database.batch() }
    }

    pub(in crate::journal) fn put_meta(&mut self, key: &[u8], value: &[u8]) {
        self.batch.insert(&self.store.meta, key, value);
    }

    pub(in crate::journal) fn put_chunk(&mut self, sequence: Sequence, value: Bytes) {
        self.batch.insert(&self.store.blocks, sequence.0.to_be_bytes(), value);
    }

    pub(in crate::journal) fn put_page(&mut self, topic: TopicId, page: &Page) {
        let Some(first) = page.entries.first() else { return };
        let key = Page::key(topic, first.base_offset);
        let value = page.encode(&key);
        self.batch.insert(&self.store.index, key, value);
    }

    pub(in crate::journal) fn remove_page(&mut self, topic: TopicId, base_offset: u64) {
        self.batch.remove(&self.store.index, Page::key(topic, base_offset));
    }

    pub(in crate::journal) fn put_positions(&mut self, positions: Positions) {
        self.put_meta(positions::KEY, &positions.encode());
    }

    pub(in crate::journal) fn put_topic(&mut self, record: &TopicRecord) {
        let value = serde_json::to_vec(record).expect("a topic record is plain data");
        self.put_meta(&keys::of_topic(keys::TOPIC, record.id, b""), &value);
    }

    /// Takes a topic out of the catalogue. What belongs to it stays until it is reclaimed; it has
    /// no blocks in chunks from `end` on.
    pub(in crate::journal) fn remove_topic(&mut self, topic: TopicId, end: Sequence) {
        self.remove_meta(&keys::of_topic(keys::TOPIC, topic, b""));
        self.put_meta(&keys::of_topic(keys::DELETED, topic, b""), &end.0.to_le_bytes());
    }

    /// Nothing of a deleted topic is left.
    pub(in crate::journal) fn forget_topic(&mut self, topic: TopicId) {
        self.remove_meta(&keys::of_topic(keys::LOW, topic, b""));
        self.remove_meta(&keys::of_topic(keys::DELETED, topic, b""));
    }

    pub(in crate::journal) fn put_low(&mut self, topic: TopicId, low: LowWatermark) {
        self.put_meta(&keys::of_topic(keys::LOW, topic, b""), &low.encode());
    }

    pub(in crate::journal) fn put_ids(&mut self, topic: TopicId, number: u64, value: &[u8]) {
        self.put_meta(&keys::of_topic(keys::IDS, topic, &number.to_be_bytes()), value);
    }

    pub(in crate::journal) fn remove_ids(&mut self, topic: TopicId, number: u64) {
        self.remove_meta(&keys::of_topic(keys::IDS, topic, &number.to_be_bytes()));
    }

    pub(in crate::journal) fn put_producer(&mut self, topic: TopicId, name: &str, value: &[u8]) {
        self.put_meta(&keys::of_topic(keys::PRODUCER, topic, name.as_bytes()), value);
    }

    pub(in crate::journal) fn remove_producer(&mut self, topic: TopicId, name: &str) {
        self.remove_meta(&keys::of_topic(keys::PRODUCER, topic, name.as_bytes()));
    }

    fn remove_meta(&mut self, key: &[u8]) {
        self.batch.remove(&self.store.meta, key);
    }

    /// Writes everything or nothing; once it returns the system has it, or, with `sync`, the disk.
    pub(in crate::journal) fn commit(self, sync: bool) -> Result<(), JournalError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        Ok(self.batch.durability(Some(mode)).commit()?)
    }
}
