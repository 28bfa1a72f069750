//! What readers see of topics beside their blocks: gaps and damage.
//!
//! Most topics have neither, so only those that do are in here.
//!
//! Invariant: damage is shown at once when it is found, as it is true either way; a gap only ever
//! replaces damage or lies beyond what was shown.

use std::sync::Arc;

use dashmap::DashMap;

use super::record::TopicRecord;
use crate::model::{Damage, Gap, TopicId};

/// A topic as readers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Offsets that were announced to hold no message, in order.
    pub(super) gaps: Vec<Gap>,
    /// Damage that is not accepted yet.
    pub(super) damage: Vec<Damage>,
    /// Offsets that are known to be damaged, in order.
    pub(super) certain: Vec<Gap>,
    /// The topic was given up until the next start.
    pub(super) given_up: bool,
}

impl View {
    /// Messages between two offsets.
    pub(super) fn messages(&self, first: u64, head: u64) -> u64 {
        let missing = |gap: &Gap| gap.end().min(head).saturating_sub(gap.from.max(first));
        let missing: u64 = self.gaps.iter().chain(&self.certain).map(missing).sum();
        (head - first).saturating_sub(missing)
    }

    /// The gap that an offset lies in.
    pub(super) fn gap_at(&self, offset: u64) -> Option<Gap> {
        self.gaps.iter().copied().find(|gap| gap.contains(offset))
    }

    /// The damage that an offset lies in.
    pub(super) fn damage_at(&self, offset: u64) -> Option<Gap> {
        self.certain.iter().copied().find(|gap| gap.contains(offset))
    }

    /// The first damaged offset after this one.
    pub(super) fn damage_after(&self, offset: u64) -> u64 {
        self.certain.iter().map(|gap| gap.from).find(|from| *from > offset).unwrap_or(u64::MAX)
    }
}

/// Every topic's view. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct Views(Arc<DashMap<TopicId, Arc<View>>>);

impl Views {
    /// The view of a topic; an empty one if it has neither.
    pub(super) fn of(&self, topic: TopicId) -> Arc<View> {
        self.0.get(&topic).map(|view| view.clone()).unwrap_or_default()
    }

    /// Shows the content of a topic's record.
    pub(super) fn show(&self, record: &TopicRecord, given_up: bool) {
        let view = View {
            gaps: record.gaps.clone(),
            damage: record.damage.clone(),
            certain: record.certain_damage(),
            given_up,
        };
        if view == View::default() {
            self.0.remove(&record.id);
        } else {
            self.0.insert(record.id, Arc::new(view));
        }
    }

    /// Forgets a deleted topic.
    pub(super) fn forget(&self, topic: TopicId) {
        self.0.remove(&topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_damage_are_no_messages() {
        let view = View {
            gaps: vec![Gap { from: 2, to: 9 }],
            certain: vec![Gap { from: 10, to: 11 }],
            ..View::default()
        };
        assert_eq!((view.messages(0, 12), view.messages(10, 12)), (2, 0));
        assert_eq!(view.gap_at(5), Some(Gap { from: 2, to: 9 }));
        assert_eq!((view.gap_at(1), view.damage_at(10)), (None, Some(Gap { from: 10, to: 11 })));
        assert_eq!((view.damage_after(0), view.damage_after(10)), (10, u64::MAX));
    }
}
