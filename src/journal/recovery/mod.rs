//! Finding the journal's state: streams, their ends, the tails that are in no page, and losses.
//!
//! Normally this is short: one pass over the small state, which holds each stream's extent, and the
//! directories of the few chunks after `indexed_sequence`, in the order of their commits. Where
//! `salvage` found holes, the chunks are read again from before the first of them, and what is
//! missing is reported to the machine ([`Findings`]), which knows what it means.
//!
//! Invariants: findings are committed and synced before anything is served; a chunk that does not
//! match its checksums is never served; memory is bounded by the tails (a page a stream).

mod scan;

use std::collections::{BTreeMap, HashMap};

use super::JournalError;
use super::format::positions::Positions;
use super::index::{Extent, Page, PageStart, StreamIndex};
use super::machine::{Findings, Machine, Suspect};
use super::reclaim::Deleted;
use super::salvage::{Hole, Salvaged};
use super::state;
use super::store::Store;
use super::store::keys::{self, KeyKind};
use super::watermark::Marks;
use crate::model::{Gap, Log, OwnerId, StreamId};
use scan::Scan;

/// The most messages one commit can hold: a full one and one more block of the largest frame.
const COMMIT_MESSAGES_MAX: u64 = 102_000;
/// Offsets that a stream skips when the loss of an import at its end can't be known.
const IMPORT_SUSPECT_OFFSETS: u64 = 1 << 20;

/// The journal's content.
pub(super) struct Recovered {
    pub(super) streams: Vec<(StreamId, StreamIndex)>,
    /// Deleted owners that chunks may still hold blocks of.
    pub(super) deleted: HashMap<OwnerId, Deleted>,
    pub(super) positions: Positions,
    pub(super) findings: Findings,
    /// Something was missing or could not be kept in memory: the findings have to be written.
    pub(super) examined: bool,
    /// Pages that are not to be built on.
    pub(super) stale_pages: Vec<(StreamId, PageStart)>,
}

/// What is known of a stream.
#[derive(Default)]
pub(super) struct RecoveredStream {
    pub(super) index: StreamIndex,
    /// Offsets that are newly found to be missing or unreadable.
    missing: Vec<Gap>,
    /// Offsets that its owner knows to hold no message.
    holes: Vec<Gap>,
    /// Pages that are not to be built on.
    stale_pages: BTreeMap<PageStart, ()>,
}

/// The small state's content.
struct Loaded {
    streams: HashMap<StreamId, RecoveredStream>,
    deleted: HashMap<OwnerId, Deleted>,
    /// What an import could not read.
    imported: Option<keys::ImportFindings>,
}

pub(super) fn recover<M: Machine>(
    store: &Store,
    machine: &mut M,
    salvaged: &Salvaged,
    marks: &Marks,
    complete: bool,
) -> Result<Recovered, JournalError> {
    let mut positions = store.positions()?;
    let holes = open_holes(salvaged, &positions);
    let new = positions.commits <= 1;
    let mut loaded = load(store, machine)?;
    let commits_found = positions.commits;
    positions.commits = positions.commits.max(salvaged.durable_commits);
    // Everything found is durable by now: salvage has synced what may not have been.
    positions.durable_commits = positions.commits;
    positions.next_owner = positions.next_owner.max(marks.next_owner());
    for log in Log::ALL {
        let of_log = positions.log_mut(log);
        if salvaged.durable_commits > commits_found {
            let known = marks.next_sequences()[log as usize];
            of_log.next_sequence = of_log.next_sequence.max(known);
        }
        if !holes.is_empty()
            && let Some(last) = store.last_sequence(log)?
        {
            // Tables may hold what the WAL has lost, the positions among it.
            of_log.next_sequence = of_log.next_sequence.max(last.next().0);
        }
    }
    let mut scan = Scan::new(store, machine, &mut loaded.streams, &loaded.deleted, &mut positions);
    scan.resume(&holes)?;
    scan.run()?;
    let (lost, last_seen, paged) = scan.finish();
    let mut findings = Findings { complete, new, damaged: !holes.is_empty(), ..Default::default() };
    let hidden: u64 = holes.iter().map(|hole| hole.commits.end() - hole.commits.start() + 1).sum();
    findings.suspect = lost.map(|lost| {
        let (first, last) = lost.ends?;
        let messages_max = hidden.max(lost.count).saturating_mul(COMMIT_MESSAGES_MAX).min(1 << 40);
        let sequences = [first.0, last.0];
        Some(Suspect { sequences, messages_max, last_seen: last_seen.clone() })
    });
    let Loaded { mut streams, deleted, imported } = loaded;
    let examined = !holes.is_empty() || imported.is_some() || paged;
    if let Some((missing, unreadable)) = imported {
        findings.copied = true;
        take_imported(&mut findings, &mut streams, missing, unreadable);
    }
    let mut recovered = Recovered {
        streams: Vec::with_capacity(streams.len()),
        deleted,
        positions,
        findings,
        examined,
        stale_pages: Vec::new(),
    };
    for (id, stream) in streams {
        recovered.stale_pages.extend(stream.stale_pages.into_keys().map(|page| (id, page)));
        if !stream.missing.is_empty() {
            recovered.findings.missing.insert(id, stream.missing);
        }
        let last_time = recovered.positions.last_time.max(stream.index.extent.last_time);
        recovered.positions.last_time = last_time;
        recovered.streams.push((id, stream.index));
    }
    recovered.examined |= !recovered.findings.missing.is_empty();
    Ok(recovered)
}

