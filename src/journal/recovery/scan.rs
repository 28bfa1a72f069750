//! Reading chunks again: the tails that no page knows, and what is missing between them.

use std::collections::HashMap;

use bytes::Bytes;

use super::RecoveredTopic;
use crate::journal::JournalError;
use crate::journal::chunk::{self, DirectoryEntry};
use crate::journal::index::NoMessage;
use crate::journal::page::PAGE_ENTRIES;
use crate::journal::positions::Positions;
use crate::journal::roster::Listed;
use crate::journal::salvage::Hole;
use crate::journal::store::Store;
use crate::model::{Epoch, Gap, MessageIdKey, Record, Sequence, TopicId, TopicName};

/// Chunks after which progress is logged.
const PROGRESS_CHUNKS: u64 = 100_000;

/// See the module.
pub(super) struct Scan<'a> {
    pub(super) store: &'a Store,
    pub(super) topics: &'a mut HashMap<TopicId, RecoveredTopic>,
    pub(super) deleted: &'a HashMap<TopicId, Sequence>,
    pub(super) roster: &'a [Listed],
    pub(super) message_ids: MessageIdKey,
    pub(super) positions: &'a mut Positions,
    /// Chunks that are missing or unreadable.
    pub(super) lost: Lost,
    /// Where each topic's last block was seen.
    pub(super) last_seen: HashMap<TopicId, Sequence>,
    /// Where topics ended by pages that are not built on.
    pub(super) known_end: HashMap<TopicId, u64>,
}

/// Which chunks are lost.
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

