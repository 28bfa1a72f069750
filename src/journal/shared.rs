//! What the writer, retention and readers share.
//!
//! Invariants: the index of a topic is changed by the writer alone; nobody holds two of these
//! locks for longer than it takes to look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::DashMap;

use super::index::TopicIndex;
use super::recovery::Recovered;
use super::retention::{Deleted, Ledger};
use super::store::Store;
use super::{Damage, TopicRecord};
use crate::model::{Sequence, TopicId, TopicSettings};

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) topics: DashMap<TopicId, Arc<TopicState>>,
    /// Publishing is refused for want of room on the disk.
    pub(super) storage_full: AtomicBool,
    /// Chunks before this one are wholly known to pages.
    pub(super) indexed_sequence: AtomicU64,
    /// Chunks before this one may be gone.
    pub(super) floor_sequence: AtomicU64,
    /// Bytes of chunks written since retention looked last.
    pub(super) written_bytes: AtomicU64,
    /// Online copies under way, during which nothing is dropped.
    pub(super) backups: AtomicUsize,
    ledger: Mutex<Ledger>,
    deleted: Mutex<HashMap<TopicId, Deleted>>,
}

impl Shared {
    pub(super) fn new(store: Store, recovered: &Recovered) -> Self {
        let mut ledger = Ledger::default();
        recovered.topics.iter().flat_map(|topic| &topic.index.tail).for_each(|e| ledger.add(e));
        let deleted = |(id, end): (&TopicId, &Sequence)| {
            (
                *id,
                Deleted { end: *end, counted: false, first: 0, tail: Vec::new(), reclaimed: false },
            )
        };
        Self {
            store,
            topics: DashMap::new(),
            storage_full: AtomicBool::new(false),
            indexed_sequence: AtomicU64::new(recovered.positions.indexed_sequence),
            floor_sequence: AtomicU64::new(recovered.positions.floor_sequence),
            written_bytes: AtomicU64::new(0),
            backups: AtomicUsize::new(0),
            ledger: Mutex::new(ledger),
            deleted: Mutex::new(recovered.deleted.iter().map(deleted).collect()),
        }
    }

    // Both are changed by single, complete steps: a panic leaves them valid.
    pub(super) fn lock_ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_deleted(&self) -> MutexGuard<'_, HashMap<TopicId, Deleted>> {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) index: RwLock<TopicIndex>,
    /// What is damaged and not accepted yet.
    damage: RwLock<Vec<Damage>>,
    /// How long, in milliseconds, and how many bytes are kept.
    retention: RwLock<(u64, u64)>,
}

impl TopicState {
    pub(super) fn new(record: &TopicRecord, index: TopicIndex) -> Arc<Self> {
        let state = Self {
            index: RwLock::new(index),
            damage: RwLock::default(),
            retention: RwLock::default(),
        };
        state.show(record);
        Arc::new(state)
    }

    /// Shows what of a topic's record others than the writer have to know.
    pub(super) fn show(&self, record: &TopicRecord) {
        let TopicSettings { retention_ms, retention_bytes, .. } = record.settings;
        *self.damage.write().unwrap_or_else(PoisonError::into_inner) = record.damage.clone();
        *self.retention.write().unwrap_or_else(PoisonError::into_inner) =
            (retention_ms, retention_bytes);
    }

    pub(super) fn retention(&self) -> (u64, u64) {
        *self.retention.read().unwrap_or_else(PoisonError::into_inner)
    }

    // The index is only changed by single, complete steps: a panic leaves it valid.
    pub(super) fn read_index(&self) -> RwLockReadGuard<'_, TopicIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read_damage(&self) -> RwLockReadGuard<'_, Vec<Damage>> {
        self.damage.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_index(&self) -> RwLockWriteGuard<'_, TopicIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}
