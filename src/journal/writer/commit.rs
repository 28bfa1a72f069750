//! One commit in the making, and what becomes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::catalogue::WriterTopic;
use super::named::LastId;
use super::packer::Packer;
use crate::journal::command::Answer;
use crate::journal::shared::TopicState;
use crate::journal::store::StoreBatch;
use crate::journal::{AppendError, JournalError, TopicRecord};
use crate::model::{AckLevel, Sequence, TopicId, TopicName};

/// Offsets a topic that may lose some reserves at a time (DESIGN §1).
const RESERVED_OFFSETS: u64 = 65_536;

/// A topic that is deleted.
pub(super) struct Removed {
    pub(super) id: TopicId,
    pub(super) name: TopicName,
    pub(super) state: Arc<TopicState>,
}

/// See the module. Every key is in here once: fjall takes no two values of one key in a batch.
#[derive(Default)]
pub(super) struct Commit {
    pub(super) packer: Packer,
    pub(super) messages: u64,
    pub(super) bytes: usize,
    pub(super) age_ms: u64,
    /// Why no messages can be taken.
    pub(super) full: Option<AppendError>,
    /// It must be on the disk before anybody is answered.
    pub(super) sync: bool,
    /// It must be on the disk within this time.
    pub(super) sync_within: Option<Duration>,
    pub(super) topics_put: BTreeMap<TopicId, TopicRecord>,
    pub(super) topics_removed: Vec<Removed>,
    /// `None` forgets the name.
    pub(super) producers: HashMap<(TopicId, Arc<str>), Option<LastId>>,
    /// Pieces of dedup windows that are of no use any more.
    pub(super) useless_ids: Vec<(TopicId, u64)>,
    pub(super) answers: Vec<Answer>,
    pub(super) stop: Option<oneshot::Sender<Result<(), JournalError>>>,
}

impl Commit {
    /// Nothing has to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
            && self.topics_put.is_empty()
            && self.topics_removed.is_empty()
            && self.producers.is_empty()
            && self.useless_ids.is_empty()
    }

    /// Asks for the safety that a topic's messages are promised, offsets included.
    pub(super) fn secure(&mut self, known: &mut WriterTopic) {
        let settings = known.record.settings;
        match settings.ack_level {
            AckLevel::Sync => self.sync = true,
            AckLevel::Os => {
                let within = Duration::from_millis(settings.sync_interval_ms);
                let sooner = self.sync_within.map_or(within, |other| other.min(within));
                self.sync_within = Some(sooner);
                if known.next_offset > known.record.reserved {
                    // Only what is durably reserved may be given out without a sync.
                    known.record.reserved = known.next_offset + RESERVED_OFFSETS;
                    self.topics_put.insert(known.record.id, known.record.clone());
                    self.sync = true;
                }
            }
        }
    }

    /// Forgets what was to be written for a topic that is deleted.
    pub(super) fn remove_topic(&mut self, removed: Removed) {
        let topic = removed.id;
        self.topics_put.remove(&topic);
        self.producers.retain(|(of, _), _| *of != topic);
        self.topics_removed.push(removed);
    }

    /// Puts everything but chunks, pages and positions into the batch.
    pub(super) fn fill(&self, batch: &mut StoreBatch<'_>, next_sequence: Sequence) {
        for record in self.topics_put.values() {
            batch.put_topic(record);
        }
        for removed in &self.topics_removed {
            batch.remove_topic(removed.id, next_sequence);
        }
        for ((topic, name), last) in &self.producers {
            match last {
                Some(last) => batch.put_producer(*topic, name, &last.encode()),
                None => batch.remove_producer(*topic, name),
            }
        }
        for (topic, number) in &self.useless_ids {
            batch.remove_ids(*topic, *number);
        }
    }
}
