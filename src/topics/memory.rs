//! Which topics have what they remember in memory, and how much that may take.
//!
//! A topic is warmed when it is asked about ids or producers, and cooled, when there is too much, the
//! longest unasked first: what is not saved is saved with one commit, and given up behind it.
//!
//! Invariant: what a topic remembers is given up only after all of it is saved.

use std::collections::HashSet;

use bytes::Bytes;

use super::catalogue::Topic;
use super::machine::TopicsMachine;
use super::{fold, state};
use crate::journal::{JournalError, StateReader, Unit};
use crate::model::TopicId;

/// Which topics are warm, and what that takes.
#[derive(Debug, Default)]
pub(super) struct FoldMemory {
    warm: HashSet<TopicId>,
    bytes: usize,
    tick: u64,
    /// Saved with the commit in the making, to be cooled behind it.
    cooling: Vec<TopicId>,
}

impl FoldMemory {
    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets a deleted topic.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.warm.remove(&topic);
    }
}

impl TopicsMachine {
    /// Loads what a topic remembers, unless it is in memory.
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

    /// Saves topics that have not been asked for long, so that they can be cooled.
    pub(super) fn keep_within_memory(&mut self, unit: &mut Unit) {
        if !self.memory.cooling.is_empty() {
            return;
        }
        let bytes = |topic: &Topic| topic.fold.bytes();
        let warm = self.memory.warm.iter().filter_map(|id| self.catalogue.get(*id));
        self.memory.bytes = warm.map(bytes).sum();
        if self.memory.bytes <= self.settings.fold_bytes_max {
            return;
        }
        let mut oldest: Vec<_> = self.memory.warm.iter().copied().collect();
        oldest.sort_by_key(|id| self.catalogue.get(*id).map_or(0, |topic| topic.used));
        let wanted = self.settings.fold_bytes_max / 4 * 3;
        let mut left = self.memory.bytes;
        for id in oldest {
            if left <= wanted {
                break;
            }
            let Some(topic) = self.catalogue.get_mut(id) else { continue };
            left = left.saturating_sub(topic.fold.bytes());
            state::put_snapshot(topic, unit);
            self.memory.cooling.push(id);
        }
    }

    /// Gives up what was saved for that.
    pub(super) fn cool(&mut self) {
        for id in std::mem::take(&mut self.memory.cooling) {
            if self.catalogue.get_mut(id).is_none_or(|topic| topic.fold.cool()) {
                self.memory.warm.remove(&id);
            }
        }
    }
}
