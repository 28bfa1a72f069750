//! What one commit writes, all of it or nothing.

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode};

use super::Store;
use crate::journal::JournalError;
use crate::journal::format::chunk::Place;
use crate::journal::format::positions::{self, Positions};
use crate::journal::index::{Page, PageStart};
use crate::journal::state::{self, StateKey};
use crate::model::StreamId;

/// See the module. Every key must be in it once: fjall takes no two values of one key in a batch.
pub(in crate::journal) struct StoreBatch<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
}

impl<'a> StoreBatch<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, batch: store.database.batch() }
    }

    /// Puts a key that has no checksum of the state's kind.
    pub(super) fn put_own(&mut self, key: &[u8], value: &[u8]) {
        self.batch.insert(&self.store.meta, key, value);
    }

    pub(in crate::journal) fn put_chunk(&mut self, place: Place, value: Bytes) {
        self.batch.insert(self.store.log(place.log), place.sequence.0.to_be_bytes(), value);
    }

    pub(in crate::journal) fn put_page(&mut self, stream: StreamId, page: &Page) {
        let Some(start) = page.start() else { return };
        let key = Page::key(stream, start);
        let value = page.encode(&key);
        self.batch.insert(&self.store.index, key, value);
    }

    pub(in crate::journal) fn remove_page(&mut self, stream: StreamId, start: PageStart) {
        self.batch.remove(&self.store.index, Page::key(stream, start));
    }

    pub(in crate::journal) fn put_positions(&mut self, positions: &Positions) {
        self.put_own(positions::KEY, &positions.encode());
    }

    pub(in crate::journal) fn put_state(&mut self, key: &StateKey, value: &[u8]) {
        let sealed = state::seal(key, value);
        self.batch.insert(self.store.keyspace_of(key), key.as_bytes(), sealed);
    }

    pub(in crate::journal) fn remove_state(&mut self, key: &StateKey) {
        self.batch.remove(self.store.keyspace_of(key), key.as_bytes());
    }

    /// Writes everything or nothing; once it returns the system has it, or, with `sync`, the disk.
    pub(in crate::journal) fn commit(self, sync: bool) -> Result<(), JournalError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        Ok(self.batch.durability(Some(mode)).commit()?)
    }
}
