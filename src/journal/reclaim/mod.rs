//! Reclaiming: drops what streams need not keep any more, and returns its space.
//!
//! A thread of its own looks at every stream periodically. Blocks that are too old or too many by
//! the stream's limits move its low watermark (`expire`); what no stream needs at a log's beginning
//! is dropped from the disk, whole tables at a time. Long-lived blocks between short-lived ones
//! hold that up in `blocks`, so when its tables take more than 1.4 times what is kept (and a
//! little) the oldest ones are copied forward (`relocate`), as far as the disk has room for copies;
//! in `short` nothing is ever copied. Remains of deleted owners are removed on the way.
//!
//! Invariants: every change of the journal is a commit of the writer's; nothing is dropped before
//! the floor under it is durable; ages count the journal's use, not the machine's clock (`age`).

mod count;
mod expire;
mod relocate;
mod segments;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub(super) use expire::walk;
pub(super) use segments::SegmentUsage;

use super::JournalError;
use super::age::Age;
use super::command::{Command, Housekeeping, Reclaimed};
use super::index::{IndexEntry, PageStart};
use super::machine::Request;
use super::shared::{Shared, StreamState};
use crate::model::{Log, OwnerId, Sequence, StreamId};
use expire::{Walked, expire};

/// How often the journal's age is recorded while nothing else is written.
const NOTE_AGE_EVERY: Duration = Duration::from_secs(60);
/// Room that tables may take beyond their share: less is not worth a flush.
const SLACK_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes written after which it looks at once, so that disk use stays within its bound.
const LOOK_AFTER_BYTES: u64 = 32 * 1024 * 1024;
/// How often it checks whether that much was written.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most streams trimmed with one commit.
const TRIMS_A_COMMIT: usize = 256;

/// A deleted owner whose blocks may still be on the disk.
#[derive(Debug)]
pub(super) struct Deleted {
    /// It has no blocks from these sequences on.
    pub(super) ends: [Sequence; 2],
    /// The log its stream lay in.
    pub(super) log: Log,
    /// Its pages are counted.
    pub(super) counted: bool,
    /// Its low watermark: blocks before it were taken off the count when they were removed.
    pub(super) first: u64,
    /// Entries that were in no page when it was deleted.
    pub(super) tail: Vec<IndexEntry>,
    /// Its keys are gone.
    pub(super) reclaimed: bool,
}

impl Deleted {
    /// One that an earlier run deleted.
    pub(super) fn earlier(ends: [Sequence; 2]) -> Self {
        let (first, tail, log) = (0, Vec::new(), Log::Blocks);
        Self { ends, log, counted: false, first, tail, reclaimed: false }
    }
}

/// The thread's state.
pub(super) struct Reclaimer<R> {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command<R>>,
    pub(super) age: Age,
    pub(super) interval: Duration,
    /// Blocks from these sequences on, and those of recovered tails, are counted already.
    pub(super) counted_from: [Sequence; 2],
    /// Where recovered tails begin, by block number.
    pub(super) tails_from: HashMap<StreamId, u64>,
    /// Everything that is needed is counted.
    pub(super) may_drop: bool,
}

