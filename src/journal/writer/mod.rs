//! The one thread that writes: group commit.
//!
//! It takes all that waits (up to about [`COMMIT_MESSAGES`] messages or [`COMMIT_BYTES`] bytes),
//! commits it as one batch, syncs once if any of it asks for that, and answers all. While a sync
//! runs, the next commit gathers; the [rhythm](Rhythm) of commits tells when more is just coming, and
//! topics take turns. Only topics at level `os` need
//! a clock, for the sync they are promised within their interval, and the watermark file.
//!
//! Invariants: blocks are answered in the order they were taken; a block whose lane place or
//! incarnation is not the expected one is refused before it gets an offset; every commit is
//! numbered and carries the number of commits that are durable; after a failure every command is
//! refused with it.

pub(super) mod catalogue;
mod commit;
pub(super) mod dedup;
mod durable;
mod housekeeping;
mod named;
mod packer;
mod page_queue;
mod pages;
mod rhythm;
mod sift;
mod space;
mod take;
mod waiting;
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::age::Age;
use super::chunk::{Chunk, Moment};
use super::command::Command;
use super::positions::Positions;
use super::recovery::Recovered;
use super::roster::Roster;
use super::shared::Shared;
use super::store::StoreBatch;
use super::watermark::Watermark;
use super::{AppendError, JournalError, JournalObserver, StorageSettings};
use crate::clock::Clock;
use crate::faults::{self, Seam};
use crate::metrics;
use crate::model::{Sequence, Timestamp};
use catalogue::Catalogue;
use commit::Commit;
use page_queue::PageQueue;
use rhythm::Rhythm;
use space::Space;
use waiting::Waiting;
use watchdog::Watchdog;

/// Messages after which a commit takes no more.
const COMMIT_MESSAGES: u64 = 1_000;
/// Bytes after which a commit takes no more.
const COMMIT_BYTES: usize = 1024 * 1024;

/// What the writer is made with.
pub(super) struct Beginning {
    pub(super) shared: Arc<Shared>,
    pub(super) recovered: Recovered,
    pub(super) commands: Receiver<Command>,
    pub(super) watermark: Watermark,
    pub(super) roster: Roster,
    pub(super) age: Age,
    pub(super) clock: Clock,
    pub(super) observer: Arc<dyn JournalObserver>,
}

/// The writer thread's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    waiting: Waiting,
    clock: Clock,
    age: Age,
    observer: Arc<dyn JournalObserver>,
    watchdog: Watchdog,
    watermark: Watermark,
    roster: Roster,
    space: Space,
    names_max: usize,
    catalogue: Catalogue,
    /// What the last commit said.
    positions: Positions,
    /// When what was committed without a sync must be synced at the latest.
    sync_at: Option<Instant>,
    last_time: Timestamp,
    pages: PageQueue,
    rhythm: Rhythm,
}

impl Writer {
    pub(super) fn new(
        beginning: Beginning,
        settings: &StorageSettings,
    ) -> Result<Self, std::io::Error> {
        let Beginning { shared, recovered, commands, watermark, roster, age, clock, observer } =
            beginning;
        let patience = Duration::from_millis(settings.stall_ms_max);
        let complain = {
            let observer = observer.clone();
            move || observer.failed(&JournalError::Stalled(patience))
        };
        let watchdog = Watchdog::start(patience, complain)?;
        let mut pages = PageQueue::default();
        let mut catalogue = Catalogue::new(shared.clone(), recovered.positions.next_topic_id);
        for topic in recovered.topics {
            if let Some(entry) = topic.index.tail.front() {
                pages.insert(entry.sequence, topic.record.id);
            }
            catalogue.enter(topic.record, topic.index, topic.dedup);
        }
        Ok(Self {
            shared,
            commands,
            waiting: Waiting::default(),
            clock,
            age,
            observer,
            watchdog,
            watermark,
            roster,
            space: Space::new(settings),
            names_max: settings.producer_names_max,
            catalogue,
            positions: recovered.positions,
            sync_at: None,
            last_time: recovered.positions.last_time,
            pages,
            rhythm: Rhythm::default(),
        })
    }

