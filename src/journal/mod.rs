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
//! - What was found at a start to be lost is said (gaps, damage) before anything is served.
//!
//! **On disk.** `DIR/lock` (taken first), `DIR/journal` (fjall's: its WAL and three keyspaces, see
//! `store`), `DIR/durable` and `DIR/live` (how far it is safe, see `watermark`), `DIR/topics` (a
//! second list of the topics, see `roster`), and `DIR/aside` for files that were put right. Chunks
//! are described in `chunk`, index pages in `page`, what a commit says of itself in `positions`.
//!
//! **Write path.** [`Journal::append`] → channel → `writer`: takes all that waits, sifts out what
//! is known already (`writer::dedup`, `writer::named`), refuses when the disk is nearly full
//! (`writer::space`), packs the rest into chunks → `store` commits once → `watermark` → index,
//! [`JournalObserver::committed`], answers.
//!
//! **Read path.** [`Journal::read`] → in-memory tail of the topic's index, else its page → chunk
//! by sequence → block, its checksum verified. Damage quarantines its topic and costs its own
//! offsets only.
//!
//! **Recovery path.** lock → `salvage` checks fjall's files and puts its WAL right → fjall opens →
//! `recovery`: topic records, last page of each topic, the directories of the chunks no page knows,
//! then what is missing is put down to topics, and what an `os` topic may have lost becomes a gap
//! in a new epoch → watermark and roster anew → the writer starts. A clean stop leaves nothing to do.
//!
//! **Beside it** `retention` lets go of what is old and gives the disk back, and `transfer` moves
//! content as a whole: backup, restore, verify, rebuild.
//!
//! No actix here and no runtime: writer and retention are threads that answer oneshots; only the
//! handle's few control calls await one.

mod age;
pub(crate) mod chunk;
mod command;
mod error;
mod index;
mod lock;
mod opening;
mod page;
mod positions;
mod reader;
mod record;
mod recovery;
mod retention;
mod roster;
mod salvage;
mod settings;
mod shared;
mod store;
mod transfer;
mod watermark;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use command::{Append, Appended, Exception, Outcome, Worth};
pub use error::{AppendError, JournalError, ReadError};
pub use reader::ReadLimits;
pub use record::{Damage, TopicRecord};
pub use settings::StorageSettings;
pub use transfer::{
    Backup, Checked, CheckedTopic, Imported, Verification, rebuild, restore, verify,
};
pub use writer::catalogue::{TopicChange, TopicChangeError, TopicChanged};

use crate::model::{Gap, Incarnation, MessageIdKey, PlacedBlock, ReceiptKey, TopicId};
use command::Command;
use shared::Shared;
use store::Snapshot;

/// A topic's extent, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicExtent {
    /// Low watermark: offset of the first message kept.
    pub first: u64,
    /// Offset of the next message.
    pub head: u64,
    /// Messages kept.
    pub messages: u64,
    /// Bytes of the blocks kept.
    pub bytes: u64,
    /// Some of its messages are damaged, and nobody has accepted that yet.
    pub damaged: bool,
}

/// Learns from the writer thread what is safe, and when nothing can be made safe any more.
pub trait JournalObserver: Send + Sync {
    /// These blocks are committed at their topics' levels. Called before they are answered.
    fn committed(&self, blocks: &[Arc<PlacedBlock>]);

    /// A write or sync failed, or does not come back: nothing was or will be acknowledged after it.
    fn failed(&self, error: &JournalError);
}

/// A handle to the journal. Cloning shares it.
#[derive(Clone)]
pub struct Journal {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    receipt_key: ReceiptKey,
    message_id_key: MessageIdKey,
    threads: Arc<Mutex<Option<Threads>>>,
}

struct Threads {
    writer: JoinHandle<()>,
    retention: JoinHandle<()>,
    /// Dropped to end the other thread.
    stop_retention: mpsc::Sender<()>,
}

/// An opened journal and what stands in it.
pub struct Opened {
    /// The handle.
    pub journal: Journal,
    /// Every topic, by name.
    pub topics: Vec<TopicRecord>,
}

impl Journal {
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
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Threads { writer, retention, stop_retention }) = threads {
            drop(stop_retention);
            // Their last acts are quick; a panic has been reported by the observer.
            let _ = writer.join();
            let _ = retention.join();
        }
        stopped
    }

    /// The last durable id of a named producer; `None` when the name is not known. Whatever was
    /// appended before is stored or refused when this is answered.
    ///
    /// # Errors
    /// [`AppendError::TopicDeleted`], or the journal has stopped.
    pub async fn last_id(&self, topic: TopicId, name: &str) -> Result<Option<u64>, AppendError> {
        let name = name.into();
        self.ask(|reply| Command::LastId { topic, name, reply })
            .await
            .unwrap_or(Err(AppendError::Journal(JournalError::Stopped)))
    }

    /// Publishing is refused since the disk is full.
    pub fn is_storage_full(&self) -> bool {
        self.shared.storage_full.load(Ordering::Relaxed)
    }

    /// The key message ids are hashed with, for block builders.
    pub fn message_id_key(&self) -> &MessageIdKey {
        &self.message_id_key
    }

    /// The key receipts are sealed with.
    pub fn receipt_key(&self) -> &ReceiptKey {
        &self.receipt_key
    }

    /// How far a topic reaches; `None` when there is no such topic.
    pub fn extent(&self, topic: TopicId) -> Option<TopicExtent> {
        let state = self.shared.topics.get(&topic)?.clone();
        let index = state.read_index();
        Some(TopicExtent {
            first: index.first,
            head: index.head,
            messages: index.messages(),
            bytes: index.bytes_kept(),
            damaged: !state.read_damage().is_empty(),
        })
    }

    /// What of the topic is damaged and not accepted yet.
    pub fn damage(&self, topic: TopicId) -> Vec<Damage> {
        let state = self.shared.topics.get(&topic).map(|state| state.clone());
        state.map(|state| state.read_damage().clone()).unwrap_or_default()
    }

    /// The topic's announced gaps that reach into what is kept, in order.
    pub fn gaps(&self, topic: TopicId) -> Vec<Gap> {
        let state = self.shared.topics.get(&topic).map(|state| state.clone());
        state.map(|state| state.read_index().gaps.clone()).unwrap_or_default()
    }

    async fn take_snapshot(&self) -> Result<Snapshot, JournalError> {
        self.ask(Command::Snapshot).await?
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
