//! Reclaiming's requests to the writer: commits of their own.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::gathered::Gathered;
use super::pages::Written;
use super::{Writer, last_number};
use crate::journal::JournalError;
use crate::journal::command::{Housekeeping, Moved, Reclaimed, Trim};
use crate::journal::format::chunk::{self, Bodies, Chunk, Part, Place};
use crate::journal::format::entry::Moment;
use crate::journal::index::Page;
use crate::journal::machine::{Machine, StateReader};
use crate::journal::shared::log_ends;
use crate::journal::store::{StoreBatch, keys};
use crate::model::{Log, Sequence, StreamId};

impl<M: Machine> Writer<M> {
    /// Does a piece of housekeeping and answers.
    pub(super) fn housekeep(
        &mut self,
        work: Housekeeping,
        reply: oneshot::Sender<Result<(), JournalError>>,
    ) -> Result<(), JournalError> {
        if matches!(work, Housekeeping::Floor(..))
            && self.shared.backups.load(Ordering::Acquire) > 0
        {
            // The copy's pages may point below the floor.
            let _ = reply.send(Err(JournalError::Held));
            return Ok(());
        }
        let done = match work {
            Housekeeping::Trim(trims) => self.trim(trims),
            Housekeeping::Move(moved) => self.move_blocks(moved),
            Housekeeping::Sweep => self.sweep(),
            Housekeeping::WriteTails => self.write_tails(false),
            Housekeeping::Reclaim(reclaimed) => {
                self.write_alone(false, |batch, _| put_reclaimed(batch, &reclaimed))
            }
            Housekeeping::Floor(log, floor, forgotten) => {
                // Keys below it are removed with a flush of the log's memtable.
                self.space.make_room_to_write(self.shared.store.unflushed_bytes());
                self.positions.log_mut(log).floor_sequence = floor.0;
                // A drop can't be undone, so it has to be durable, with everything before it.
                self.write_alone(true, |batch, _| {
                    forgotten.iter().for_each(|owner| batch.remove_state(&keys::deleted(*owner)));
                })
            }
            Housekeeping::NoteAge => self.write_alone(false, |_, _| {}),
        };
        // A requester that has gone needs no answer.
        let _ = reply.send(done.clone());
        done
    }

    fn write_alone(
        &mut self,
        sync: bool,
        fill: impl FnOnce(&mut StoreBatch<'_>, &mut [Sequence; 2]),
    ) -> Result<(), JournalError> {
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        let mut ends = log_ends(&self.positions);
        fill(&mut batch, &mut ends);
        let indexed = self.first_unpaged();
        self.write(batch, ends, indexed, sync)
    }

    fn trim(&mut self, mut trims: Vec<Trim>) -> Result<(), JournalError> {
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        let mut written = Written::default();
        self.put_trims(&mut trims, &mut batch, &mut written);
        written.put_into(&mut batch);
        let (ends, indexed) = (log_ends(&self.positions), self.first_unpaged());
        self.write(batch, ends, indexed, false)?;
        self.trimmed(&trims);
        self.machine.committed();
        Ok(())
    }

    /// Has the machine sweep idle state.
    fn sweep(&mut self) -> Result<(), JournalError> {
        let mut commit = Gathered::new(self.now(), 0);
        let mut unit = self.take_unit();
        let (state, streams) = (StateReader(&self.shared.store), &self.streams);
        let last = |stream: StreamId| last_number(streams, stream);
        self.machine.sweep(&commit.now, state, &last, &mut unit);
        let swept = !unit.is_empty();
        self.take(&mut unit, &mut commit)?;
        self.put_back_unit(unit);
        if swept { self.commit(commit) } else { Ok(()) }
    }

    fn move_blocks(&mut self, mut moved: Vec<Moved>) -> Result<(), JournalError> {
        // A stream may have been deleted meanwhile; its blocks must not come back.
        moved.retain(|moved| self.streams.contains_key(&moved.stream));
        if moved.is_empty() {
            return Ok(());
        }
        let mut ends = log_ends(&self.positions);
        let end = &mut ends[Log::Blocks as usize];
        let place = Place { log: Log::Blocks, sequence: *end };
        *end = end.next();
        let chunk = encode_again(place, self.positions.commits + 1, &moved);
        let store = self.shared.store.clone();
        let mut batch = store.batch();
        self.put_moved(&mut batch, &chunk, &moved)?;
        let indexed = self.first_unpaged();
        self.write(batch, ends, indexed, false)?;
        let mut usage = self.shared.log(Log::Blocks).lock_usage();
        moved.iter().for_each(|moved| usage.remove(moved.entry.sequence, moved.entry.weight()));
        let weight = chunk.entries.iter().map(|(_, now)| now.weight()).sum();
        usage.add(chunk.place.sequence, weight);
        Ok(())
    }

    /// The moved blocks, and their pages after the move.
    fn put_moved(
        &self,
        batch: &mut StoreBatch<'_>,
        chunk: &Chunk,
        moved: &[Moved],
    ) -> Result<(), JournalError> {
        batch.put_chunk(chunk.place, chunk.value.clone());
        let mut page: Option<(usize, Page)> = None;
        for (n, ((_, now), Moved { stream, page: start, .. })) in
            chunk.entries.iter().zip(moved).enumerate()
        {
            let same = page
                .as_ref()
                .is_some_and(|(at, _)| (moved[*at].stream, moved[*at].page) == (*stream, *start));
            if !same {
                if let Some((at, page)) = page.take() {
                    batch.put_page(moved[at].stream, &page);
                }
                page = self.shared.store.page(*stream, *start)?.map(|page| (n, page));
            }
            let Some((_, page)) = &mut page else { continue };
            if let Some(entry) = page.entries.iter_mut().find(|entry| entry.is_block(now)) {
                *entry = *now;
            }
        }
        if let Some((at, page)) = page {
            batch.put_page(moved[at].stream, &page);
        }
        Ok(())
    }
}

/// Stored blocks, in order, as a chunk at another position: only their positions are new.
fn encode_again(place: Place, commit: u64, moved: &[Moved]) -> Chunk {
    let moment = moved.first().map_or(Moment::default(), |first| Moment {
        published_at: first.header.published_at,
        age_ms: first.header.age_ms,
    });
    let parts: Vec<_> = moved.iter().map(Moved::part).collect();
    chunk::encode(place, commit, moment, &parts)
}

impl Moved {
    fn part(&self) -> Part<'_> {
        let bodies = Bodies::Stored(&self.body, self.entry.crc);
        Part { stream: self.stream, header: &self.header, bodies }
    }
}

fn put_reclaimed(batch: &mut StoreBatch<'_>, reclaimed: &[Reclaimed]) {
    for Reclaimed { stream, pages, keys } in reclaimed {
        pages.iter().for_each(|page| batch.remove_page(*stream, *page));
        keys.iter().for_each(|key| batch.remove_state(key));
    }
}
