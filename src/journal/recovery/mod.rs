//! Finding out where the journal stands: topics, heads, the tails that no page knows, and what is
//! lost.
//!
//! Mostly there is nothing to it: topic records, each topic's last page, and the directories of
//! the few chunks after `indexed_sequence`. Where `salvage` found holes, the chunks are read again
//! from before the first of them, and what is missing is put down to topics (`damage`): they are
//! quarantined with the exact offsets, or as suspects where the damage hides whose they were. A
//! start after which something acknowledged may have been lost (`os` topics, power gone) begins a
//! new epoch at the offset reserved before, and the gap is announced.
//!
//! Invariants: what is found out is committed and synced before anything is served; a chunk that
//! does not match its checksums is never served; memory is bounded by the tails (a page a topic).

mod damage;
mod scan;

use std::collections::{BTreeSet, HashMap};

use super::index::TopicIndex;
use super::page::Page;
use super::positions::Positions;
use super::roster::Listed;
use super::salvage::{Hole, Salvaged};
use super::store::{Store, StoreBatch};
use super::writer::dedup::DedupWindow;
use super::{JournalError, TopicRecord};
use crate::model::{
    AckLevel, Epoch, Gap, MessageIdKey, Sequence, TopicId, TopicName, TopicSettings,
};
use scan::{Lost, Scan};

/// What stands in the journal.
pub(super) struct Recovered {
    pub(super) topics: Vec<RecoveredTopic>,
    /// Deleted topics that chunks may still hold blocks of, with the sequence after the last one.
    pub(super) deleted: HashMap<TopicId, Sequence>,
    pub(super) positions: Positions,
}

/// One topic.
pub(super) struct RecoveredTopic {
    pub(super) record: TopicRecord,
    pub(super) index: TopicIndex,
    pub(super) dedup: DedupWindow,
    /// Its record must be written.
    changed: bool,
    /// First offsets of pages that are not to be built on.
    stale_pages: BTreeSet<u64>,
}

/// What is known of the end before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Everything that was written is there.
    pub(super) complete: bool,
    /// The next chunk's sequence, as the watermark file says.
    pub(super) next_sequence: u64,
}

