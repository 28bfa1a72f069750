//! Reading chunks again: the tails that are in no page, and what is missing between them.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::RecoveredStream;
use crate::journal::JournalError;
use crate::journal::format::chunk::{self, Directory, Found, Place};
use crate::journal::format::positions::Positions;
use crate::journal::index::{PAGE_ENTRIES, PageStart, StreamIndex};
use crate::journal::machine::Machine;
use crate::journal::reclaim::Deleted;
use crate::journal::salvage::Hole;
use crate::journal::store::Store;
use crate::model::{BlockHeader, BlockKind, Gap, Log, OwnerId, Sequence, StreamId};

/// Chunks after which progress is logged.
const PROGRESS_CHUNKS: u64 = 100_000;

/// See the module.
pub(super) struct Scan<'a, M> {
    store: &'a Store,
    machine: &'a mut M,
    streams: &'a mut HashMap<StreamId, RecoveredStream>,
    deleted: &'a HashMap<OwnerId, Deleted>,
    positions: &'a mut Positions,
    /// By log: chunks that are missing or unreadable.
    lost: [Lost; 2],
    /// The last known position of each stream.
    last_seen: HashMap<StreamId, Sequence>,
    /// Streams that no owner has described yet.
    orphans: HashSet<StreamId>,
    /// Pages were written that their streams' extents don't cover yet.
    paged: bool,
    /// Where streams ended by pages that are not built on: offset and block number.
    known_end: HashMap<StreamId, (u64, u64)>,
}

/// Which chunks of a log are lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// The first and the last one.
    pub(super) ends: Option<(Sequence, Sequence)>,
    pub(super) count: u64,
}

impl Lost {
    fn add(&mut self, sequence: Sequence) {
        let first = self.ends.map_or(sequence, |(first, _)| first);
        self.ends = Some((first, sequence));
        self.count += 1;
    }
}

/// A chunk with an intact directory.
struct Read {
    chunk: Bytes,
    directory: Directory,
}

impl<'a, M: Machine> Scan<'a, M> {
    pub(super) fn new(
        store: &'a Store,
        machine: &'a mut M,
        streams: &'a mut HashMap<StreamId, RecoveredStream>,
        deleted: &'a HashMap<OwnerId, Deleted>,
        positions: &'a mut Positions,
    ) -> Self {
        let (last_seen, known_end) = (HashMap::new(), HashMap::new());
        let (lost, orphans) = (Default::default(), HashSet::new());
        let paged = false;
        Self {
            store,
            machine,
            streams,
            deleted,
            positions,
            lost,
            last_seen,
            orphans,
            paged,
            known_end,
        }
    }

    /// Losses by log, the last known position of each stream, and whether tails have to be written
    /// before anything else.
    pub(super) fn finish(self) -> ([Lost; 2], HashMap<StreamId, Sequence>, bool) {
        (self.lost, self.last_seen, self.paged)
    }

    /// Lets every stream continue at the end of its extent; where there are holes, after the last
    /// page up to which nothing is missing, since a page may have been lost in a hole. The entries
    /// of such a page are read again from chunks: they were in none of the pages before the hole.
    pub(super) fn resume(&mut self, holes: &[Hole]) -> Result<(), JournalError> {
        for (id, stream) in self.streams.iter_mut() {
            let known = self.machine.known(*id);
            if !known.owned {
                self.orphans.insert(*id);
            }
            stream.holes = known.holes;
            stream.begin_head();
        }
        if holes.is_empty() {
            return Ok(());
        }
        for log in Log::ALL {
            let before = |hole: &Hole| hole.before.map_or(0, |at| at.log(log).indexed_sequence);
            // The floor, too, may have been raised by a commit that is lost.
            let first = self.store.first_sequence(log)?.map_or(0, |first| first.0);
            let of_log = self.positions.log_mut(log);
            let from = holes.iter().map(before).min().unwrap_or(0);
            let from = from.max(of_log.floor_sequence).max(first);
            of_log.indexed_sequence = of_log.indexed_sequence.min(from);
        }
        for (id, stream) in self.streams.iter_mut() {
            let written = stream.index.extent;
            let extent = &mut stream.index.extent;
            (extent.head, extent.number, extent.bytes) = (0, 0, 0);
            let mut ingest_head = 0;
            stream.begin_head();
            let mut follows = true;
            for page in self.store.pages_from(*id, PageStart::at(0)) {
                let page = page?;
                let (Some(first), Some(last)) = (page.entries.first(), page.entries.last()) else {
                    continue;
                };
                self.last_seen.insert(*id, last.sequence);
                follows = follows && first.base_offset <= stream.next_readable();
                if follows {
                    stream.index.resume_after(&page);
                    ingest_head = last.ingest_base + u64::from(last.ingest_count);
                    stream.begin_head();
                } else {
                    // Not to be built on, but it shows what existed.
                    stream.stale_pages.extend(page.start().map(|start| (start, ())));
                    self.known_end.insert(*id, (last.end_offset(), last.number));
                }
            }
            let extent = &stream.index.extent;
            self.machine.rewind(*id, extent.number, extent.head, ingest_head);
            // An extent may be of a commit that survived though pages before it did not.
            let end = self.known_end.entry(*id).or_default();
            *end = (end.0.max(written.head), end.1.max(written.number));
        }
        Ok(())
    }

