//! Retention: what topics need not keep any more goes, and its space comes back.
//!
//! A thread of its own looks at every topic now and then. What is too old or too much moves the
//! topic's low watermark (`sweep`); what no topic needs at the journal's beginning is dropped from
//! the disk, whole tables at a time. Long-lived blocks between short-lived ones hold that up, so
//! when the tables take more than 1.4 times what is kept (and a little) the oldest ones
//! are copied forward (`clean`). Deleted topics are swept up on the way.
//!
//! Invariants: every change of the journal is a commit of the writer's; nothing is dropped before
//! the floor under it is durable; ages count the journal's use, not the machine's clock (`age`).

mod clean;
mod ledger;
mod sweep;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub(super) use ledger::Ledger;

use super::JournalError;
use super::age::Age;
use super::command::{Command, Housekeeping, Reclaimed};
use super::shared::{Shared, TopicState};
use crate::model::{Sequence, TopicId};
use sweep::Swept;

/// How often the journal's age is written down while nothing else is.
const NOTE_AGE_EVERY: Duration = Duration::from_secs(60);
/// Room that tables may take beyond their share: less is not worth a flush.
const SLACK_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes written after which it looks at once, so that the disk keeps within its bound.
const LOOK_AFTER_BYTES: u64 = 32 * 1024 * 1024;
/// How often it looks whether so much was written.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most topics trimmed with one commit.
const TRIMS_A_COMMIT: usize = 256;

/// A deleted topic whose blocks may still be on the disk.
#[derive(Debug)]
pub(super) struct Deleted {
    /// It has no blocks from this sequence on.
    pub(super) end: Sequence,
    /// Its pages are counted in the ledger.
    pub(super) counted: bool,
    /// Its low watermark: what lies before it was taken off the ledger when it went.
    pub(super) first: u64,
    /// Entries that were in no page when it was deleted.
    pub(super) tail: Vec<super::index::IndexEntry>,
    /// Its keys are gone.
    pub(super) reclaimed: bool,
}

/// The thread's state.
pub(super) struct Retention {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command>,
    pub(super) age: Age,
    pub(super) interval: Duration,
    /// Blocks from this sequence on, and those of recovered tails, are in the ledger already.
    pub(super) counted_from: Sequence,
    /// Where recovered tails begin.
    pub(super) tails_from: HashMap<TopicId, u64>,
    /// Each topic's low watermark and the age of its first block, when last seen.
    pub(super) first_ages: HashMap<TopicId, (u64, u64)>,
    /// Everything that is needed is counted.
    pub(super) may_drop: bool,
}

