//! Checking a data directory without touching it.
//!
//! The directory is copied (`journal::copy_for_check`), the copy recovered as by a start, and every
//! message in it read.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::change::CatalogueEvent;
use super::{Opened, Topics, TopicsObserver};
use crate::clock::Clock;
use crate::journal::{self, CheckCopy, JournalError, JournalObserver, StorageSettings};
use crate::model::{Damage, Gap, PlacedBlock, ReadError, ReadLimits, TopicName};

/// The findings.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Files of the store that differ from what was written.
    pub bad_files: Vec<String>,
    /// The content, or why a broker would not start on it.
    pub content: Result<Checked, JournalError>,
}

/// The content of a directory.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Every topic, by name.
    pub topics: Vec<CheckedTopic>,
    /// Parts that can't be read though the store opens.
    pub unreadable: Vec<String>,
    /// Parts of the store's log that a start would set aside, as torn or damaged.
    pub set_aside: u64,
}

/// The content of a topic.
#[derive(Clone, Debug)]
pub struct CheckedTopic {
    /// Its name.
    pub name: TopicName,
    /// The first offset kept.
    pub first: u64,
    /// The next message's offset.
    pub head: u64,
    /// Messages that were read and are intact.
    pub messages: u64,
    /// Offsets that were announced to hold nothing.
    pub gaps: Vec<Gap>,
    /// Its losses.
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

/// Checks the data directory `from`, by means of a copy in `work`, which must not exist and is
/// removed again. `progress` is called with the bytes read and the bytes there are.
///
/// # Errors
/// The directory is in use, or can't be copied.
pub async fn verify(
    from: &Path,
    work: &Path,
    progress: impl Fn(u64, u64),
) -> Result<Verification, JournalError> {
    let copy = journal::copy_for_check(from, work)?;
    let bad_files = journal::check_files(from);
    let content = check(&copy, progress).await;
    Ok(Verification { bad_files, content })
}

/// An observer that does nothing.
pub(super) struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    fn failed(&self, error: &JournalError) {
        tracing::error!(%error, "the copy can't be written any more");
    }
}

impl TopicsObserver for Ignored {
    fn changed(&self, _: &CatalogueEvent) {}
}

async fn check(copy: &CheckCopy, progress: impl Fn(u64, u64)) -> Result<Checked, JournalError> {
    let before = copy.files_aside();
    let settings = StorageSettings::untouched(copy.path());
    let Opened { topics, records } = Topics::open(&settings, Clock::system(), Arc::new(Ignored))?;
    let total = records.iter().filter_map(|record| topics.extent(record.id)).map(|e| e.bytes).sum();
    let set_aside = copy.files_aside() - before;
    let mut checked = Checked { topics: Vec::new(), unreadable: Vec::new(), set_aside };
    let mut read = 0;
    for record in records {
        let Some(extent) = topics.extent(record.id) else { continue };
        let mut messages = 0;
        let mut next = extent.first;
        while next < extent.head {
            let limits = ReadLimits { messages: 10_000, bytes: 1024 * 1024 };
            match topics.read(record.id, next, limits) {
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
        // Damage found while reading is noted after earlier requests.
        if let Err(error) = topics.claim(record.id, "").await {
            checked.unreadable.push(format!("what {} remembers: {error}", record.name));
        }
        checked.topics.push(CheckedTopic {
            name: record.name,
            first: extent.first,
            head: extent.head,
            messages,
            gaps: topics.gaps(record.id),
            damage: topics.damage(record.id),
        });
    }
    topics.stop().await?;
    Ok(checked)
}