    /// Reads the chunks of both logs from `indexed_sequence` to their ends, in the order of
    /// commits; within a commit those of `short` first.
    pub(super) fn run(&mut self) -> Result<(), JournalError> {
        let mut next = Log::ALL.map(|log| self.positions.log(log).indexed_sequence);
        let mut ahead: [Option<Read>; 2] = [None, None];
        loop {
            for log in Log::ALL {
                while ahead[log as usize].is_none() && next[log as usize] < self.end(log) {
                    ahead[log as usize] = self.read(log, next[log as usize])?;
                    next[log as usize] += 1;
                }
            }
            let commit = |log: Log| ahead[log as usize].as_ref().map(|read| read.directory.commit);
            let log = match (commit(Log::Blocks), commit(Log::Short)) {
                (None, None) => break,
                (Some(blocks), Some(short)) if blocks < short => Log::Blocks,
                (Some(_), None) => Log::Blocks,
                _ => Log::Short,
            };
            let Some(Read { chunk, directory }) = ahead[log as usize].take() else { break };
            for found in directory.blocks {
                self.take(log, &chunk, &found)?;
            }
        }
        for (id, (head, number)) in &self.known_end {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            stream.expect_at(*head, *number + 1);
        }
        for id in std::mem::take(&mut self.orphans) {
            self.machine.adopt(id, &BlockHeader::default());
        }
        for (id, stream) in self.streams.iter_mut() {
            // The head is not before offsets that were given up at the end.
            let number = stream.index.extent.number;
            stream.index.skip_to(self.machine.known(*id).head, number);
        }
        Ok(())
    }

    fn end(&self, log: Log) -> u64 {
        self.positions.log(log).next_sequence
    }

    /// A chunk with an intact directory; else it is lost.
    fn read(&mut self, log: Log, n: u64) -> Result<Option<Read>, JournalError> {
        if n % PROGRESS_CHUNKS == PROGRESS_CHUNKS - 1 {
            tracing::info!(chunk = n, of = self.end(log), "reading the journal again");
        }
        let place = Place { log, sequence: Sequence(n) };
        let Some(chunk) = self.store.chunk(place).ok().flatten() else {
            self.lost[log as usize].add(place.sequence);
            return Ok(None);
        };
        match chunk::directory(place, &chunk) {
            Ok(directory) => Ok(Some(Read { chunk, directory })),
            Err(chunk::Unreadable::LaterVersion(what)) => {
                Err(JournalError::LaterVersion(format!("sequence {n}: {what}")))
            }
            Err(chunk::Unreadable::Damaged(_)) => {
                self.lost[log as usize].add(place.sequence);
                Ok(None)
            }
        }
    }

    fn take(&mut self, log: Log, chunk: &Bytes, found: &Found) -> Result<(), JournalError> {
        let Found { stream: id, header, entry } = found;
        if !self.streams.contains_key(id) {
            if self.deleted.contains_key(&OwnerId::from(*id)) {
                return Ok(());
            }
            let known = self.machine.known(*id);
            if !known.owned {
                self.machine.adopt(*id, header);
            }
            self.positions.next_owner = self.positions.next_owner.max(id.0 + 1);
            let (index, holes) = (StreamIndex::new(log), known.holes);
            self.streams.insert(*id, RecoveredStream { index, holes, ..Default::default() });
        }
        if self.orphans.remove(id) {
            self.machine.adopt(*id, header);
        }
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        let seen = self.last_seen.entry(*id).or_insert(entry.sequence);
        *seen = entry.sequence.max(*seen);
        if entry.number <= stream.index.extent.number {
            // Known by a page; the machine may still need to be notified.
            return self.machine.replay(*id, header);
        }
        let readable = chunk::verify(chunk, entry).is_ok();
        let gives_up = matches!(entry.kind, BlockKind::Gap | BlockKind::Epoch);
        if gives_up && let Some(gap) = header.extras.as_ref().and_then(|extras| extras.gap) {
            gap.add_to(&mut stream.holes);
        }
        stream.expect_at(entry.base_offset, entry.number);
        if stream.index.tail.len() >= PAGE_ENTRIES {
            self.write_page(*id)?;
        }
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        if !stream.index.push(*entry) {
            return Err(JournalError::Damaged {
                sequence: entry.sequence,
                what: "a block overlaps its stream's last one",
            });
        }
        if !readable && let Some(gap) = Gap::before(entry.base_offset, entry.end_offset()) {
            stream.miss(gap);
        }
        self.machine.replay(*id, header)
    }

    /// Writes a tail out that has grown to a page; only a scan from far back gets here.
    fn write_page(&mut self, id: StreamId) -> Result<(), JournalError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let mut batch = self.store.batch();
        if let Some(page) = stream.index.page() {
            for stale in stream.replaced_by(&page) {
                batch.remove_page(id, stale);
            }
            batch.put_page(id, &page);
        }
        self.positions.commits += 1;
        batch.put_positions(self.positions);
        batch.commit(false)?;
        self.paged = true;
        stream.index.tail.clear();
        Ok(())
    }
}

impl RecoveredStream {
    /// The next block begins here: a hole before it was announced, or is damage.
    fn expect_at(&mut self, offset: u64, number: u64) {
        if let Some(missing) = Gap::before(self.next_readable(), offset) {
            self.miss(missing);
        }
        self.index.skip_to(offset, number.saturating_sub(1));
    }
}
