//! Which topics have their memory of messages loaded, and how much that may take.
//!
//! A topic is warmed when it is asked about ids or producers, and cooled, when there is too much,
//! the longest unasked first: its unsaved memory is saved with one commit, and dropped after it.
//!
//! Invariant: a topic's memory is dropped only after all of it is saved.

use std::collections::HashSet;

use bytes::Bytes;

use super::machine::TopicsMachine;
use super::{fold, state};
use crate::journal::{JournalError, StateReader, Unit};
use crate::model::{StreamId, TopicId};

/// Most topics cooled with one commit.
const COOLING_MAX: usize = 64;

/// The warm topics, and their bytes.
#[derive(Debug, Default)]
pub(super) struct FoldMemory {
    warm: HashSet<TopicId>,
    bytes: usize,
    tick: u64,
    /// Saved with the commit in the making, to be cooled after it.
    cooling: Vec<TopicId>,
}

impl FoldMemory {
    /// A loaded topic remembers more.
    pub(super) fn grown(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Forgets a deleted topic.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.warm.remove(&topic);
    }
}

impl TopicsMachine {
    /// Loads a topic's memory, unless it is loaded.
    pub(super) fn warm(&mut self, id: TopicId, state: StateReader<'_>) -> Result<(), JournalError> {
        let Some(topic) = self.catalogue.get_mut(id) else { return Ok(()) };
        self.memory.tick += 1;
        topic.used = self.memory.tick;
        if topic.fold.is_warm() {
            return Ok(());
        }
        topic.fold.warm_empty();
        if !topic.fold.is_warm() {
            let mut saved = Vec::new();
            for tag in [fold::PIECE, fold::NAME, fold::ORIGIN] {
                let values = state.values(id.into(), tag)?.into_iter();
                saved.extend(values.map(|(rest, value): (Bytes, Bytes)| (tag, rest, value)));
            }
            if !topic.fold.restore(&saved, &topic.record.gaps) {
                let name = &topic.record.name;
                let what = format!("what topic {name} remembers of its messages is malformed");
                return Err(JournalError::Metadata(what));
            }
        }
        self.memory.warm.insert(id);
        self.memory.bytes += topic.fold.bytes();
        Ok(())
    }

    /// Counts again what is in memory, which also shrinks.
    pub(super) fn count_memory(&mut self) {
        let warm = self.memory.warm.iter().filter_map(|id| self.catalogue.get(*id));
        self.memory.bytes = warm.map(|topic| topic.fold.bytes()).sum();
    }

    /// Saves some topics that have not been asked for long, so that they can be cooled, if memory
    /// is scarce. `last` gives the number of each stream's last block.
    pub(super) fn keep_within_memory(&mut self, last: &dyn Fn(StreamId) -> u64, unit: &mut Unit) {
        if self.memory.bytes <= self.settings.fold_bytes_max {
            return;
        }
        self.count_memory();
        let wanted = self.settings.fold_bytes_max / 4 * 3;
        let relied_on = |id: &TopicId| self.catalogue.get(*id).is_some_and(|topic| !topic.given_up);
        let mut oldest: Vec<_> = self.memory.warm.iter().copied().filter(relied_on).collect();
        oldest.sort_by_key(|id| self.catalogue.get(*id).map_or(0, |topic| topic.used));
        let mut left = self.memory.bytes;
        for id in oldest.into_iter().take(COOLING_MAX) {
            if left <= wanted {
                break;
            }
            let Some(topic) = self.catalogue.get_mut(id) else { continue };
            left = left.saturating_sub(topic.fold.bytes());
            state::put_snapshot(topic, last, unit);
            self.memory.cooling.push(id);
        }
    }

    /// Drops the memory that was saved for this.
    pub(super) fn cool(&mut self) {
        for id in std::mem::take(&mut self.memory.cooling) {
            let Some(topic) = self.catalogue.get_mut(id) else { continue };
            let bytes = topic.fold.bytes();
            if topic.fold.cool() {
                self.memory.warm.remove(&id);
                self.memory.bytes = self.memory.bytes.saturating_sub(bytes);
            }
        }
    }
}
