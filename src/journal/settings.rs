//! `[storage]` of broker.toml.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the journal lives and how much memory and disk its store may use for itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// The data directory; made if it does not exist.
    pub path: PathBuf,
    /// Cache of table blocks, in bytes.
    pub block_cache_bytes: u64,
    /// Size at which a keyspace's memtable is written out as a table, in bytes. Larger ones make
    /// longer stalls: while one is synced commits wait for the disk. From 16 to 4 MiB p99 of an
    /// acknowledgement fell from about 25 to 14 ms at 300,000 messages a second, and throughput by
    /// a tenth.
    pub memtable_bytes: u64,
    /// Disk that fjall's WAL may take, in bytes; before that the oldest keyspace is forced to
    /// flush.
    pub wal_bytes_max: u64,
    /// Room that must be free on the disk for publishing to continue, in bytes, in addition to data
    /// in memory that has yet to be written; at most an eighth of the file system is asked for.
    pub free_bytes_min: u64,
    /// Disk that is preallocated, in bytes, for what must continue when other programs have filled
    /// the disk: deletions, settings, retention, backups, stop and start; at most an eighth of the
    /// file system is taken. 0 keeps none.
    pub reserve_bytes: u64,
    /// Table files that are kept open; `None` leaves it to fjall. Not a setting: it follows from
    /// the limit on open files.
    #[serde(skip)]
    pub open_tables_max: Option<usize>,
    /// Most producer names one topic remembers; the longest silent ones are forgotten first.
    pub producer_names_max: usize,
    /// Memory for what topics remember of ids and producers, in bytes; entries not used for long
    /// are then read from the disk when needed. A full window of 10,000 ids takes 0.6 MB.
    pub fold_bytes_max: usize,
    /// How often retention looks for messages to delete, in milliseconds.
    pub retention_interval_ms: u64,
    /// Longest time one write or sync may take before the broker gives up on the disk, exits and
    /// leaves the rest to recovery.
    pub stall_ms_max: u64,
}

impl Default for StorageSettings {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            path: PathBuf::from("data"),
            block_cache_bytes: 32 * MIB,
            memtable_bytes: 8 * MIB,
            wal_bytes_max: 256 * MIB,
            free_bytes_min: 256 * MIB,
            reserve_bytes: 64 * MIB,
            open_tables_max: None,
            producer_names_max: 10_000,
            fold_bytes_max: 64 * MIB as usize,
            retention_interval_ms: 5_000,
            stall_ms_max: 60_000,
        }
    }
}

impl StorageSettings {
    /// For checking a directory: nothing in it may be dropped meanwhile.
    pub(crate) fn untouched(path: &Path) -> Self {
        let (retention_interval_ms, reserve_bytes) = (3_600_000, 0);
        Self { path: path.to_owned(), retention_interval_ms, reserve_bytes, ..Self::default() }
    }

    /// Checks the numbers against what the store can take.
    ///
    /// # Errors
    /// The key and what it may be.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        const MIB: u64 = 1024 * 1024;
        if self.path.as_os_str().is_empty() {
            return Err(("path", "is empty; it must name a directory".into()));
        }
        if self.memtable_bytes < MIB {
            return Err(("memtable_bytes", "must be at least 1048576 (1 MiB)".into()));
        }
        if self.wal_bytes_max < 192 * MIB {
            return Err(("wal_bytes_max", "must be at least 201326592 (192 MiB)".into()));
        }
        if self.producer_names_max == 0 {
            return Err(("producer_names_max", "must be at least 1".into()));
        }
        if (self.fold_bytes_max as u64) < MIB {
            return Err(("fold_bytes_max", "must be at least 1048576 (1 MiB)".into()));
        }
        if !(100..=3_600_000).contains(&self.retention_interval_ms) {
            return Err(("retention_interval_ms", "may be 100 to 3600000".into()));
        }
        if self.stall_ms_max < 1_000 {
            return Err(("stall_ms_max", "must be at least 1000".into()));
        }
        Ok(())
    }
}
