//! The journal: streams of blocks and small durable state, on disk, in fjall.
//!
//! It knows no topic, setting, name or policy: a [`Machine`] that the writer thread hosts turns
//! requests into [`Unit`]s, and a unit is written as a whole or not at all.
//!
//! **Invariants.**
//! - One writer thread commits; nothing else writes. A commit is one fjall batch of whole units:
//!   chunks, index pages that are due, state, positions.
//! - A stream's blocks are numbered without holes, and follow each other in their offsets but where
//!   a block gives some up. Sequences number the chunks of each log without holes.
//! - A request is answered, its visible blocks shown to readers and all of them entered in the
//!   index only after its commit has returned, and a commit with a unit that needs it returns after
//!   fdatasync.
//! - A block leaves what a start reads again only after what it did is in the state
//!   ([`Machine::cover`]).
//! - After a failed write or sync nothing is acknowledged any more ([`JournalObserver::failed`]).
//! - What was found at a start to be lost is known ([`Findings`]) before anything is served.
//!
//! **On disk.** The end of this page has every byte. `DIR/lock` (taken first), `DIR/journal`
//! (fjall's: its WAL and four keyspaces, see `store`), `DIR/durable` and `DIR/live` (how far it is
//! safe, see `watermark`), and `DIR/aside` for files that were repaired.
//!
//! **Write path.** [`Journal::ask`] → channel → `commit`: owners take turns (`fair_queue`), the
//! machine fills units (`apply`), their blocks are packed into chunks (`packer`) → `store` commits
//! once → `watermark` → index, [`JournalObserver::committed`], replies.
//!
//! **Read path.** [`Streams::read`] → in-memory tail of the stream's index, else its page → chunk
//! by sequence → block, its checksum verified.
//!
//! **Recovery path.** lock → `salvage` checks fjall's files and repairs its WAL → fjall opens →
//! `recovery`: small state, then the headers of the blocks that no page covers, in the order of
//! their commits; what is missing → the machine says what it means → watermark anew → the writer
//! starts. A clean stop leaves nothing to read again.
//!
//! **Beside it** `reclaim` drops what is old and gives the disk back, and `transfer` moves content
//! as a whole: backup, restore, verify, rebuild.
//!
//! No actix here and no runtime: writer and reclaimer are threads that answer oneshots; only the
//! handle's few control calls await one.
#![doc = "\n# The format\n"]
#![doc = include_str!("format.md")]

mod age;
mod command;
mod commit;
mod error;
mod files;
pub(crate) mod format;
mod index;
mod lock;
mod machine;
mod opening;
mod reader;
mod reclaim;
mod recovery;
mod reserve;
mod salvage;
mod settings;
mod shared;
mod state;
mod store;
mod transfer;
mod unit;
mod watermark;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use error::{AppendRefused, JournalError, StreamReadError};
pub(crate) use files::sync_folder;
pub use machine::{
    Findings, Known, Machine, Now, Reply, Request, StateReader, StreamEnd, Suspect, Turn,
};
pub use reader::{StreamExtent, Streams};
pub use settings::StorageSettings;
pub use state::StateKey;
pub(crate) use store::random;
pub use transfer::{
    Backup, BadFiles, CheckCopy, Imported, check_files, copy_for_check, rebuild, restore,
};
pub use unit::{StreamLimits, SyncNeed, Unit};

use crate::model::PlacedBlock;
use command::Command;
use shared::Shared;
use store::Snapshot;

/// Notified by the writer thread of what is durable, and of a failure after which nothing can be.
pub trait JournalObserver: Send + Sync {
    /// These blocks are committed as safely as their units asked, and may be shown. Called before
    /// their requests are answered.
    fn committed(&self, blocks: &[Arc<PlacedBlock>]);

    /// A write or sync failed, or does not return: nothing was or will be acknowledged after it.
    fn failed(&self, error: &JournalError);
}

/// A handle to the journal. Cloning shares it.
pub struct Journal<M: Machine> {
    commands: mpsc::Sender<Command<M::Request>>,
    shared: Arc<Shared>,
    threads: Arc<Mutex<Option<Threads>>>,
}

impl<M: Machine> Clone for Journal<M> {
    fn clone(&self) -> Self {
        let (commands, shared) = (self.commands.clone(), self.shared.clone());
        Self { commands, shared, threads: self.threads.clone() }
    }
}

struct Threads {
    writer: JoinHandle<()>,
    reclaimer: JoinHandle<()>,
    /// Dropped to end the other thread.
    stop_reclaiming: mpsc::Sender<()>,
}

impl<M: Machine> Journal<M> {
    /// Hands a request to the writer. The answer comes as the request says.
    pub fn ask(&self, request: M::Request) {
        if let Err(mpsc::SendError(command)) = self.commands.send(Command::Ask(request)) {
            command.refuse(&JournalError::Stopped);
        }
    }

    /// The streams, for reading.
    pub fn streams(&self) -> Streams {
        Streams(self.shared.clone())
    }

    /// Commits what waits, writes the index out, syncs, and ends the writer thread.
    ///
    /// # Errors
    /// The last write failed, or the journal has stopped already.
    pub async fn stop(&self) -> Result<(), JournalError> {
        let stopped = self.command(Command::Stop).await.unwrap_or(Err(JournalError::Stopped));
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Threads { writer, reclaimer, stop_reclaiming }) = threads {
            drop(stop_reclaiming);
            // Their last acts are quick; a panic has been reported by the observer.
            let _ = writer.join();
            let _ = reclaimer.join();
        }
        stopped
    }

    async fn take_snapshot(&self) -> Result<Snapshot, JournalError> {
        self.command(Command::Snapshot).await?
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command<M::Request>,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| JournalError::Stopped)?;
        answer.await.map_err(|_| JournalError::Stopped)
    }
}
