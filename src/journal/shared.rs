//! What the writer, reclaiming and readers share.
//!
//! Invariants: the index of a stream is changed by the writer alone; no thread holds two of these
//! locks for longer than it takes to look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dashmap::DashMap;
use rustc_hash::FxBuildHasher;

use super::age::Age;
use super::format::positions::Positions;
use super::index::StreamIndex;
use super::reclaim::{Deleted, SegmentUsage};
use super::store::Store;
use super::unit::StreamLimits;
use crate::model::{Log, OwnerId, Sequence, StreamId};

/// What readers and the writer share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) streams: DashMap<StreamId, Arc<StreamState>, FxBuildHasher>,
    /// Appending is refused for want of room on the disk.
    pub(super) storage_full: AtomicBool,
    /// Free room on the disk, as the writer last measured it.
    pub(super) free_bytes: AtomicU64,
    /// How old the journal is.
    pub(super) age: Age,
    /// Each log's.
    logs: [LogState; 2],
    /// Online copies in flight, during which nothing is dropped.
    pub(super) backups: AtomicUsize,
    deleted: Mutex<HashMap<OwnerId, Deleted>>,
}

/// What is known of one log.
pub(super) struct LogState {
    /// Chunks before this one are wholly known to pages.
    pub(super) indexed_sequence: AtomicU64,
    /// Chunks before this one may be dropped.
    pub(super) floor_sequence: AtomicU64,
    /// Bytes of chunks written since reclaiming last looked.
    pub(super) written_bytes: AtomicU64,
    usage: Mutex<SegmentUsage>,
}

impl LogState {
    // Changed by single, complete steps: a panic leaves it valid.
    pub(super) fn lock_usage(&self) -> MutexGuard<'_, SegmentUsage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) fn new(
        store: Store,
        age: Age,
        positions: &Positions,
        deleted: HashMap<OwnerId, Deleted>,
    ) -> Self {
        let log = |log: Log| LogState {
            indexed_sequence: AtomicU64::new(positions.log(log).indexed_sequence),
            floor_sequence: AtomicU64::new(positions.log(log).floor_sequence),
            written_bytes: AtomicU64::new(0),
            usage: Mutex::default(),
        };
        Self {
            store,
            streams: DashMap::default(),
            storage_full: AtomicBool::new(false),
            free_bytes: AtomicU64::new(u64::MAX),
            age,
            logs: Log::ALL.map(log),
            backups: AtomicUsize::new(0),
            deleted: Mutex::new(deleted),
        }
    }

    pub(super) fn log(&self, log: Log) -> &LogState {
        &self.logs[log as usize]
    }

    pub(super) fn stream(&self, stream: StreamId) -> Option<Arc<StreamState>> {
        self.streams.get(&stream).map(|state| state.clone())
    }

    pub(super) fn lock_deleted(&self) -> MutexGuard<'_, HashMap<OwnerId, Deleted>> {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) log: Log,
    /// Number of its last block, that of the commit in the making included. The writer's alone.
    number: AtomicU64,
    index: RwLock<StreamIndex>,
    limit_age_ms: AtomicU64,
    limit_bytes: AtomicU64,
    /// One more than the age of the oldest block kept, as reclaiming last saw it; 0 if it did not.
    pub(super) oldest_age_ms: AtomicU64,
}

impl StreamState {
    pub(super) fn new(index: StreamIndex) -> Arc<Self> {
        Arc::new(Self {
            log: index.extent.log,
            number: AtomicU64::new(index.extent.number),
            index: RwLock::new(index),
            limit_age_ms: AtomicU64::new(u64::MAX),
            limit_bytes: AtomicU64::new(u64::MAX),
            oldest_age_ms: AtomicU64::new(0),
        })
    }

    /// Number of its last block, that of the commit in the making included.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// The next block's number.
    pub(super) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn limits(&self) -> StreamLimits {
        StreamLimits {
            age_ms: self.limit_age_ms.load(Ordering::Relaxed),
            bytes: self.limit_bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_limits(&self, limits: StreamLimits) {
        self.limit_age_ms.store(limits.age_ms, Ordering::Relaxed);
        self.limit_bytes.store(limits.bytes, Ordering::Relaxed);
    }

    // The index is only changed by single, complete steps: a panic leaves it valid.
    pub(super) fn read_index(&self) -> RwLockReadGuard<'_, StreamIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_index(&self) -> RwLockWriteGuard<'_, StreamIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of both logs.
pub(super) fn log_ends(positions: &Positions) -> [Sequence; 2] {
    Log::ALL.map(|log| Sequence(positions.log(log).next_sequence))
}