    /// Works until it is stopped, everybody has gone or a write fails.
    pub(super) fn run(mut self) {
        // A panic in here is a bug, and no block may be taken for "never handed over" after it:
        // it ends like a failed write.
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()))
            .unwrap_or_else(|_| Err(JournalError::Metadata("the writer thread panicked".into())));
        if let Err(error) = ended {
            self.observer.failed(&error);
            self.waiting.refuse(&error);
            while let Ok(command) = self.commands.recv() {
                let stop = matches!(command, Command::Stop(_));
                command.refuse(error.clone());
                if stop {
                    break;
                }
            }
        }
    }

    fn work(&mut self) -> Result<(), JournalError> {
        loop {
            match self.next_command() {
                Ok(Command::Housekeeping(work, reply)) => self.keep_house(work, reply)?,
                Ok(Command::Snapshot(reply)) => {
                    self.write_tails()?;
                    let _ = reply.send(Ok(self.shared.store.snapshot()));
                }
                Ok(command) => {
                    let mut commit = self.gather(command)?;
                    let stop = commit.stop.take();
                    self.commit(commit)?;
                    // Commits that write nothing must not put a promised sync off.
                    if self.sync_at.is_some_and(|at| at <= Instant::now()) {
                        self.sync()?;
                    }
                    if let Some(reply) = stop {
                        let closed = self.close();
                        let _ = reply.send(closed.clone());
                        return closed;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.on_time()?,
                // Everybody has let go without stopping us: leave it in order all the same.
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
        }
    }

    fn next_command(&mut self) -> Result<Command, RecvTimeoutError> {
        self.take_in();
        if let Some(command) = self.waiting.next() {
            return Ok(command);
        }
        let deadlines = [self.sync_at, self.watermark.sync_at(), self.space.look_at()];
        let command = match deadlines.into_iter().flatten().min() {
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.commands.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        self.let_wait(command?);
        self.take_in();
        self.waiting.next().ok_or(RecvTimeoutError::Timeout)
    }

    fn let_wait(&mut self, command: Command) {
        self.waiting.enter(command, |name| self.catalogue.id_of(name));
    }

    /// Takes everything in that has come.
    fn take_in(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.let_wait(command);
        }
    }

    /// Does what was due while nothing came.
    fn on_time(&mut self) -> Result<(), JournalError> {
        let now = Instant::now();
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync()?;
        }
        if self.watermark.sync_at().is_some_and(|at| at <= now) {
            self.watermark.sync()?;
        }
        if self.space.look_at().is_some_and(|at| at <= now) {
            self.look_at_space();
        }
        Ok(())
    }

    fn look_at_space(&mut self) -> Option<AppendError> {
        let refusal = self.space.refusal(&self.shared.store).cloned();
        self.shared.storage_full.store(refusal.is_some(), Ordering::Relaxed);
        refusal
    }

    /// Takes what waits, up to a commit's measure.
    fn gather(&mut self, first: Command) -> Result<Commit, JournalError> {
        let (age_ms, full) = (self.age.now_ms(), self.look_at_space());
        let mut commit = Commit { age_ms, full, ..Commit::default() };
        let begun = Instant::now();
        let mut command = Some(first);
        while let Some(taken) = command {
            self.take(taken, &mut commit)?;
            let full = commit.messages >= COMMIT_MESSAGES || commit.bytes >= COMMIT_BYTES;
            if full || commit.stop.is_some() {
                break;
            }
            self.take_in();
            while self.waiting.is_empty() && self.rhythm.expects_more(commit.messages, begun) {
                std::thread::yield_now();
                self.take_in();
            }
            if self.waiting.next_is_alone() {
                break;
            }
            command = self.waiting.next();
        }
        Ok(commit)
    }

    /// Makes a commit real, then tells everybody.
    fn commit(&mut self, mut commit: Commit) -> Result<(), JournalError> {
        let mut chunks = Vec::new();
        if commit.is_empty() {
            self.rhythm.note_none();
            // What is answered may rest on an earlier commit that is not synced yet.
            if commit.sync && self.sync_at.is_some() {
                self.sync()?;
            }
        } else {
            chunks = match self.write_commit(&mut commit) {
                Ok(chunks) => chunks,
                Err(error) => {
                    commit.answers.into_iter().for_each(|answer| answer.refuse(&error));
                    return Err(error);
                }
            };
        }
        let blocks: Vec<_> = chunks.iter().flat_map(Chunk::blocks).map(Arc::new).collect();
        if !blocks.is_empty() {
            self.observer.committed(&blocks);
        }
        for answer in commit.answers {
            answer.give();
        }
        Ok(())
    }

    fn write_commit(&mut self, commit: &mut Commit) -> Result<Vec<Chunk>, JournalError> {
        let published_at = self.clock.now().max(self.last_time);
        self.last_time = published_at;
        let moment = Moment { published_at, age_ms: commit.age_ms };
        let chunks = commit.packer.pack(Sequence(self.positions.next_sequence), moment);
        let next_sequence = Sequence(self.positions.next_sequence + chunks.len() as u64);
        let bytes = chunks.iter().map(|chunk| chunk.value.len() as u64).sum();
        self.pages.written(next_sequence, bytes);
        self.shared.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        let due = self.due_pages(&chunks);
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        for chunk in &chunks {
            batch.put_chunk(chunk.sequence, chunk.value.clone());
        }
        self.put_pages(&mut batch, &due);
        commit.fill(&mut batch, next_sequence);
        // A busy writer has no idle moment for the sync that is promised in between.
        let overdue = self.sync_at.is_some_and(|at| at <= Instant::now());
        let removed =
            commit.topics_removed.iter().map(|removed| (removed.id, removed.name.clone()));
        self.roster.note(commit.topics_put.values(), removed)?;
        let indexed = self.pages.first_unpaged(&due).map(|s| s.0);
        let begun = Instant::now();
        self.write(batch, next_sequence, indexed, commit.sync || overdue)?;
        let (took, synced) = (begun.elapsed(), commit.sync || overdue);
        metrics::committed(commit.messages, commit.bytes as u64, took, synced);
        self.rhythm.note(commit.messages, took);
        if let (Some(within), true) = (commit.sync_within, !commit.sync && !overdue) {
            let at = Instant::now() + within;
            self.sync_at = Some(self.sync_at.map_or(at, |before| before.min(at)));
        }
        self.space.written(commit.bytes);
        self.enter_into_index(&chunks, &due);
        self.note_deleted(commit, &chunks);
        Ok(chunks)
    }

    /// Commits a batch. `indexed` is the first sequence with a block that no page knows, but for
    /// those of this very batch.
    fn write(
        &mut self,
        mut batch: StoreBatch<'_>,
        next_sequence: Sequence,
        indexed: Option<u64>,
        sync: bool,
    ) -> Result<(), JournalError> {
        self.positions = Positions {
            commits: self.positions.commits + 1,
            next_sequence: next_sequence.0,
            indexed_sequence: indexed.unwrap_or(self.positions.next_sequence),
            age_ms: self.age.now_ms(),
            last_time: self.last_time,
            next_topic_id: self.catalogue.next_topic_id(),
            ..self.positions
        };
        batch.put_positions(self.positions);
        if faults::fails(Seam::WriterCommitting) {
            return Err(JournalError::Metadata("planned fault".into()));
        }
        {
            let _in_store = self.watchdog.enter();
            batch.commit(sync)?;
        }
        let indexed_sequence = self.positions.indexed_sequence;
        self.shared.indexed_sequence.store(indexed_sequence, Ordering::Release);
        if sync { self.made_durable() } else { self.watermark.note(self.extent()) }
    }
}
