//! The one thread that writes: group commit.
//!
//! It takes all that waits (up to about [`COMMIT_MESSAGES`] messages or [`COMMIT_BYTES`] bytes),
//! commits it as one batch, syncs once if any of it asks for that, and answers all. There is no
//! timer on that path: while a sync runs, the next commit gathers. Only topics at level `os` need
//! a clock, for the sync they are promised within their interval.
//!
//! Invariants: blocks are answered in the order they were taken; a block whose lane place or
//! incarnation is not the expected one is refused before it gets an offset; after a failure every
//! command is refused with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::catalogue::{Catalogue, Edit, TopicChange, TopicChangeError, TopicChanged};
use super::chunk::Chunk;
use super::command::{Answer, Append, Appended, Command, Worth};
use super::index::{PAGE_ENTRIES, Page, PageQueue};
use super::packer::Packer;
use super::recovery::Recovered;
use super::store::Positions;
use super::watchdog::Watchdog;
use super::{AppendError, JournalError, JournalObserver, Shared, TopicRecord};
use crate::clock::Clock;
use crate::model::{AckLevel, Sequence, Timestamp, TopicId};

/// Messages after which a commit takes no more.
const COMMIT_MESSAGES: u64 = 1_000;
/// Bytes after which a commit takes no more.
const COMMIT_BYTES: usize = 1024 * 1024;

/// The writer thread's state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    clock: Clock,
    observer: Arc<dyn JournalObserver>,
    watchdog: Watchdog,
    catalogue: Catalogue,
    next_sequence: Sequence,
    /// The last sequence known to be on the disk itself.
    durable: Option<Sequence>,
    /// When what was committed without a sync must be synced at the latest.
    sync_at: Option<Instant>,
    last_time: Timestamp,
    pages: PageQueue,
}

