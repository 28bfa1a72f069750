//! fjall, wrapped: three keyspaces with monotone or few keys, one batch a commit.
//!
//! - `blocks`: chunks by sequence (`u64` BE), see `chunk`.
//! - `index`: pages by topic and offset, see `page`.
//! - `meta`: all that is small and few, see `keys`.
//!
//! What is set here and why is in DESIGN §4: few keyspaces and at least two workers (fjall 3.1.13
//! deadlocks its own workers otherwise), small memtables, no WAL compression. No other file
//! works with fjall, but `wal` and `manifest` know its formats; its error stands in
//! [`JournalError`].
//!
//! Invariants: a database is made aside and then renamed, so that a crash while it is made leaves
//! none; every batch holds [`Positions`], which `salvage` relies on.

mod batch;
mod keys;
mod read;
mod reclaim;
mod snapshot;

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

pub(super) use batch::StoreBatch;
pub(super) use keys::LowWatermark;
pub(super) use snapshot::Snapshot;

use super::positions::{self, Positions};
use super::salvage::{manifest, sync_folder};
use super::settings::StorageSettings;
use super::{JournalError, TopicRecord, watermark};
use crate::model::TopicId;

const FORMAT: &[u8] = b"weir journal 2";

/// The journal's place in the database.
#[derive(Clone)]
pub(super) struct Store {
    database: Database,
    blocks: Keyspace,
    index: Keyspace,
    meta: Keyspace,
}

/// Size at which fjall begins a new file of its WAL.
const WAL_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The database's folder in the data directory.
pub(super) const FOLDER: &str = "journal";

impl Store {
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
    /// The file that is damaged, where that can be found out; nothing was changed then.
    pub(super) fn open(directory: &Path, settings: &StorageSettings) -> Result<Self, JournalError> {
        let path = directory.join(FOLDER);
        let store = Self::open_at(&path, settings).map_err(|error| named(&path, error))?;
        match store.meta.get(keys::FORMAT)? {
            Some(found) if &*found == FORMAT => Ok(store),
            found => Err(JournalError::Metadata(format!(
                "format {:?} is not {:?}",
                found.map(|found| String::from_utf8_lossy(&found).into_owned()),
                String::from_utf8_lossy(FORMAT)
            ))),
        }
    }

    fn open_at(path: &Path, settings: &StorageSettings) -> Result<Self, JournalError> {
        let database = Database::builder(path)
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
        let blocks = database.keyspace("blocks", || options().expect_point_read_hits(true))?;
        let index = database.keyspace("index", options)?;
        let meta = database.keyspace("meta", options)?;
        Ok(Self { database, blocks, index, meta })
    }

    /// The first commit: what the journal is, and its secrets.
    fn begin(&self) -> Result<(), JournalError> {
        let mut batch = self.batch();
        batch.put_meta(keys::FORMAT, FORMAT);
        for key in [keys::RECEIPT_KEY, keys::MESSAGE_ID_KEY] {
            batch.put_meta(key, &random::<16>()?);
        }
        let journal = u64::from_le_bytes(random()?);
        batch.put_positions(Positions { journal, commits: 1, ..Positions::default() });
        batch.commit(true)
    }

    /// A key of `meta` that belongs to a journal's content: its secrets, what is its topics', and how
    /// far its counters are.
    pub(super) fn is_content(key: &[u8]) -> bool {
        let prefixes = [keys::TOPIC, keys::LOW, positions::KEY];
        Self::is_portable(key) || prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Content that is the same in every directory.
    pub(super) fn is_portable(key: &[u8]) -> bool {
        let secrets = [keys::RECEIPT_KEY, keys::MESSAGE_ID_KEY];
        secrets.contains(&key) || key.starts_with(keys::IDS) || key.starts_with(keys::PRODUCER)
    }

    /// The record under a topic's key; `None` when it is another key.
    pub(super) fn parse_topic(
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<TopicRecord>, JournalError> {
        if !key.starts_with(keys::TOPIC) {
            return Ok(None);
        }
        let record = serde_json::from_slice(value);
        record.map(Some).map_err(|e| JournalError::Metadata(format!("a topic record: {e}")))
    }

    /// The low watermark under its key; `None` when it is another key.
    pub(super) fn parse_low(key: &[u8], value: &[u8]) -> Option<(TopicId, LowWatermark)> {
        Some((keys::topic_of(keys::LOW, key)?, LowWatermark::decode(value)?))
    }

    /// The deleted topic that a key is about.
    pub(super) fn parse_deleted(key: &[u8]) -> Option<TopicId> {
        keys::topic_of(keys::DELETED, key)
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

fn random<const N: usize>() -> Result<[u8; N], JournalError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| JournalError::Metadata(format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// fjall does not say which file it failed on; this does, where a checksum can tell.
pub(super) fn named(path: &Path, error: JournalError) -> JournalError {
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

/// Makes everything below a folder durable, names included.
fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            std::fs::File::open(&path)?.sync_all()?;
        }
    }
    std::fs::File::open(folder)?.sync_all()
}
