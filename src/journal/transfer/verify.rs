//! Checking a data directory without touching it.
//!
//! fjall cuts files when it opens them, so it is given a copy: tables, which it never changes, as
//! hard links where the file system allows, everything else copied. The copy is recovered as a
//! start would recover it, and every message in it read.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Clock;
use crate::journal::salvage::manifest;
use crate::journal::store;
use crate::journal::{
    Damage, Journal, JournalError, JournalObserver, Opened, ReadError, ReadLimits, StorageSettings,
};
use crate::model::{Gap, PlacedBlock, TopicName};

/// What was found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Files of the store that are not what was written.
    pub bad_files: Vec<String>,
    /// The content, or why a broker would not start on it.
    pub content: Result<Checked, JournalError>,
}

/// What stands in a directory.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Every topic, by name.
    pub topics: Vec<CheckedTopic>,
    /// What can't be read though the store opens.
    pub unreadable: Vec<String>,
    /// Parts of the store's log that a start would set aside, as torn or damaged.
    pub set_aside: u64,
}

/// What stands in a topic.
#[derive(Clone, Debug)]
pub struct CheckedTopic {
    /// Its name.
    pub name: TopicName,
    /// The first offset kept.
    pub first: u64,
    /// The next message's offset.
    pub head: u64,
    /// Messages that were read and are as they were written.
    pub messages: u64,
    /// Offsets that were announced to hold nothing.
    pub gaps: Vec<Gap>,
    /// What is lost.
    pub damage: Vec<Damage>,
}

impl Verification {
    /// Nothing is wrong.
    pub fn is_sound(&self) -> bool {
        let sound = |checked: &Checked| {
            checked.unreadable.is_empty()
                && checked.topics.iter().all(|topic| topic.damage.is_empty())
        };
        self.bad_files.is_empty() && self.content.as_ref().is_ok_and(sound)
    }
}

/// Checks the data directory `from`, by means of a copy in `work`, which must not be there and is
/// removed again. `progress` is told the bytes read and the bytes there are.
///
/// # Errors
/// The directory is in use, or can't be copied.
pub async fn verify(
    from: &Path,
    work: &Path,
    progress: impl Fn(u64, u64),
) -> Result<Verification, JournalError> {
    let _in_use = not_in_use(from)?;
    let failed = |error| JournalError::Directory { path: work.to_owned(), error: Arc::new(error) };
    let copy = Copy(work.to_owned());
    copy_for_check(from, work).map_err(failed)?;
    let bad_files = match manifest::trees(&from.join(store::FOLDER)) {
        Ok(trees) => {
            let tables = trees.iter().flat_map(|(_, tables)| tables);
            tables
                .filter_map(|table| manifest::check_table(table).err())
                .map(|b| b.to_string())
                .collect()
        }
        Err(bad) => vec![bad.to_string()],
    };
    let content = check(work, progress).await;
    drop(copy);
    Ok(Verification { bad_files, content })
}

/// Removes the copy, however things end.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = ?self.0, %error, "the copy could not be removed");
        }
    }
}

/// Holds the directory's lock, without making one.
fn not_in_use(directory: &Path) -> Result<Option<File>, JournalError> {
    let path = directory.join(store::FOLDER);
    if !path.is_dir() {
        let error = Arc::new(std::io::Error::from(std::io::ErrorKind::NotFound));
        return Err(JournalError::Directory { path, error });
    }
    let Ok(lock) = File::open(directory.join("lock")) else { return Ok(None) };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(directory.to_owned())),
        _ => Ok(Some(lock)),
    }
}

fn copy_for_check(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    let tables = from.ends_with("tables");
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_for_check(&entry.path(), &target)?;
        } else if !tables || std::fs::hard_link(entry.path(), &target).is_err() {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    fn failed(&self, error: &JournalError) {
        tracing::error!(%error, "the copy can't be written any more");
    }
}

async fn check(copy: &Path, progress: impl Fn(u64, u64)) -> Result<Checked, JournalError> {
    let aside =
        || std::fs::read_dir(copy.join("aside")).map_or(0, |entries| entries.count() as u64);
    let before = aside();
    // Nothing is to be let go of while it is counted.
    let retention_interval_ms = 3_600_000;
    let path = copy.to_owned();
    let settings = StorageSettings { path, retention_interval_ms, ..StorageSettings::default() };
    let Opened { journal, topics } = Journal::open(&settings, Clock::system(), Arc::new(Ignored))?;
    let total = topics.iter().filter_map(|topic| journal.extent(topic.id)).map(|e| e.bytes).sum();
    let mut checked =
        Checked { topics: Vec::new(), unreadable: Vec::new(), set_aside: aside() - before };
    let mut read = 0;
    for record in topics {
        let Some(extent) = journal.extent(record.id) else { continue };
        let mut messages = 0;
        let mut next = extent.first;
        while next < extent.head {
            let limits = ReadLimits { messages: 10_000, bytes: 1024 * 1024 };
            match journal.read(record.id, next, limits) {
                Ok(blocks) => {
                    let Some(last) = blocks.last() else { break };
                    next = last.end_offset();
                    messages += blocks.iter().map(|block| u64::from(block.count)).sum::<u64>();
                    read += blocks.iter().map(|block| Bytes::len(&block.body) as u64).sum::<u64>();
                    progress(read, total);
                }
                Err(ReadError::Damaged(gap)) => next = gap.end(),
                Err(ReadError::Gone { first }) => next = first,
                Err(error) => {
                    checked.unreadable.push(format!("{} from {next} on: {error}", record.name));
                    break;
                }
            }
        }
        // What was found while reading is noted behind what was asked before.
        let _ = journal.last_id(record.id, "").await;
        checked.topics.push(CheckedTopic {
            name: record.name,
            first: extent.first,
            head: extent.head,
            messages,
            gaps: journal.gaps(record.id),
            damage: journal.damage(record.id),
        });
    }
    journal.stop().await?;
    Ok(checked)
}
