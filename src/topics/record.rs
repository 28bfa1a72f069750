//! A topic's record: its entry in the catalogue.

use serde::{Deserialize, Serialize};

use crate::model::{Damage, Epoch, Gap, StreamId, TopicId, TopicName, TopicSettings};

/// A topic as the catalogue keeps it: JSON under its key `t`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its number on disk.
    #[serde(skip)]
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its present epoch.
    pub epoch: Epoch,
    /// The epoch it was created in; positions of earlier ones are of another topic of its name.
    #[serde(default = "first_of_all", skip_serializing_if = "is_first_of_all")]
    pub first_epoch: Epoch,
    /// The epochs after that, the newest ones, each with the end of the one before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<(Epoch, u64)>,
    /// Its settings.
    pub settings: TopicSettings,
    /// Offsets that hold no message and were announced, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Damage that is not accepted yet; the topic is quarantined while there is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<Damage>,
    /// The stream of its raw messages, if its mode needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<StreamId>,
}

/// Epochs that are remembered.
const EPOCHS_MAX: usize = 64;

fn first_of_all() -> Epoch {
    Epoch::FIRST
}

fn is_first_of_all(epoch: &Epoch) -> bool {
    *epoch == Epoch::FIRST
}

impl TopicRecord {
    /// A new topic that begins in this epoch.
    pub(super) fn new(id: TopicId, name: TopicName, epoch: Epoch, settings: TopicSettings) -> Self {
        let (gaps, damage, ingest) = (Vec::new(), Vec::new(), None);
        let (first_epoch, epochs) = (epoch, Vec::new());
        Self { id, name, epoch, first_epoch, epochs, settings, gaps, damage, ingest }
    }

    /// A new epoch begins; messages of the one before it are below `end`.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch, end: u64) {
        self.epoch = epoch;
        self.epochs.push((epoch, end));
        if self.epochs.len() > EPOCHS_MAX {
            // Earlier positions count as another topic's.
            (self.first_epoch, _) = self.epochs.remove(0);
        }
    }

    /// The end of the messages of a past epoch; `None` for one that is not of this topic, or not
    /// known any more.
    pub fn end_of(&self, epoch: Epoch) -> Option<u64> {
        if epoch < self.first_epoch {
            return None;
        }
        // Also for one of another copy, which had all that came before the next one here.
        self.epochs.iter().find(|(next, _)| *next > epoch).map(|(_, end)| *end)
    }

    /// Offsets that are known to be damaged, in order.
    pub(super) fn certain_damage(&self) -> Vec<Gap> {
        let certain = self.damage.iter().filter(|damage| damage.sequences.is_none());
        certain.map(|damage| damage.gap).collect()
    }

    /// Offsets that are known to hold no message, in order.
    pub(super) fn holes(&self) -> Vec<Gap> {
        let mut holes = self.certain_damage();
        holes.extend(&self.gaps);
        holes.sort_unstable();
        holes
    }

    /// Notes damage, joined with what it touches; false when it was known.
    pub(super) fn add_damage(&mut self, gap: Gap) -> bool {
        let mut certain = self.certain_damage();
        if certain.iter().any(|known| known.from <= gap.from && gap.to <= known.to) {
            return false;
        }
        gap.add_to(&mut certain);
        self.damage.retain(|damage| damage.sequences.is_some());
        self.damage.extend(certain.into_iter().map(|gap| Damage { gap, sequences: None }));
        true
    }

    /// The end is not before offsets that were given up.
    pub(super) fn head_min(&self) -> u64 {
        self.gaps.last().map_or(0, Gap::end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noted_once_and_joined() {
        let name = TopicName::new("a").unwrap();
        let mut record = TopicRecord::new(TopicId(1), name, Epoch::FIRST, TopicSettings::default());
        assert!(record.add_damage(Gap { from: 5, to: 9 }));
        assert!(!record.add_damage(Gap { from: 6, to: 7 }));
        assert!(record.add_damage(Gap { from: 10, to: 11 }));
        assert_eq!(record.certain_damage(), [Gap { from: 5, to: 11 }]);
        record.gaps = vec![Gap { from: 1, to: 2 }];
        assert_eq!(record.holes(), [Gap { from: 1, to: 2 }, Gap { from: 5, to: 11 }]);
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_that_is_known_begins() {
        let name = TopicName::new("a").unwrap();
        let mut record = TopicRecord::new(TopicId(1), name, Epoch(3), TopicSettings::default());
        record.begin_epoch(Epoch(4), 10);
        record.begin_epoch(Epoch(9), 20);
        let ends = |record: &TopicRecord| [2, 3, 4, 7, 9].map(|epoch| record.end_of(Epoch(epoch)));
        assert_eq!(ends(&record), [None, Some(10), Some(20), Some(20), None]);
        for n in 0..EPOCHS_MAX as u64 - 1 {
            record.begin_epoch(Epoch(10 + n), 30 + n);
        }
        assert_eq!(ends(&record), [None, None, Some(20), Some(20), Some(30)], "one is forgotten");
    }

    #[test]
    fn a_record_comes_back_but_for_its_number() {
        let name = TopicName::new("a").unwrap();
        let mut record = TopicRecord::new(TopicId(0), name, Epoch(7), TopicSettings::default());
        record.damage = vec![Damage { gap: Gap { from: 1, to: 2 }, sequences: Some([3, 4]) }];
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<TopicRecord>(&json).unwrap(), record);
    }
}