/// One commit in the making.
#[derive(Default)]
struct Commit {
    packer: Packer,
    messages: u64,
    bytes: usize,
    sync: bool,
    sync_within: Option<Duration>,
    topics_put: Vec<TopicRecord>,
    topics_removed: Vec<TopicId>,
    answers: Vec<Answer>,
    stop: Option<oneshot::Sender<Result<(), JournalError>>>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        recovered: Recovered,
        commands: Receiver<Command>,
        clock: Clock,
        observer: Arc<dyn JournalObserver>,
        watchdog: Watchdog,
    ) -> Self {
        let mut pages = PageQueue::default();
        let mut catalogue = Catalogue::new(shared.clone(), recovered.next_topic_id);
        for (record, index) in recovered.topics {
            if let Some(entry) = index.tail.front() {
                pages.insert(entry.sequence, record.id);
            }
            catalogue.enter(record, index);
        }
        Self {
            shared,
            commands,
            clock,
            observer,
            watchdog,
            catalogue,
            next_sequence: recovered.next_sequence,
            durable: None,
            sync_at: None,
            last_time: recovered.last_time,
            pages,
        }
    }

    /// Works until it is stopped, everybody has gone or a write fails.
    pub(super) fn run(mut self) {
        // A panic in here is a bug, and no block may be taken for "never handed over" after it:
        // it ends like a failed write.
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()))
            .unwrap_or_else(|_| Err(JournalError::Metadata("the writer thread panicked".into())));
        if let Err(error) = ended {
            self.observer.failed(&error);
            while let Ok(command) = self.commands.recv() {
                command.refuse(error.clone());
            }
        }
    }

    fn work(&mut self) -> Result<(), JournalError> {
        loop {
            let first = match self.sync_at {
                None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => {
                    self.commands.recv_timeout(at.saturating_duration_since(Instant::now()))
                }
            };
            match first {
                Ok(command) => {
                    let mut commit = self.gather(command);
                    let stop = commit.stop.take();
                    self.commit(commit)?;
                    if let Some(reply) = stop {
                        let closed = self.close();
                        let _ = reply.send(closed.clone());
                        return closed;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.sync()?,
                // Everybody has let go without stopping us: leave it in order all the same.
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
        }
    }

    /// Takes what waits, up to a commit's measure.
    fn gather(&mut self, first: Command) -> Commit {
        let mut commit = Commit::default();
        let mut command = Some(first);
        while let Some(taken) = command {
            self.take(taken, &mut commit);
            let full = commit.messages >= COMMIT_MESSAGES || commit.bytes >= COMMIT_BYTES;
            if full || commit.stop.is_some() {
                break;
            }
            command = self.commands.try_recv().ok();
        }
        commit
    }

    fn take(&mut self, command: Command, commit: &mut Commit) {
        match command {
            Command::Append(append) => self.take_append(append, commit),
            Command::ChangeTopic(change, reply) => match self.take_change(change, commit) {
                Ok(changed) => commit.answers.push(Answer::TopicChanged(reply, changed)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Fence { topic, incarnation, reply } => match self.catalogue.get_mut(topic) {
                Some(known) => {
                    known.incarnation = known.incarnation.max(incarnation);
                    commit.answers.push(Answer::Fenced(reply, known.next_offset));
                }
                None => drop(reply.send(Err(AppendError::TopicDeleted))),
            },
            Command::Stop(reply) => commit.stop = Some(reply),
        }
    }

    fn take_append(&mut self, append: Append, commit: &mut Commit) {
        let Append { topic, incarnation, lane, block, reply } = append;
        let Some(known) = self.catalogue.get_mut(topic) else {
            let _ = reply.send(Err(AppendError::TopicDeleted));
            return;
        };
        if incarnation < known.incarnation || lane.is_some_and(|place| !place.take()) {
            let _ = reply.send(Err(AppendError::OutOfTurn));
            return;
        }
        let base_offset = known.next_offset;
        known.next_offset += u64::from(block.count());
        commit.messages += u64::from(block.count());
        commit.bytes += block.body().len();
        let TopicRecord { epoch, settings, .. } = &known.record;
        commit.packer.add(topic, *epoch, base_offset, block);
        match settings.ack_level {
            AckLevel::Sync => commit.sync = true,
            AckLevel::Os => {
                let within = Duration::from_millis(settings.sync_interval_ms);
                let sooner = commit.sync_within.map_or(within, |other| other.min(within));
                commit.sync_within = Some(sooner);
            }
        }
        let worth = Worth::of(settings);
        commit.answers.push(Answer::Appended(reply, Appended { base_offset, worth }));
    }

    fn take_change(
        &mut self,
        change: TopicChange,
        commit: &mut Commit,
    ) -> Result<TopicChanged, TopicChangeError> {
        let (changed, edit) = self.catalogue.change(change)?;
        commit.sync |= !matches!(edit, Edit::None);
        match edit {
            Edit::None => {}
            Edit::Put(record) => commit.topics_put.push(record),
            Edit::Remove(topic, state) => {
                if let Some(entry) = state.read_index().tail.front() {
                    self.pages.remove(entry.sequence, topic);
                }
                commit.topics_put.retain(|record| record.id != topic);
                commit.topics_removed.push(topic);
            }
        }
        Ok(changed)
    }

    /// Makes a commit real, then tells everybody.
    fn commit(&mut self, commit: Commit) -> Result<(), JournalError> {
        let published_at = self.clock.now().max(self.last_time);
        let chunks = commit.packer.pack(self.next_sequence, self.durable, published_at);
        let next_sequence = Sequence(self.next_sequence.0 + chunks.len() as u64);
        self.pages.written(next_sequence, chunks.iter().map(|c| c.value.len() as u64).sum());
        let due = self.due_pages(&chunks);

        if !chunks.is_empty() || !commit.topics_put.is_empty() || !commit.topics_removed.is_empty()
        {
            // A busy writer has no idle moment for the sync that is promised in between.
            let overdue = self.sync_at.is_some_and(|at| at <= Instant::now());
            let sync = commit.sync || overdue;
            let level = if sync { AckLevel::Sync } else { AckLevel::Os };
            if let Err(error) = self.write(&commit, &chunks, &due, next_sequence, level) {
                commit.answers.into_iter().for_each(|answer| answer.refuse(&error));
                return Err(error);
            }
            if sync {
                self.made_durable(next_sequence);
            } else if let Some(within) = commit.sync_within {
                let at = Instant::now() + within;
                self.sync_at = Some(self.sync_at.map_or(at, |before| before.min(at)));
            }
            self.last_time = published_at;
            self.next_sequence = next_sequence;
            self.enter_into_index(&chunks, &due);
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

    /// Tails to write out with this commit: the old ones, and those that this commit would make
    /// longer than a page.
    fn due_pages(&self, chunks: &[Chunk]) -> Vec<TopicId> {
        let mut due = self.pages.due();
        for entry in chunks.iter().flat_map(|chunk| &chunk.entries) {
            let Some(known) = self.catalogue.get(entry.topic) else { continue };
            if known.state.read_index().tail.len() >= PAGE_ENTRIES && !due.contains(&entry.topic) {
                due.push(entry.topic);
            }
        }
        due
    }

    fn write(
        &self,
        commit: &Commit,
        chunks: &[Chunk],
        due: &[TopicId],
        next_sequence: Sequence,
        level: AckLevel,
    ) -> Result<(), JournalError> {
        let mut batch = self.shared.store.batch();
        for chunk in chunks {
            batch.put_chunk(chunk.sequence, chunk.value.clone());
        }
        for topic in due {
            if let Some(page) = self.page(*topic) {
                batch.put_page(*topic, &page);
            }
        }
        for record in &commit.topics_put {
            batch.put_topic(record);
        }
        for topic in &commit.topics_removed {
            batch.remove_topic(*topic)?;
        }
        // Everything before the oldest tail that stays is in pages; this commit's own is not.
        let indexed = self.pages.first_unpaged(due).unwrap_or(self.next_sequence);
        batch.put_positions(Positions {
            next_sequence: next_sequence.0,
            indexed_sequence: indexed.0,
            next_topic_id: self.catalogue.next_topic_id(),
        });
        let _in_store = self.watchdog.enter();
        batch.commit(level)
    }

    fn page(&self, topic: TopicId) -> Option<Page> {
        self.catalogue.get(topic)?.state.read_index().page()
    }

    fn enter_into_index(&mut self, chunks: &[Chunk], paged: &[TopicId]) {
        for topic in paged {
            let Some(known) = self.catalogue.get(*topic) else { continue };
            let mut index = known.state.index.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = index.tail.front() {
                self.pages.remove(first.sequence, *topic);
            }
            index.tail.clear();
        }
        for entry in chunks.iter().flat_map(|chunk| &chunk.entries) {
            // A topic deleted by this very commit has no index any more.
            let Some(known) = self.catalogue.get(entry.topic) else { continue };
            let mut index = known.state.index.write().unwrap_or_else(PoisonError::into_inner);
            if index.tail.is_empty() {
                self.pages.insert(entry.entry.sequence, entry.topic);
            }
            let next = index.push(entry.entry);
            assert!(next, "the writer gives offsets without holes");
        }
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        {
            let _in_store = self.watchdog.enter();
            self.shared.store.sync()?;
        }
        self.made_durable(self.next_sequence);
        Ok(())
    }

    fn made_durable(&mut self, next_sequence: Sequence) {
        self.durable = next_sequence.0.checked_sub(1).map(Sequence);
        self.sync_at = None;
    }

    /// Writes every tail out, so that the next start has no chunk to read, and syncs.
    fn close(&mut self) -> Result<(), JournalError> {
        let tails = self.pages.all();
        self.write(&Commit::default(), &[], &tails, self.next_sequence, AckLevel::Sync)?;
        self.enter_into_index(&[], &tails);
        self.sync()
    }
}
