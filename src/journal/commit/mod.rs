//! The one thread that writes: group commit.
//!
//! It takes all that waits (up to about [`COMMIT_MESSAGES`] messages or [`COMMIT_BYTES`] bytes),
//! lets the machine turn it into units (`apply`), commits these as one batch (`write`), syncs once
//! if any of them needs that, and answers all. While a sync runs, the next commit gathers; the
//! [pacing](CommitPacing) of commits predicts whether more is about to arrive, and owners take
//! turns (`fair_queue`). Only units that may wait for their sync need a clock, and the watermark
//! file.
//!
//! Invariants: replies are given in the order of their requests; every commit is numbered and
//! carries the number of commits that are durable; after a failure every command is refused with
//! it; a unit is in a commit whole or not at all.

mod apply;
mod disk_space;
mod durable;
mod fair_queue;
mod gathered;
mod housekeeping;
mod pacing;
mod packer;
mod page_queue;
mod pages;
mod surroundings;
mod trims;
mod watchdog;
mod write;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::age::Age;
use super::command::Command;
use super::format::positions::Positions;
use super::lock::DirectoryLock;
use super::machine::{Machine, Turn};
use super::recovery::Recovered;
use super::shared::{Shared, StreamState};
use super::unit::Unit;
use super::watermark::Watermark;
use super::{JournalError, JournalObserver, StorageSettings};
use crate::clock::Clock;
use crate::model::{OwnerId, StreamId};
pub(super) use disk_space::DiskSpace;
use fair_queue::FairQueue;
use gathered::Gathered;
use pacing::CommitPacing;
use page_queue::PageQueue;
use watchdog::Watchdog;

/// Messages after which a commit takes no more.
const COMMIT_MESSAGES: u64 = 2_000;
/// Bytes after which a commit takes no more.
const COMMIT_BYTES: usize = 1024 * 1024;
/// Full memtables that may wait to be written as tables: twice what four keyspaces reach by
/// themselves before fjall's own brake holds them.
const UNFLUSHED_MEMTABLES_MAX: u64 = 32;

/// The writer's parts.
pub(super) struct WriterParts<M: Machine> {
    pub(super) shared: Arc<Shared>,
    pub(super) machine: M,
    pub(super) commands: Receiver<Command<M::Request>>,
    pub(super) watermark: Watermark,
    pub(super) space: DiskSpace,
    /// Held until the writer has ended.
    pub(super) lock: DirectoryLock,
    pub(super) age: Age,
    pub(super) clock: Clock,
    pub(super) observer: Arc<dyn JournalObserver>,
}

/// The writer thread's state.
pub(super) struct Writer<M: Machine> {
    shared: Arc<Shared>,
    machine: M,
    commands: Receiver<Command<M::Request>>,
    waiting: FairQueue<M::Request>,
    clock: Clock,
    age: Age,
    observer: Arc<dyn JournalObserver>,
    watchdog: Watchdog,
    watermark: Watermark,
    space: DiskSpace,
    lock: DirectoryLock,
    /// When it last checked its surroundings.
    ticked: Instant,
    streams: FxHashMap<StreamId, Arc<StreamState>>,
    /// Streams that the commit in the making deletes.
    going: HashMap<OwnerId, Arc<StreamState>>,
    /// Result of the last commit.
    positions: Positions,
    /// When what was committed without a sync must be synced at the latest.
    sync_at: Option<Instant>,
    /// Each log's tails.
    pages: [PageQueue; 2],
    pacing: CommitPacing,
    /// Most bytes that may wait to be written as tables before commits wait for them.
    unflushed_bytes_max: u64,
    memtable_bytes: u64,
    /// For how long.
    patience: Duration,
    /// Kept for its allocations.
    unit: Unit,
}

/// The number of a stream's last block, that of the commit in the making included.
fn last_number(streams: &FxHashMap<StreamId, Arc<StreamState>>, stream: StreamId) -> u64 {
    streams.get(&stream).map_or(0, |known| known.number())
}