impl Scan<'_> {
    /// Lets every topic continue after its last page; where there are holes, after the last one up to
    /// which nothing is missing, since a page may have gone with a hole. What such a page knew is
    /// read again from chunks: it was in none of the pages before the hole.
    pub(super) fn resume(&mut self, holes: &[Hole]) -> Result<(), JournalError> {
        let before = |hole: &Hole| hole.before.map_or(0, |before| before.indexed_sequence);
        if let Some(from) = holes.iter().map(before).min() {
            // The floor, too, may have been raised by a commit that is gone.
            let first = self.store.first_sequence()?.map_or(0, |first| first.0);
            let from = from.max(self.positions.floor_sequence).max(first);
            self.positions.indexed_sequence = self.positions.indexed_sequence.min(from);
        }
        for (id, topic) in self.topics.iter_mut() {
            if holes.is_empty() {
                if let Some(page) = self.store.pages_from(*id, 0).next_back() {
                    topic.index.resume_after(&page?);
                }
                topic.begin_head();
                continue;
            }
            topic.begin_head();
            let mut follows = true;
            for page in self.store.pages_from(*id, 0) {
                let page = page?;
                let (Some(first), Some(last)) = (page.entries.first(), page.entries.last()) else {
                    continue;
                };
                self.last_seen.insert(*id, last.sequence);
                follows = follows && first.base_offset <= topic.next_readable();
                if follows {
                    topic.index.resume_after(&page);
                    topic.begin_head();
                } else {
                    // Not to be built on, but it knows what there was.
                    topic.stale_pages.insert(first.base_offset);
                    self.known_end.insert(*id, last.end_offset());
                }
            }
        }
        Ok(())
    }

    /// Reads the chunks from `indexed_sequence` to the end.
    pub(super) fn run(&mut self) -> Result<(), JournalError> {
        let (from, to) = (self.positions.indexed_sequence, self.positions.next_sequence);
        for n in from..to {
            if n % PROGRESS_CHUNKS == PROGRESS_CHUNKS - 1 {
                tracing::info!(chunk = n, of = to, "reading the journal again");
            }
            let sequence = Sequence(n);
            let chunk = self.store.chunk(sequence).ok().flatten();
            let directory = chunk.as_ref().and_then(|c| chunk::directory(sequence, c).ok());
            let (Some(chunk), Some(directory)) = (chunk, directory) else {
                self.lost.add(sequence);
                continue;
            };
            for found in directory {
                self.take(&chunk, &found)?;
            }
        }
        for (id, known_end) in &self.known_end {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            topic.expect_at(*known_end);
        }
        self.topics.values_mut().for_each(RecoveredTopic::settle_head);
        Ok(())
    }

    fn take(&mut self, chunk: &Bytes, found: &DirectoryEntry) -> Result<(), JournalError> {
        let DirectoryEntry { topic: id, entry } = *found;
        if !self.topics.contains_key(&id) {
            if self.deleted.contains_key(&id) {
                return Ok(());
            }
            self.adopt(id, entry.epoch);
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let seen = self.last_seen.entry(id).or_insert(entry.sequence);
        *seen = entry.sequence.max(*seen);
        let readable = chunk::verify(chunk, &entry).is_ok();
        if entry.end_offset() <= topic.index.head {
            // Known by a page.
            return Ok(());
        }
        topic.expect_at(entry.base_offset);
        if topic.index.tail.len() >= PAGE_ENTRIES {
            self.write_page(id)?;
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        if !topic.index.push(entry) {
            return Err(JournalError::Damaged {
                sequence: entry.sequence,
                what: "a block overlaps its topic's last one",
            });
        }
        if readable {
            topic.enter_ids(&self.message_ids, id, chunk, found);
        } else if let Some(gap) = Gap::before(entry.base_offset, entry.end_offset()) {
            topic.damaged(gap);
        }
        Ok(())
    }

    /// A topic whose record is lost, but not its messages.
    fn adopt(&mut self, id: TopicId, epoch: Epoch) {
        let listed = self.roster.iter().find(|listed| listed.id == id);
        let name = match listed {
            Some(listed) => Ok(listed.name.clone()),
            None => TopicName::new(&format!("recovered-{id}")),
        };
        let Ok(name) = name else { return };
        self.positions.next_topic_id = self.positions.next_topic_id.max(id.0 + 1);
        self.topics.insert(id, RecoveredTopic::adopted(id, name, epoch));
    }

    /// Writes a tail out that has grown to a page; only a scan from far back gets here.
    fn write_page(&mut self, id: TopicId) -> Result<(), JournalError> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let Some(page) = topic.index.page() else { return Ok(()) };
        let mut batch = self.store.batch();
        topic.put_page_anew(&mut batch, &page);
        self.positions.commits += 1;
        batch.put_positions(*self.positions);
        batch.commit(false)?;
        topic.index.tail.clear();
        Ok(())
    }
}

impl RecoveredTopic {
    /// The first offset from the head on that is not known to hold no message.
    fn next_readable(&self) -> u64 {
        let mut next = self.index.head;
        while let Some(NoMessage::Gap(gap) | NoMessage::Damage(gap)) =
            self.index.no_message_at(next)
        {
            next = gap.end();
        }
        next
    }

    /// The next block begins here: what is missing before it was announced, or is damage.
    fn expect_at(&mut self, offset: u64) {
        if let Some(missing) = Gap::before(self.next_readable(), offset) {
            self.damaged(missing);
        }
        self.index.skip_to(offset);
    }

    pub(super) fn damaged(&mut self, gap: Gap) {
        let (topic, from, to) = (&self.record.name, gap.from, gap.to);
        tracing::error!(%topic, from, to, "messages are damaged; the topic is quarantined");
        self.record.add_damage(gap);
        self.index.damage = self.record.certain_damage();
        self.changed = true;
    }

    fn enter_ids(
        &mut self,
        key: &MessageIdKey,
        topic: TopicId,
        chunk: &Bytes,
        found: &DirectoryEntry,
    ) {
        let block = chunk::block(topic, chunk, &found.entry);
        for (offset, record) in block.records().filter_map(Result::ok) {
            if let Record { message_id: Some(id), payload, .. } = record {
                let print = key.fingerprint(id, payload);
                self.dedup.enter(print, offset, found.entry.age_ms);
            }
        }
    }
}
