//! fjall, wrapped: four keyspaces with monotone or few keys, one batch a commit.
//!
//! - `blocks`, `short`: the two logs, chunks by sequence (`u64` BE).
//! - `index`: each stream's pages, and state that is looked up when it is needed.
//! - `meta`: state that is read at each start.
//!
//! `format.md` has all keys and values. The settings here and their reasons are in DESIGN §4: few
//! keyspaces and at least two workers, small memtables, no WAL compression. fjall 3.1.13 can
//! deadlock its own workers (fewer workers or smaller memtables make it likely; with these it was
//! not seen in three minutes of full load, with memtables of 1 MiB it was); the writer notices and
//! stops. No other file uses fjall, but `wal`, `manifest` and `raw` know its formats;
//! [`JournalError`] wraps its error.
//!
//! Invariants: a database is made aside and then renamed, so that a crash meanwhile leaves none;
//! every batch holds [`Positions`], which `salvage` relies on.

mod batch;
pub(super) mod keys;
mod read;
mod reclaim;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

pub(super) use batch::StoreBatch;
pub(super) use snapshot::Snapshot;

use super::files::{sync_folder, sync_tree};
use super::format::positions::{self, Positions};
use super::salvage::manifest;
use super::settings::StorageSettings;
use super::state::StateKey;
use super::{JournalError, watermark};
use crate::model::Log;

/// The journal's database.
#[derive(Clone)]
pub(super) struct Store {
    database: Database,
    /// In the order of [`Log::ALL`].
    logs: [Keyspace; 2],
    index: Keyspace,
    meta: Keyspace,
}

/// Size at which fjall begins a new file of its WAL.
const WAL_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The database's folder in the data directory.
pub(super) const FOLDER: &str = "journal";

impl Store {
    /// The data directory.
    pub(super) fn directory(&self) -> PathBuf {
        let path = self.index.path();
        let database = path.ancestors().find(|folder| folder.ends_with(FOLDER));
        database.and_then(Path::parent).unwrap_or(path).to_owned()
    }

    /// Makes the database in `directory` if it has none.
    pub(super) fn ensure(directory: &Path, settings: &StorageSettings) -> Result<(), JournalError> {
        let database = directory.join(FOLDER);
        let failed =
            |error| JournalError::Directory { path: database.clone(), error: Arc::new(error) };
        if database.try_exists().map_err(failed)? {
            return Ok(());
        }
        if directory.join(watermark::FILE_NAME).try_exists().map_err(failed)? {
            let what = "is missing, though there was a journal here".into();
            return Err(JournalError::BadFile { path: database, what });
        }
        let new = directory.join("journal.new");
        if new.try_exists().map_err(failed)? {
            // A crash while it was made: nothing was in use yet.
            std::fs::remove_dir_all(&new).map_err(failed)?;
        }
        Self::open_at(&new, settings)?.begin()?;
        sync_tree(&new).map_err(failed)?;
        std::fs::rename(&new, &database).map_err(failed)?;
        sync_folder(&database).map_err(failed)
    }

    /// Opens the database in `directory`.
    ///
    /// # Errors
    /// The file that is damaged, if that can be determined; nothing was changed then.
    pub(super) fn open(directory: &Path, settings: &StorageSettings) -> Result<Self, JournalError> {
        let path = directory.join(FOLDER);
        let store = Self::open_at(&path, settings).map_err(|error| named(&path, error))?;
        match store.meta.get(keys::FORMAT_KEY)? {
            Some(found) if &*found == keys::FORMAT => Ok(store),
            found => Err(JournalError::Metadata(format!(
                "format {:?} is not {:?}",
                found.map(|found| String::from_utf8_lossy(&found).into_owned()),
                String::from_utf8_lossy(keys::FORMAT)
            ))),
        }
    }

    fn open_at(path: &Path, settings: &StorageSettings) -> Result<Self, JournalError> {
        // fjall would panic at the first table.
        if SystemTime::now() < UNIX_EPOCH {
            return Err(JournalError::ClockBefore1970);
        }
        let mut builder = Database::builder(path);
        if let Some(tables) = settings.open_tables_max {
            builder = builder.max_cached_files(Some(tables));
        }
        let database = builder
            .worker_threads(2)
            .cache_size(settings.block_cache_bytes)
            // fjall looks at its limit when a file is full, and goes over it by two of them.
            .max_journaling_size(settings.wal_bytes_max - 2 * WAL_FILE_BYTES)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(settings.memtable_bytes)
                .manual_journal_persist(true)
        };
        // fjall numbers them in this order, which `raw` relies on.
        let blocks = database.keyspace("blocks", || options().expect_point_read_hits(true))?;
        let index = database.keyspace("index", options)?;
        let meta = database.keyspace("meta", options)?;
        let short = database.keyspace("short", || options().expect_point_read_hits(true))?;
        Ok(Self { database, logs: [blocks, short], index, meta })
    }

    /// The first commit: the format.
    fn begin(&self) -> Result<(), JournalError> {
        let mut batch = self.batch();
        batch.put_own(keys::FORMAT_KEY, keys::FORMAT);
        let journal = u64::from_le_bytes(random()?);
        batch.put_positions(&Positions {
            journal,
            commits: 1,
            next_owner: 1,
            ..Positions::default()
        });
        batch.commit(true)
    }

    fn log(&self, log: Log) -> &Keyspace {
        &self.logs[log as usize]
    }

    /// Where a value of state lies.
    fn keyspace_of(&self, key: &StateKey) -> &Keyspace {
        if key.is_bulk() { &self.index } else { &self.meta }
    }

    pub(super) fn batch(&self) -> StoreBatch<'_> {
        StoreBatch::new(self)
    }

    /// Makes everything committed so far durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    pub(super) fn positions(&self) -> Result<Positions, JournalError> {
        let value = self.meta.get(positions::KEY)?;
        value
            .and_then(|value| Positions::decode(&value))
            .ok_or_else(|| JournalError::Metadata("the positions are missing or damaged".into()))
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], JournalError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| JournalError::Metadata(format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// fjall does not report which file it failed on; this does, if a checksum identifies it.
pub(super) fn named(path: &Path, error: JournalError) -> JournalError {
    if matches!(error, JournalError::ClockBefore1970) {
        return error;
    }
    if let JournalError::Store(fjall) = &error
        && matches!(**fjall, fjall::Error::InvalidVersion(_))
    {
        let what = "is not of the version this broker writes".into();
        return JournalError::BadFile { path: path.join("version"), what };
    }
    let tables = match manifest::trees(path) {
        Ok(trees) => trees.into_iter().flat_map(|(_, tables)| tables),
        Err(bad) => return bad.into(),
    };
    let bad = tables.map(|table| manifest::check_table(&table)).find_map(Result::err);
    bad.map_or(
        JournalError::Opening { path: path.to_owned(), error: Box::new(error) },
        JournalError::from,
    )
}
