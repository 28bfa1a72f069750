//! Writing a commit, and publishing its effects.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Writer;
use super::gathered::Gathered;
use super::packer::Packed;
use crate::faults::{self, Seam};
use crate::journal::JournalError;
use crate::journal::format::chunk;
use crate::journal::format::entry::Moment;
use crate::journal::format::positions::Positions;
use crate::journal::machine::{Machine, Reply};
use crate::journal::shared::log_ends;
use crate::journal::store::{StoreBatch, keys};
use crate::journal::unit::SyncNeed;
use crate::metrics;
use crate::model::{Log, Sequence};

/// What one measurement of the tables counts for, at most.
const TURN_MAX: Duration = Duration::from_millis(100);

impl<M: Machine> Writer<M> {
    /// Writes a commit, then gives all its replies.
    pub(super) fn commit(&mut self, mut commit: Gathered<M>) -> Result<(), JournalError> {
        if commit.is_empty() {
            self.pacing.note_none();
            // The answers may rest on an earlier commit that is not synced yet.
            if commit.need == SyncNeed::Now && self.sync_at.is_some() {
                self.sync()?;
            }
        } else {
            match self.write_commit(&mut commit) {
                Ok(packed) => self.show(&packed),
                Err(error) => {
                    commit.replies.into_iter().for_each(|reply| reply.refuse(&error));
                    return Err(error);
                }
            }
        }
        self.machine.committed();
        commit.replies.into_iter().for_each(Reply::give);
        Ok(())
    }

    /// Notifies the observer of what readers may see.
    fn show(&self, packed: &[Packed]) {
        let mut blocks = Vec::new();
        for Packed { chunk, blocks: packed } in packed {
            let shown = chunk.entries.iter().zip(packed).filter(|(_, (_, visible))| *visible);
            blocks.extend(
                shown.map(|((stream, entry), _)| {
                    Arc::new(chunk::block(*stream, &chunk.value, entry))
                }),
            );
        }
        if !blocks.is_empty() {
            self.observer.committed(&blocks);
        }
    }

    fn write_commit(&mut self, commit: &mut Gathered<M>) -> Result<Vec<Packed>, JournalError> {
        let moment = Moment { published_at: commit.now.time, age_ms: commit.now.age_ms };
        let before = log_ends(&self.positions);
        let packed = commit.packer.pack(before, self.positions.commits + 1, moment);
        let ends = self.count_written(before, &packed);
        let mut due = match commit.examined {
            Some(_) => self.take_tails(false),
            None => self.due_pages(&packed),
        };
        let mut trims = self.trims(&commit.trims)?;
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        for Packed { chunk, .. } in &packed {
            batch.put_chunk(chunk.place, chunk.value.clone());
        }
        self.put_pages(&mut due, false, &mut batch, &mut commit.written);
        self.put_trims(&mut trims, &mut batch, &mut commit.written);
        commit.written.put_into(&mut batch);
        if let Some(stale) = commit.examined.take() {
            self.put_examined(&stale, &due, &mut batch);
        }
        for owner in &commit.deleted {
            batch.put_state(&keys::deleted(*owner), &keys::encode_ends(ends));
        }
        self.space.make_room_to_write(self.flushing_bytes());
        self.machine.prepare()?;
        // A busy writer has no idle moment for the sync that is promised in between.
        let overdue = self.sync_at.is_some_and(|at| at <= Instant::now());
        let sync = commit.need == SyncNeed::Now || overdue;
        let indexed = self.first_unpaged();
        let begun = Instant::now();
        self.write(batch, ends, indexed, sync)?;
        let took = begun.elapsed();
        if !commit.replies.is_empty() {
            metrics::committed(commit.messages, commit.bytes as u64, took, sync);
            self.pacing.note(commit.messages, commit.replies.len(), took);
        }
        if let (SyncNeed::Within(within), false) = (commit.need, sync) {
            let at = Instant::now() + within;
            self.sync_at = Some(self.sync_at.map_or(at, |before| before.min(at)));
        }
        self.space.written(commit.bytes);
        self.enter_into_index(&packed, &due);
        self.trimmed(&trims);
        self.note_deleted(&commit.deleted);
        Ok(packed)
    }