impl<R: Request> Reclaimer<R> {
    /// Works until the other end of `stop` is dropped, or the journal stops.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        self.count();
        if let Err(error) = self.work(stop)
            && !matches!(error, JournalError::Stopped)
        {
            tracing::error!(%error, "reclaiming has stopped; nothing is deleted any more");
        }
    }

    fn work(&mut self, stop: &Receiver<()>) -> Result<(), JournalError> {
        let mut noted = Instant::now();
        let mut looked = Instant::now();
        let mut swept = Instant::now();
        let pause = self.interval.min(LOOK_EVERY);
        while stop.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let written = |log| self.shared.log(log).written_bytes.load(Ordering::Relaxed);
            let written: u64 = Log::ALL.into_iter().map(written).sum();
            if looked.elapsed() < self.interval && written < LOOK_AFTER_BYTES {
                continue;
            }
            looked = Instant::now();
            for log in Log::ALL {
                self.shared.log(log).written_bytes.store(0, Ordering::Relaxed);
            }
            if swept.elapsed() >= self.interval {
                swept = Instant::now();
                self.ask(Housekeeping::Sweep)?;
            }
            self.trim_streams()?;
            self.reclaim_deleted()?;
            if self.may_drop && self.shared.backups.load(Ordering::Acquire) == 0 {
                self.drop_dead(Log::Short)?;
                self.keep_within_bound()?;
            }
            if noted.elapsed() >= NOTE_AGE_EVERY {
                noted = Instant::now();
                self.ask(Housekeeping::NoteAge)?;
            }
        }
        Ok(())
    }

    fn trim_streams(&mut self) -> Result<(), JournalError> {
        let streams: Vec<_> =
            self.shared.streams.iter().map(|item| (*item.key(), item.value().clone())).collect();
        let mut trims = Vec::new();
        for (stream, state) in streams {
            loop {
                let Walked { trim, more, .. } = self.expire_or_log(stream, &state);
                trims.extend(trim);
                let before = state.read_index().extent.first;
                if more || trims.len() == TRIMS_A_COMMIT {
                    self.ask(Housekeeping::Trim(std::mem::take(&mut trims)))?;
                }
                // A stream that is deleted, or not covered by its machine, stays as it is.
                if !more || state.read_index().extent.first == before {
                    break;
                }
            }
        }
        if trims.is_empty() { Ok(()) } else { self.ask(Housekeeping::Trim(trims)) }
    }

    fn expire_or_log(&self, stream: StreamId, state: &StreamState) -> Walked {
        expire(&self.shared.store, stream, state, self.age.now_ms()).unwrap_or_else(|error| {
            tracing::error!(%stream, %error, "retention passes over a stream");
            Walked::default()
        })
    }

    /// Removes the keys of deleted owners and takes their blocks off the count.
    fn reclaim_deleted(&mut self) -> Result<(), JournalError> {
        let waiting: Vec<_> = {
            let mut deleted = self.shared.lock_deleted();
            let waiting = deleted.iter_mut().filter(|(_, deleted)| !deleted.reclaimed);
            let taken = |(id, d): (&OwnerId, &mut Deleted)| {
                (*id, d.log, d.counted, d.first, std::mem::take(&mut d.tail))
            };
            waiting.map(taken).collect()
        };
        for (owner, log, counted, first, tail) in waiting {
            let (store, stream) = (&self.shared.store, StreamId(owner.0));
            let mut pages = Vec::new();
            for page in store.pages_from(stream, PageStart::at(0)) {
                let page = page?;
                pages.extend(page.start());
                let mut usage = self.shared.log(log).lock_usage();
                let live = page.entries.iter().filter(|entry| !entry.is_below(first));
                live.filter(|_| counted).for_each(|e| usage.remove(e.sequence, e.weight()));
            }
            let mut usage = self.shared.log(log).lock_usage();
            tail.iter().for_each(|entry| usage.remove(entry.sequence, entry.weight()));
            drop(usage);
            let keys = store.keys_of(owner)?;
            self.ask(Housekeeping::Reclaim(vec![Reclaimed { stream, pages, keys }]))?;
            if let Some(deleted) = self.shared.lock_deleted().get_mut(&owner) {
                deleted.reclaimed = true;
            }
        }
        Ok(())
    }

    /// Keeps `blocks` within the bound.
    fn keep_within_bound(&mut self) -> Result<(), JournalError> {
        self.drop_dead(Log::Blocks)?;
        let mut tails_written = false;
        loop {
            let log = self.shared.log(Log::Blocks);
            let (live, oldest) = {
                let usage = log.lock_usage();
                (usage.live_bytes(), usage.oldest())
            };
            let taken = self.shared.store.chunk_table_bytes(Log::Blocks);
            let bound = live.saturating_mul(7) / 5 + SLACK_BYTES;
            let indexed = log.indexed_sequence.load(Ordering::Acquire);
            let Some((oldest, copied)) = oldest.filter(|_| taken > bound) else { return Ok(()) };
            if !self.has_room_for(copied) {
                return Ok(());
            }
            if oldest.end > indexed {
                // A block known to a tail only can't be moved; once it is in a page it can.
                if std::mem::replace(&mut tails_written, true) {
                    return Ok(());
                }
                self.ask(Housekeeping::WriteTails)?;
                self.drop_dead(Log::Blocks)?;
                continue;
            }
            tracing::debug!(taken, live, from = oldest.start, "copying the oldest blocks forward");
            self.relocate(oldest.clone())?;
            let floor =
                |this: &Self| this.shared.log(Log::Blocks).floor_sequence.load(Ordering::Acquire);
            let before = floor(self);
            self.drop_dead(Log::Blocks)?;
            if floor(self) == before {
                // A block there can't be moved, say since it is damaged.
                return Ok(());
            }
        }
    }

    /// A copy takes its bytes in the WAL and again in a table. On a full disk retention has to make
    /// room for it first; the reserve is not for copies.
    fn has_room_for(&self, copied: u64) -> bool {
        let free = self.shared.free_bytes.load(Ordering::Relaxed);
        free >= copied.saturating_mul(2).saturating_add(SLACK_BYTES)
    }

    /// Drops what lies before the first block that is needed.
    fn drop_dead(&mut self, log: Log) -> Result<(), JournalError> {
        let state = self.shared.log(log);
        let next = Sequence(state.indexed_sequence.load(Ordering::Acquire));
        let floor = state.lock_usage().floor(next);
        let waiting = self.shared.lock_deleted().values().any(|deleted| !deleted.reclaimed);
        if floor.0 <= state.floor_sequence.load(Ordering::Acquire) || waiting {
            return Ok(());
        }
        let floors = Log::ALL.map(|of| match of {
            of if of == log => floor.0,
            of => self.shared.log(of).floor_sequence.load(Ordering::Acquire),
        });
        let past = |(id, deleted): (&OwnerId, &Deleted)| {
            let gone = deleted.ends.iter().zip(floors).all(|(end, floor)| end.0 <= floor);
            (deleted.reclaimed && gone).then_some(*id)
        };
        let forgotten: Vec<_> = self.shared.lock_deleted().iter().filter_map(past).collect();
        match self.ask(Housekeeping::Floor(log, floor, forgotten.clone())) {
            Err(JournalError::Held) => return Ok(()),
            done => done?,
        }
        state.floor_sequence.store(floor.0, Ordering::Release);
        self.shared.lock_deleted().retain(|id, _| !forgotten.contains(id));
        self.shared.store.drop_chunks_before(log, floor)?;
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
