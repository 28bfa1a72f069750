//! Opening the journal: the order in which its parts find out where it stands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::age::Age;
use super::lock::DirectoryLock;
use super::recovery::{self, Ending, RecoveredTopic};
use super::retention::Retention;
use super::roster::{self, Roster};
use super::salvage::{self, manifest};
use super::shared::Shared;
use super::store::{self, Store};
use super::watermark::{self, Extent, Marks, Watermark};
use super::writer::{Beginning, Writer};
use super::{Journal, JournalError, JournalObserver, Opened, StorageSettings, Threads};
use crate::clock::Clock;
use crate::model::{MessageIdKey, ReceiptKey, Sequence};

impl Journal {
    /// Takes the data directory, recovers what stands in it and starts the writer thread.
    ///
    /// # Errors
    /// [`JournalError`]: in use, not writable, or not to be opened; the file is named then, and
    /// nothing was changed but a log that was put right before.
    pub fn open(
        settings: &StorageSettings,
        clock: Clock,
        observer: Arc<dyn JournalObserver>,
    ) -> Result<Opened, JournalError> {
        let started = Instant::now();
        let directory = &settings.path;
        let lock = DirectoryLock::acquire(directory)?;
        Store::ensure(directory, settings)?;
        manifest::check(&directory.join(store::FOLDER))?;
        let marks = Marks::read(directory)?;
        let salvaged = salvage::salvage(directory, &marks)?;
        let store = Store::open(directory, settings)?;
        let boot_id = watermark::boot_id();
        let found = store.positions()?.commits;
        let complete = marks.prove_complete(found, boot_id);
        let ending = Ending { complete, next_sequence: marks.next_sequence() };
        let listed = roster::listed(directory)?;
        let recovered = recovery::recover(&store, &salvaged, ending, &listed)
            .map_err(|error| store::named(&directory.join(store::FOLDER), error))?;
        let positions = recovered.positions;
        tracing::info!(
            topics = recovered.topics.len(),
            commits = positions.commits,
            chunks = positions.next_sequence - positions.floor_sequence,
            complete,
            ms = started.elapsed().as_millis(),
            "journal recovered"
        );
        let extent = Extent {
            commits: positions.commits,
            durable_commits: positions.commits,
            next_sequence: positions.next_sequence,
        };
        // All that was found is durable now: salvage has synced what may not have been.
        let watermark = Watermark::create(directory, boot_id, positions.journal, extent)?;

        let records = recovered.topics.iter().map(|topic| &topic.record);
        let roster = Roster::create(directory, records, positions.next_topic_id)?;
        let receipt_key = ReceiptKey::new(store.receipt_secret()?);
        let message_id_key = MessageIdKey::new(store.message_id_secret()?);
        let topics: Vec<_> = recovered.topics.iter().map(|topic| topic.record.clone()).collect();
        let shared = Arc::new(Shared::new(store, &recovered));
        let (commands, received) = mpsc::channel();
        let age = Age::new(positions.age_ms, clock.clone());
        let tail_from = |topic: &RecoveredTopic| {
            topic.index.tail.front().map(|first| (topic.record.id, first.base_offset))
        };
        let retention = Retention {
            shared: shared.clone(),
            commands: commands.clone(),
            age: age.clone(),
            interval: Duration::from_millis(settings.retention_interval_ms),
            counted_from: Sequence(positions.next_sequence),
            tails_from: recovered.topics.iter().filter_map(tail_from).collect(),
            first_ages: HashMap::new(),
            may_drop: true,
        };
        let beginning = Beginning {
            shared: shared.clone(),
            recovered,
            commands: received,
            watermark,
            roster,
            age,
            clock,
            observer,
        };
        let no_thread =
            |error| JournalError::Directory { path: directory.clone(), error: Arc::new(error) };
        let writer = Writer::new(beginning, settings).map_err(no_thread)?;
        let thread = std::thread::Builder::new()
            .name("journal-writer".into())
            .spawn(move || {
                writer.run();
                drop(lock);
            })
            .map_err(no_thread)?;
        let (stop_retention, stopped) = mpsc::channel();
        let retention = std::thread::Builder::new()
            .name("journal-retention".into())
            .spawn(move || retention.run(&stopped))
            .map_err(no_thread)?;
        let threads = Threads { writer: thread, retention, stop_retention };
        let threads = Arc::new(Mutex::new(Some(threads)));
        let journal = Self { commands, shared, receipt_key, message_id_key, threads };
        Ok(Opened { journal, topics })
    }
}