pub(super) fn recover(
    store: &Store,
    salvaged: &Salvaged,
    ending: Ending,
    roster: &[Listed],
) -> Result<Recovered, JournalError> {
    let mut positions = store.positions()?;
    let holes = open_holes(salvaged, &positions);
    let mut topics = load_topics(store)?;
    let deleted = store.deleted_topics()?;
    let commits_found = positions.commits;
    positions.commits = positions.commits.max(salvaged.durable_commits);
    // All that was found is durable by now: salvage has synced what may not have been.
    positions.durable_commits = positions.commits;
    if positions.commits > commits_found {
        positions.next_sequence = positions.next_sequence.max(ending.next_sequence);
    }
    if !holes.is_empty()
        && let Some(last) = store.last_sequence()?
    {
        // Tables may hold what the WAL has lost, the positions among it.
        positions.next_sequence = positions.next_sequence.max(last.next().0);
    }
    let mut scan = Scan {
        store,
        topics: &mut topics,
        deleted: &deleted,
        roster,
        message_ids: MessageIdKey::new(store.message_id_secret()?),
        positions: &mut positions,
        lost: Lost::default(),
        last_seen: HashMap::new(),
        known_end: HashMap::new(),
    };
    scan.resume(&holes)?;
    scan.run()?;
    let Scan { lost, last_seen, .. } = scan;
    if !holes.is_empty() {
        damage::adopt_listed(&mut topics, &deleted, roster, &mut positions);
    }
    damage::suspect(&mut topics, lost, &last_seen, &holes);
    if !ending.complete {
        topics.values_mut().for_each(begin_epoch);
    }

    let last_time = topics.values().map(|topic| topic.index.last_time).max().unwrap_or_default();
    positions.last_time = positions.last_time.max(last_time);
    let mut topics: Vec<_> = topics.into_values().collect();
    topics.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    let mut recovered = Recovered { topics, deleted, positions };
    if !holes.is_empty() || recovered.topics.iter().any(|topic| topic.changed) {
        recovered.commit(store)?;
    }
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

fn load_topics(store: &Store) -> Result<HashMap<TopicId, RecoveredTopic>, JournalError> {
    let mut topics = HashMap::new();
    for record in store.topics() {
        let record = record?;
        let topic = RecoveredTopic::load(store, record)?;
        topics.insert(topic.record.id, topic);
    }
    Ok(topics)
}

impl RecoveredTopic {
    /// A topic whose record is lost.
    fn adopted(id: TopicId, name: TopicName, epoch: Epoch) -> Self {
        tracing::error!(topic = %name, "the record of this topic is lost");
        let record = TopicRecord { epoch, ..TopicRecord::new(id, name, TopicSettings::default()) };
        let (index, dedup) = (TopicIndex::default(), DedupWindow::default());
        Self { record, index, dedup, changed: true, stale_pages: BTreeSet::new() }
    }

    fn load(store: &Store, record: TopicRecord) -> Result<Self, JournalError> {
        let low = store.low(record.id)?;
        let mut index = TopicIndex::default();
        index.gaps.clone_from(&record.gaps);
        index.damage = record.certain_damage();
        index.trim(low.first, low.bytes_before);
        let mut dedup = DedupWindow::default();
        for piece in store.ids(record.id) {
            let (number, piece) = piece?;
            if !dedup.restore(number, &piece) {
                let id = record.id;
                return Err(JournalError::Metadata(format!("topic {id}: saved ids are damaged")));
            }
        }
        record.gaps.iter().for_each(|gap| dedup.forget(*gap));
        Ok(Self { record, index, dedup, changed: false, stale_pages: BTreeSet::new() })
    }

    /// Writes a page in place of the stale ones that its offsets reach.
    fn put_page_anew(&mut self, batch: &mut StoreBatch<'_>, page: &Page) {
        let (Some(first), Some(last)) = (page.entries.first(), page.entries.last()) else { return };
        let after = self.stale_pages.split_off(&last.end_offset());
        for stale in std::mem::replace(&mut self.stale_pages, after) {
            if stale != first.base_offset {
                batch.remove_page(self.record.id, stale);
            }
        }
        batch.put_page(self.record.id, page);
    }

    /// The head is not before the low watermark: blocks may have gone before any page knew them.
    fn begin_head(&mut self) {
        self.index.skip_to(self.index.first);
        self.index.bytes = self.index.bytes.max(self.index.bytes_before_first);
    }

    /// Once every block is known: the head is not before what was given up at the end.
    fn settle_head(&mut self) {
        let given_up = self.index.gaps.last().map_or(0, Gap::end);
        self.index.skip_to(given_up);
    }
}

/// Acknowledged messages at the topic's end may have been lost: their offsets are never used
/// again, and everybody is told.
fn begin_epoch(topic: &mut RecoveredTopic) {
    let RecoveredTopic { record, index, changed, .. } = topic;
    let may_lose = record.settings.ack_level == AckLevel::Os;
    let Some(gap) = Gap::before(index.head, record.reserved).filter(|_| may_lose) else { return };
    record.epoch = Epoch(record.epoch.0 + 1);
    gap.add_to(&mut record.gaps);
    index.gaps.clone_from(&record.gaps);
    index.skip_to(gap.end());
    *changed = true;
    let (from, to, epoch) = (gap.from, gap.to, record.epoch.0);
    tracing::warn!(topic = %record.name, from, to, epoch, "acknowledged messages may be lost");
}

impl Recovered {
    /// Writes down what was found out, and every tail, so that it is found out once.
    fn commit(&mut self, store: &Store) -> Result<(), JournalError> {
        let mut batch = store.batch();
        self.positions.commits += 1;
        for topic in &mut self.topics {
            let id = topic.record.id;
            if let Some(page) = topic.index.page() {
                topic.put_page_anew(&mut batch, &page);
                topic.index.tail.clear();
            }
            for stale in std::mem::take(&mut topic.stale_pages) {
                batch.remove_page(id, stale);
            }
            if let Some(piece) = topic.dedup.save(self.positions.commits) {
                batch.put_ids(id, self.positions.commits, &piece);
            }
            if std::mem::take(&mut topic.changed) {
                batch.put_topic(&topic.record);
            }
        }
        self.positions.examined_commits = self.positions.commits;
        self.positions.indexed_sequence = self.positions.next_sequence;
        batch.put_positions(self.positions);
        batch.commit(true)
    }
}
