//! What a topic is: one plain state machine that the journal's writer thread hosts.
//!
//! The journal knows streams, keys and units; this module defines what they mean. [`Topics`] is the
//! handle for the rest of the broker; behind it the machine turns each request into one unit:
//!
//! | file | what it knows |
//! |---|---|
//! | `machine`, `request` | what is asked, and which part does it |
//! | `catalogue`, `change`, `record` | which topics there are, and what may be changed |
//! | `append`, `deduplicate`, `claims` | storing a block: what is refused, what is new, which numbers it gets |
//! | `fold/` | what a topic knows of its messages: ids, named producers, origins, its numbers |
//! | `memory` | how much of that is in memory |
//! | `epochs`, `lives` | gaps, damage, reserved offsets; what a restored copy must not repeat |
//! | `retention` | how much is kept |
//! | `start`, `roster` | what a start finds, and what it does about losses |
//! | `state` | under which keys all that is kept |
//! | `view`, `reader` | what readers see |
//! | `verify`, `backup`, `transfer` | checking, copying, restoring and saving a directory |
//!
//! Adding a durable fact to a topic is one file here: its part of `Request`, its state's keys, and,
//! if it follows from messages, its part of the fold.
//!
//! Invariants: only the machine gives offsets, ingest sequences and stamps; a topic's knowledge of
//! its messages is a fold over the headers of its blocks and nothing else; a request that panics
//! has no effect but that its topic is quarantined.

mod append;
mod backup;
mod catalogue;
mod change;
mod claims;
mod deduplicate;
mod epochs;
mod fold;
mod lives;
mod machine;
mod memory;
mod reader;
mod record;
mod request;
mod retention;
mod roster;
mod start;
mod state;
mod transfer;
mod verify;
mod view;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

pub use backup::{Backup, BackupError};
pub use change::{CatalogueEvent, TopicChange, TopicChangeError, TopicChanged};
pub use claims::{Claimed, Fenced};
pub use record::TopicRecord;
pub use request::Append;
pub use transfer::{Restored, rebuild, restore};
pub use verify::{Checked, CheckedTopic, Verification, verify};

use crate::clock::Clock;
use crate::journal::{Journal, JournalError, JournalObserver, StorageSettings, Streams};
use crate::model::{AppendError, Incarnation, JournalAge, MessageIdKey, ReceiptKey, TopicId};
use machine::{MachineSettings, TopicsMachine};
use request::Request;
use view::Views;

/// Notified by the writer thread of what is safe and of the catalogue's changes.
pub trait TopicsObserver: JournalObserver {
    /// The catalogue has changed, durably. Called before the request is answered.
    fn changed(&self, event: &CatalogueEvent);
}

/// All topics. Cloning shares them.
#[derive(Clone)]
pub struct Topics {
    journal: Journal<TopicsMachine>,
    streams: Streams,
    views: Views,
    receipt_key: ReceiptKey,
    message_id_key: MessageIdKey,
}

/// The topics, and a start's findings.
pub struct Opened {
    /// The handle.
    pub topics: Topics,
    /// Every topic, by name.
    pub records: Vec<TopicRecord>,
}

impl Topics {
    /// Opens the journal in a data directory and recovers its topics.
    ///
    /// # Errors
    /// [`JournalError`]: in use, not writable, or not to be opened; the file is named then, and
    /// nothing was changed but a log that was repaired before.
    pub fn open(
        settings: &StorageSettings,
        clock: Clock,
        observer: Arc<dyn TopicsObserver>,
    ) -> Result<Opened, JournalError> {
        let views = Views::default();
        let machine = MachineSettings {
            names_max: settings.producer_names_max,
            fold_bytes_max: settings.fold_bytes_max,
        };
        let make = |directory: &Path| {
            let (views, observer) = (views.clone(), observer.clone());
            Ok(TopicsMachine::new(directory.to_owned(), machine, views, observer))
        };
        let view = |machine: &TopicsMachine| {
            let records = machine.catalogue.iter().map(|topic| topic.record.clone());
            (records.collect::<Vec<_>>(), machine.lives.receipts(), machine.message_id_secret)
        };
        let (journal, (mut records, receipts, message_ids)) =
            Journal::open(settings, clock, observer.clone(), make, view)?;
        records.sort_by(|a, b| a.name.cmp(&b.name));
        let topics = Self {
            streams: journal.streams(),
            journal,
            views,
            receipt_key: ReceiptKey::of_lives(receipts),
            message_id_key: MessageIdKey::new(message_ids),
        };
        Ok(Opened { topics, records })
    }

    /// Hands a block to the writer. The answer comes on the block's own oneshot.
    pub fn append(&self, append: Append) {
        self.journal.ask(Request::Append(append));
    }

    /// Creates, changes or deletes a topic; durable when answered.
    ///
    /// # Errors
    /// The change's error, or [`JournalError::Stopped`].
    pub async fn change(&self, change: TopicChange) -> Result<TopicChanged, TopicChangeError> {
        self.ask(|reply| Request::Change(Box::new(change), reply)).await
    }

    /// A barrier: when it is answered, every block sent before it is stored or refused, and blocks
    /// of incarnations before the given one will be refused. Answers the topic's head then.
    ///
    /// # Errors
    /// [`AppendError::TopicDeleted`], or the journal has stopped.
    pub async fn fence(
        &self,
        topic: TopicId,
        incarnation: Incarnation,
    ) -> Result<u64, AppendError> {
        self.ask(|reply| Request::Fence(topic, incarnation, reply)).await
    }

    /// Claims a producer's name. Blocks appended before are stored or refused when this is
    /// answered, and later blocks of an older claim are refused.
    ///
    /// # Errors
    /// [`AppendError::TopicDeleted`], quarantined, or the journal has stopped.
    pub async fn claim(&self, topic: TopicId, name: &str) -> Result<Claimed, AppendError> {
        self.ask(|reply| Request::Claim(topic, name.into(), reply)).await
    }

    /// Commits what waits, writes the index out, syncs, and ends the writer thread.
    ///
    /// # Errors
    /// The last write failed, or the journal has stopped already.
    pub async fn stop(&self) -> Result<(), JournalError> {
        self.journal.stop().await
    }

    /// Takes a copy of everything committed by now.
    ///
    /// # Errors
    /// [`BackupError`]: another copy is being taken, the journal has stopped, or can't write.
    pub async fn backup(&self) -> Result<Backup, BackupError> {
        Ok(Backup::of(self.journal.backup().await?))
    }

    /// How old the journal is, which messages age by.
    pub fn age(&self) -> JournalAge {
        self.streams.age()
    }

    /// Publishing is refused since the disk is full.
    pub fn is_storage_full(&self) -> bool {
        self.streams.is_storage_full()
    }

    /// The key message ids are hashed with, for block builders.
    pub fn message_id_key(&self) -> &MessageIdKey {
        &self.message_id_key
    }

    /// The key receipts are sealed with.
    pub fn receipt_key(&self) -> &ReceiptKey {
        &self.receipt_key
    }

    async fn ask<T, E: From<JournalError>>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.journal.ask(request(reply));
        answer.await.unwrap_or(Err(JournalError::Stopped.into()))
    }
}