    /// Where both logs end after these chunks.
    fn count_written(&mut self, before: [Sequence; 2], packed: &[Packed]) -> [Sequence; 2] {
        Log::ALL.map(|log| {
            let of_log = packed.iter().map(|packed| &packed.chunk).filter(|c| c.place.log == log);
            let (mut chunks, mut bytes) = (0, 0);
            for chunk in of_log {
                chunks += 1;
                bytes += chunk.value.len() as u64;
            }
            let end = Sequence(before[log as usize].0 + chunks);
            self.pages[log as usize].written(end, bytes);
            self.shared.log(log).written_bytes.fetch_add(bytes, Ordering::Relaxed);
            end
        })
    }

    /// The first sequence of each log with a block that is in no page, but for those of the commit
    /// in the making.
    pub(super) fn first_unpaged(&self) -> [Option<u64>; 2] {
        Log::ALL.map(|log| self.pages[log as usize].first_unpaged().map(|first| first.0))
    }

    /// Notifies reclaiming of the sequence up to which pages have all that is needed.
    pub(super) fn show_indexed(&self) {
        for (log, first) in Log::ALL.into_iter().zip(self.first_unpaged()) {
            let indexed = first.unwrap_or(self.positions.log(log).next_sequence);
            self.shared.log(log).indexed_sequence.store(indexed, Ordering::Release);
        }
    }

    /// Waits while fjall is far behind in writing tables. Its own brake looks at one keyspace at a
    /// time, and its workers can wait for each other for ever (3.1.13: the one queue that hands
    /// them work is bounded, and they put work into it themselves); commits continue then, and
    /// memory grows.
    fn wait_for_tables(&self) -> Result<(), JournalError> {
        let mut waited = Duration::ZERO;
        while self.shared.store.unflushed_bytes() > self.unflushed_bytes_max {
            if waited >= self.patience {
                return Err(JournalError::Stalled(self.patience));
            }
            let begun = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
            // A process that was stopped (SIGSTOP) has had no time to write tables.
            waited += begun.elapsed().min(TURN_MAX);
        }
        Ok(())
    }

    /// Commits a batch. `indexed` is the result of [`Writer::first_unpaged`].
    pub(super) fn write(
        &mut self,
        mut batch: StoreBatch<'_>,
        ends: [Sequence; 2],
        indexed: [Option<u64>; 2],
        sync: bool,
    ) -> Result<(), JournalError> {
        let mut positions = Positions {
            commits: self.positions.commits + 1,
            age_ms: self.age.now_ms(),
            last_time: self.positions.last_time.max(self.clock.now()),
            ..self.positions
        };
        for log in Log::ALL {
            let of_log = positions.log_mut(log);
            // The blocks this batch appends are in no page yet.
            of_log.indexed_sequence = indexed[log as usize].unwrap_or(of_log.next_sequence);
            of_log.next_sequence = ends[log as usize].0;
        }
        batch.put_positions(&positions);
        self.positions = positions;
        self.space.make_room_to_write(self.flushing_bytes());
        {
            let _in_store = self.watchdog.enter();
            if faults::fails(Seam::WriterCommitting) {
                return Err(JournalError::Internal("planned fault"));
            }
            self.wait_for_tables()?;
            batch.commit(sync)?;
        }
        self.check_directory()?;
        for log in Log::ALL {
            let indexed = self.positions.log(log).indexed_sequence;
            self.shared.log(log).indexed_sequence.store(indexed, Ordering::Release);
        }
        if sync { self.made_durable() } else { self.watermark.note(self.extent()) }
    }
}
