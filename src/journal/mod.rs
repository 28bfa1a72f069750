//! The journal: what the broker has acknowledged, on disk, in fjall.
//!
//! **Invariants.**
//! - One writer thread commits; nothing else writes. A commit is one fjall batch: chunks, index
//!   pages that are due, topic records, positions. It is there as a whole or not at all.
//! - The writer alone gives offsets and `published_at`, one time to all that a commit takes, so
//!   that no actor's death can leave a hole and a topic's blocks of one commit can be joined.
//! - Sequences number the chunks of all topics without holes; offsets number the messages of one
//!   topic without holes (an announced gap excepted).
//! - A block is answered, shown to readers and entered in the index only after its commit has
//!   returned, and a commit that holds a block of a `sync` topic returns after fdatasync.
//! - `published_at` never runs backwards, whatever the machine's clock does.
//! - After a failed write or sync nothing is acknowledged any more ([`JournalObserver::failed`]).
//!
//! **On disk.** `DIR/lock` (ours, taken first) and `DIR/journal` (fjall's: its WAL and three
//! keyspaces, see `store`). Chunks are described in `chunk`, index pages in `index`.
//!
//! **Write path.** [`Journal::append`] → channel → `writer` takes all that waits → `packer` packs
//! it into chunks → `store` commits once → index, [`JournalObserver::committed`], answers.
//!
//! **Read path.** [`Journal::read`] → in-memory tail of the topic's index, else its page → chunk
//! by sequence → block, its checksum verified.
//!
//! **Recovery path.** lock → fjall replays its WAL → topic records → last page of each topic →
//! the directories of the chunks no page knows (`recovery`). A clean stop leaves none of those.
//!
//! No actix here and no runtime: the writer is a thread that answers oneshots; only the handle's
//! few control calls await one.

mod catalogue;
mod chunk;
mod command;
mod error;
mod index;
mod lock;
mod packer;
mod reader;
mod recovery;
mod settings;
mod store;
mod watchdog;
mod writer;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use catalogue::{TopicChange, TopicChangeError, TopicChanged};
pub use command::{Append, Appended, Worth};
pub use error::{AppendError, JournalError, ReadError};
pub use reader::ReadLimits;
pub use settings::StorageSettings;

use crate::clock::Clock;
use crate::model::{
    Epoch, Incarnation, PlacedBlock, ReceiptKey, TopicId, TopicName, TopicSettings,
};
use command::Command;
use index::TopicIndex;
use lock::DirectoryLock;
use store::Store;
use watchdog::Watchdog;
use writer::Writer;

/// A topic as the catalogue keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its number on disk.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its present epoch.
    pub epoch: Epoch,
    /// What was chosen for it.
    pub settings: TopicSettings,
}

/// A topic's extent, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicExtent {
    /// Low watermark: offset of the first message kept.
    pub first: u64,
    /// Offset of the next message.
    pub head: u64,
    /// Bytes of the blocks kept.
    pub bytes: u64,
}

/// Learns from the writer thread what is safe, and when nothing can be made safe any more.
pub trait JournalObserver: Send + Sync {
    /// These blocks are committed at their topics' levels. Called before they are answered.
    fn committed(&self, blocks: &[Arc<PlacedBlock>]);

    /// A write or sync failed, or does not come back: nothing was or will be acknowledged after it.
    fn failed(&self, error: &JournalError);
}

/// What readers and the writer share.
struct Shared {
    store: Store,
    topics: DashMap<TopicId, Arc<TopicState>>,
}

#[derive(Debug)]
struct TopicState {
    index: RwLock<TopicIndex>,
}

impl TopicState {
    fn new(index: TopicIndex) -> Arc<Self> {
        Arc::new(Self { index: RwLock::new(index) })
    }

    fn read_index(&self) -> RwLockReadGuard<'_, TopicIndex> {
        // The index is only changed by single, complete steps: a panic leaves it valid.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the journal. Cloning shares it.
#[derive(Clone)]
pub struct Journal {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    receipt_key: ReceiptKey,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

/// An opened journal and what stands in it.
pub struct Opened {
    /// The handle.
    pub journal: Journal,
    /// Every topic, by name.
    pub topics: Vec<TopicRecord>,
}

impl Journal {
    /// Takes the data directory, recovers what stands in it and starts the writer thread.
    ///
    /// # Errors
    /// [`JournalError`]: in use, not writable, or damaged. Nothing has been changed by us then.
    pub fn open(
        settings: &StorageSettings,
        clock: Clock,
        observer: Arc<dyn JournalObserver>,
    ) -> Result<Opened, JournalError> {
        let lock = DirectoryLock::acquire(&settings.path)?;
        let store = Store::open(&settings.path.join("journal"), settings)?;
        let receipt_key = store.receipt_key()?;
        let recovered = recovery::recover(&store)?;
        let shared = Arc::new(Shared { store, topics: DashMap::new() });
        let topics: Vec<_> = recovered.topics.iter().map(|(record, _)| record.clone()).collect();
        let (commands, received) = mpsc::channel();
        let no_thread =
            |error| JournalError::Directory { path: settings.path.clone(), error: Arc::new(error) };
        let patience = Duration::from_millis(settings.stall_ms_max);
        let complain = {
            let observer = observer.clone();
            move || observer.failed(&JournalError::Stalled(patience))
        };
        let watchdog = Watchdog::start(patience, complain).map_err(no_thread)?;
        let writer = Writer::new(shared.clone(), recovered, received, clock, observer, watchdog);
        let thread = std::thread::Builder::new()
            .name("journal-writer".into())
            .spawn(move || {
                writer.run();
                drop(lock);
            })
            .map_err(no_thread)?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Opened { journal: Self { commands, shared, receipt_key, thread }, topics })
    }

    /// Hands a block to the writer. The answer comes on the block's own oneshot.
    pub fn append(&self, append: Append) {
        if let Err(mpsc::SendError(command)) = self.commands.send(Command::Append(append)) {
            command.refuse(JournalError::Stopped);
        }
    }

    /// Creates, changes or deletes a topic; durable when answered.
    ///
    /// # Errors
    /// What the change ran into, or [`JournalError::Stopped`].
    pub async fn change_topic(
        &self,
        change: TopicChange,
    ) -> Result<TopicChanged, TopicChangeError> {
        self.ask(|reply| Command::ChangeTopic(change, reply))
            .await
            .unwrap_or(Err(TopicChangeError::Journal(JournalError::Stopped)))
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
        self.ask(|reply| Command::Fence { topic, incarnation, reply })
            .await
            .unwrap_or(Err(AppendError::Journal(JournalError::Stopped)))
    }

    /// Commits what waits, writes the index out, syncs, and ends the writer thread.
    ///
    /// # Errors
    /// The last write failed, or the journal has stopped already.
    pub async fn stop(&self) -> Result<(), JournalError> {
        let stopped = self.ask(Command::Stop).await.unwrap_or(Err(JournalError::Stopped));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its last acts are quick; a panic in it has been reported by the observer.
            let _ = thread.join();
        }
        stopped
    }

    /// The key receipts are sealed with.
    pub fn receipt_key(&self) -> &ReceiptKey {
        &self.receipt_key
    }

    /// How far a topic reaches; `None` when there is no such topic.
    pub fn extent(&self, topic: TopicId) -> Option<TopicExtent> {
        let state = self.shared.topics.get(&topic)?.clone();
        let index = state.read_index();
        Some(TopicExtent { first: index.first, head: index.head, bytes: index.bytes })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| JournalError::Stopped)?;
        answer.await.map_err(|_| JournalError::Stopped)
    }
}