/// The holes that no earlier start has dealt with.
fn open_holes(salvaged: &Salvaged, positions: &Positions) -> Vec<Hole> {
    let mut holes = salvaged.holes.clone();
    let told = holes.last().map_or(0, |hole| *hole.commits.end()).max(positions.commits);
    if told < salvaged.durable_commits {
        let commits = told + 1..=salvaged.durable_commits;
        holes.push(Hole { commits, before: Some(*positions) });
    }
    holes.retain(|hole| *hole.commits.end() > positions.examined_commits);
    holes
}

/// Reads all small state, once.
fn load<M: Machine>(store: &Store, machine: &mut M) -> Result<Loaded, JournalError> {
    let (streams, deleted) = (HashMap::new(), HashMap::new());
    let mut loaded = Loaded { streams, deleted, imported: None };
    for item in store.small_state() {
        let (key, sealed) = item?;
        let kind = keys::kind(&key);
        // The journal's own keys come first, so deletions are known before what they delete.
        if kind == KeyKind::Own || loaded.deleted.contains_key(&key.owner()) {
            continue;
        }
        let value = state::open(&key, &sealed)?;
        match kind {
            KeyKind::Own => {}
            KeyKind::Extent(stream) => {
                let malformed = || JournalError::Metadata(format!("{key:?} is malformed"));
                let extent = Extent::decode(&value).ok_or_else(malformed)?;
                let index = StreamIndex { extent, ..StreamIndex::default() };
                loaded.streams.insert(stream, RecoveredStream { index, ..Default::default() });
            }
            KeyKind::Deleted(owner) => {
                loaded.deleted.insert(owner, Deleted::earlier(keys::decode_ends(&value)));
            }
            KeyKind::Findings => loaded.imported = Some(keys::decode_findings(&value)),
            KeyKind::State => machine.load(key, value)?,
        }
    }
    Ok(loaded)
}

/// Takes over the losses of an import.
fn take_imported(
    findings: &mut Findings,
    streams: &mut HashMap<StreamId, RecoveredStream>,
    missing: Vec<(StreamId, Gap)>,
    unreadable: Option<[u64; 2]>,
) {
    for (stream, gap) in missing {
        if let Some(stream) = streams.get_mut(&stream) {
            stream.miss(gap);
        }
    }
    if let Some(sequences) = unreadable {
        let (messages_max, last_seen) = (IMPORT_SUSPECT_OFFSETS, HashMap::new());
        findings.suspect[Log::Blocks as usize] =
            Some(Suspect { sequences, messages_max, last_seen });
    }
}

impl RecoveredStream {
    /// These offsets are missing, but for those that are known to hold nothing.
    fn miss(&mut self, gap: Gap) {
        self.holes.sort_unstable();
        gap.without(&self.holes).into_iter().for_each(|gap| gap.add_to(&mut self.missing));
    }

    /// The first offset from the head on that is not known to hold no message.
    fn next_readable(&self) -> u64 {
        let mut next = self.index.extent.head;
        while let Some(hole) = self.holes.iter().find(|hole| hole.contains(next)) {
            next = hole.end();
        }
        next
    }

    /// The head is not before the low watermark: blocks may have been removed before any page had
    /// them.
    fn begin_head(&mut self) {
        let extent = &mut self.index.extent;
        extent.head = extent.head.max(extent.first);
        extent.bytes = extent.bytes.max(extent.bytes_before_first);
    }

    /// Forgets the stale pages that this page's offsets reach.
    fn replaced_by(&mut self, page: &Page) -> Vec<PageStart> {
        let Some(last) = page.entries.last() else { return Vec::new() };
        let after = self.stale_pages.split_off(&PageStart::at(last.end_offset()));
        let gone = std::mem::replace(&mut self.stale_pages, after);
        gone.into_keys().filter(|start| Some(*start) != page.start()).collect()
    }
}