impl<M: Machine> Writer<M> {
    /// Makes the writer of what was recovered.
    pub(super) fn new(
        parts: WriterParts<M>,
        recovered: Recovered,
        settings: &StorageSettings,
    ) -> Result<Self, std::io::Error> {
        let WriterParts { shared, machine, commands, watermark, .. } = parts;
        let WriterParts { space, lock, age, clock, observer, .. } = parts;
        let patience = Duration::from_millis(settings.stall_ms_max);
        let complain = {
            let observer = observer.clone();
            move || observer.failed(&JournalError::Stalled(patience))
        };
        let watchdog = Watchdog::start(patience, complain)?;
        let mut writer = Self {
            shared,
            machine,
            commands,
            waiting: FairQueue::default(),
            clock,
            age,
            observer,
            watchdog,
            watermark,
            space,
            lock,
            ticked: Instant::now(),
            streams: FxHashMap::default(),
            going: HashMap::new(),
            positions: recovered.positions,
            sync_at: None,
            pages: Default::default(),
            pacing: CommitPacing::default(),
            unflushed_bytes_max: UNFLUSHED_MEMTABLES_MAX * settings.memtable_bytes,
            memtable_bytes: settings.memtable_bytes,
            patience,
            unit: Unit::default(),
        };
        for (stream, index) in recovered.streams {
            let first = index.tail.front().map(|entry| entry.sequence);
            let log = index.extent.log;
            writer.enter_stream(stream, StreamState::new(index));
            if let Some(first) = first {
                writer.pages[log as usize].insert(first, stream);
            }
        }
        Ok(writer)
    }

    /// The machine, before the writer runs.
    pub(super) fn machine(&self) -> &M {
        &self.machine
    }

    /// Works until it is stopped, all handles are dropped or a write fails.
    pub(super) fn run(mut self) {
        // A panic in here is a bug, and no block may be taken for "never handed over" after it:
        // it ends like a failed write.
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()))
            .unwrap_or(Err(JournalError::Internal("the writer thread panicked")));
        if let Err(error) = ended {
            self.observer.failed(&error);
            self.waiting.refuse(&error);
            while let Ok(command) = self.commands.recv() {
                let stop = matches!(command, Command::Stop(_));
                command.refuse(&error);
                if stop {
                    break;
                }
            }
        }
    }

    fn work(&mut self) -> Result<(), JournalError> {
        loop {
            match self.next_command() {
                Ok((_, Command::Housekeeping(work, reply))) => self.housekeep(work, reply)?,
                Ok((_, Command::Snapshot(reply))) => {
                    // A copy holds what pages refer to, and must not miss anything.
                    self.write_tails(true)?;
                    let _ = reply.send(Ok(self.shared.store.snapshot()));
                }
                Ok((turn, command)) => {
                    let mut commit = self.gather(turn, command)?;
                    let stop = commit.stop.take();
                    self.commit(commit)?;
                    // Commits that write nothing must not postpone deadlines.
                    self.on_time()?;
                    if let Some(reply) = stop {
                        let closed = self.close();
                        let _ = reply.send(closed.clone());
                        return closed;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.on_time()?,
                // All handles were dropped without a stop: leave it in order all the same.
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
        }
    }

    fn next_command(&mut self) -> Result<(Turn, Command<M::Request>), RecvTimeoutError> {
        self.take_in();
        if let Some(command) = self.waiting.next() {
            return Ok(command);
        }
        let tick_at = Some(self.tick_at());
        let deadlines = [self.sync_at, self.watermark.sync_at(), tick_at];
        let at = deadlines.into_iter().flatten().min().unwrap_or(self.ticked);
        let command = self.commands.recv_timeout(at.saturating_duration_since(Instant::now()))?;
        self.waiting.enter(command, |request| self.machine.turn(request));
        self.take_in();
        self.waiting.next().ok_or(RecvTimeoutError::Timeout)
    }

    /// Takes every request that has arrived.
    fn take_in(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.waiting.enter(command, |request| self.machine.turn(request));
        }
    }

    /// Takes waiting requests, up to a commit's size.
    fn gather(
        &mut self,
        turn: Turn,
        first: Command<M::Request>,
    ) -> Result<Gathered<M>, JournalError> {
        let mut commit = Gathered::new(self.now(), self.pacing.expected());
        self.begin_commit(&mut commit)?;
        let begun = Instant::now();
        let mut next = Some((turn, first));
        while let Some((turn, command)) = next {
            self.apply(turn, command, &mut commit)?;
            let full = commit.messages >= COMMIT_MESSAGES || commit.bytes >= COMMIT_BYTES;
            if full || commit.stop.is_some() {
                break;
            }
            self.take_in();
            while self.waiting.is_empty() && self.pacing.expects_more(commit.messages, begun) {
                std::thread::yield_now();
                self.take_in();
            }
            if self.waiting.next_is_alone() {
                break;
            }
            next = self.waiting.next();
        }
        Ok(commit)
    }
}