impl Retention {
    /// Works until the other end of `stop` is dropped, or the journal stops.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        let ended = self.count().and_then(|()| self.work(stop));
        if let Err(error) = ended
            && !matches!(error, JournalError::Stopped)
        {
            tracing::error!(%error, "retention has stopped; nothing is deleted any more");
        }
    }

    fn work(&mut self, stop: &Receiver<()>) -> Result<(), JournalError> {
        let mut noted = Instant::now();
        let mut looked = Instant::now();
        let pause = self.interval.min(LOOK_EVERY);
        while stop.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let written = self.shared.written_bytes.load(Ordering::Relaxed);
            if looked.elapsed() < self.interval && written < LOOK_AFTER_BYTES {
                continue;
            }
            looked = Instant::now();
            self.shared.written_bytes.store(0, Ordering::Relaxed);
            self.trim_topics()?;
            self.reclaim_deleted()?;
            self.clean_and_drop()?;
            if noted.elapsed() >= NOTE_AGE_EVERY {
                noted = Instant::now();
                self.ask(Housekeeping::NoteAge)?;
            }
        }
        Ok(())
    }

    /// Counts what was there when the journal was opened.
    fn count(&mut self) -> Result<(), JournalError> {
        for item in self.shared.store.pages() {
            let (topic, page) = match item {
                Ok(found) => found,
                Err(error) => {
                    // What it knows of is not counted, so nothing may be dropped.
                    self.may_drop = false;
                    tracing::error!(%error, "no disk space is given back while this is so");
                    continue;
                }
            };
            let deleted = self.shared.lock_deleted().get(&topic).map(|d| (d.counted, d.first));
            if deleted.is_some_and(|(counted, _)| !counted) {
                continue;
            }
            let tail_from = self.tails_from.get(&topic).copied().unwrap_or(u64::MAX);
            let first = match deleted {
                Some((_, first)) => first,
                None => self.shared.topics.get(&topic).map_or(0, |state| state.read_index().first),
            };
            let mut ledger = self.shared.lock_ledger();
            for entry in &page.entries {
                let counted = entry.sequence >= self.counted_from || entry.base_offset >= tail_from;
                if !counted && entry.end_offset() > first {
                    ledger.add(entry);
                }
            }
        }
        self.tails_from = HashMap::new();
        Ok(())
    }

    fn trim_topics(&mut self) -> Result<(), JournalError> {
        let topics: Vec<_> =
            self.shared.topics.iter().map(|item| (*item.key(), item.value().clone())).collect();
        self.first_ages.retain(|topic, _| self.shared.topics.contains_key(topic));
        let mut swept = Vec::new();
        for (topic, state) in topics {
            while let Some(found) = self.sweep_or_log(topic, &state) {
                let more = found.more;
                swept.push(found);
                if more || swept.len() == TRIMS_A_COMMIT {
                    self.trim(std::mem::take(&mut swept))?;
                }
                if !more {
                    break;
                }
            }
        }
        self.trim(swept)
    }

    fn sweep_or_log(&mut self, topic: TopicId, state: &TopicState) -> Option<Swept> {
        self.sweep(topic, state, self.age.now_ms()).unwrap_or_else(|error| {
            tracing::error!(%topic, %error, "retention passes over a topic");
            None
        })
    }

    fn trim(&mut self, swept: Vec<Swept>) -> Result<(), JournalError> {
        if swept.is_empty() {
            return Ok(());
        }
        self.ask(Housekeeping::Trim(swept.into_iter().map(|swept| swept.trim).collect()))
    }

    /// Removes the keys of deleted topics and takes their blocks off the ledger.
    fn reclaim_deleted(&mut self) -> Result<(), JournalError> {
        let waiting: Vec<_> = {
            let mut deleted = self.shared.lock_deleted();
            let waiting = deleted.iter_mut().filter(|(_, deleted)| !deleted.reclaimed);
            waiting.map(|(id, d)| (*id, d.counted, d.first, std::mem::take(&mut d.tail))).collect()
        };
        for (topic, counted, first, tail) in waiting {
            let store = &self.shared.store;
            let mut pages = Vec::new();
            for page in store.pages_from(topic, 0) {
                let page = page?;
                pages.extend(page.entries.first().map(|entry| entry.base_offset));
                let mut ledger = self.shared.lock_ledger();
                let live = page.entries.iter().filter(|entry| entry.end_offset() > first);
                live.filter(|_| counted).for_each(|entry| ledger.remove(entry));
            }
            tail.iter().for_each(|entry| self.shared.lock_ledger().remove(entry));
            let ids =
                store.ids(topic).map(|item| Ok(item?.0)).collect::<Result<_, JournalError>>()?;
            let names = store.producers(topic).map(|item| Ok(item?.0));
            let producers = names.collect::<Result<_, JournalError>>()?;
            self.ask(Housekeeping::Reclaim(vec![Reclaimed { topic, pages, ids, producers }]))?;
            if let Some(deleted) = self.shared.lock_deleted().get_mut(&topic) {
                deleted.reclaimed = true;
            }
        }
        Ok(())
    }

    /// Keeps the disk within the bound.
    fn clean_and_drop(&mut self) -> Result<(), JournalError> {
        if !self.may_drop || self.shared.backups.load(Ordering::Acquire) > 0 {
            return Ok(());
        }
        self.drop_dead()?;
        let mut tails_written = false;
        loop {
            let (live, oldest) = {
                let ledger = self.shared.lock_ledger();
                (ledger.live_bytes(), ledger.oldest())
            };
            let taken = self.shared.store.chunk_table_bytes();
            let bound = live * 7 / 5 + SLACK_BYTES;
            let indexed = self.shared.indexed_sequence.load(Ordering::Acquire);
            let Some(oldest) = oldest.filter(|_| taken > bound) else { return Ok(()) };
            if oldest.end > indexed {
                // What a tail knows can't be moved; once it is in a page it can.
                if std::mem::replace(&mut tails_written, true) {
                    return Ok(());
                }
                self.ask(Housekeeping::WriteTails)?;
                self.drop_dead()?;
                continue;
            }
            tracing::debug!(taken, live, from = oldest.start, "copying the oldest blocks forward");
            self.clean(oldest.clone())?;
            let before = self.shared.floor_sequence.load(Ordering::Acquire);
            self.drop_dead()?;
            if self.shared.floor_sequence.load(Ordering::Acquire) == before {
                // Something there can't be moved, say since it is damaged.
                return Ok(());
            }
        }
    }

    /// Drops what lies before the first block that is needed.
    fn drop_dead(&mut self) -> Result<(), JournalError> {
        let next = Sequence(self.shared.indexed_sequence.load(Ordering::Acquire));
        let floor = self.shared.lock_ledger().floor(next);
        let waiting = self.shared.lock_deleted().values().any(|deleted| !deleted.reclaimed);
        if floor.0 <= self.shared.floor_sequence.load(Ordering::Acquire) || waiting {
            return Ok(());
        }
        let past = |(id, deleted): (&TopicId, &Deleted)| {
            (deleted.reclaimed && deleted.end <= floor).then_some(*id)
        };
        let forgotten: Vec<_> = self.shared.lock_deleted().iter().filter_map(past).collect();
        match self.ask(Housekeeping::Floor(floor, forgotten.clone())) {
            Err(JournalError::Held) => return Ok(()),
            done => done?,
        }
        self.shared.floor_sequence.store(floor.0, Ordering::Release);
        self.shared.lock_deleted().retain(|id, _| !forgotten.contains(id));
        self.shared.store.drop_chunks_before(floor)?;
        // Its files go once fjall has moved on by two commits.
        self.ask(Housekeeping::NoteAge)?;
        self.ask(Housekeeping::NoteAge)?;
        self.shared.store.release_dropped()
    }

    fn ask(&self, work: Housekeeping) -> Result<(), JournalError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Housekeeping(work, reply);
        self.commands.send(command).map_err(|_| JournalError::Stopped)?;
        answer.blocking_recv().unwrap_or(Err(JournalError::Stopped))
    }
}
