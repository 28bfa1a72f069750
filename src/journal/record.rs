//! A topic's record: what the catalogue keeps of it.

use serde::{Deserialize, Serialize};

use crate::model::{Epoch, Gap, TopicId, TopicName, TopicSettings};

/// A topic as the catalogue keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its number on disk.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its present epoch.
    pub epoch: Epoch,
    /// What was chosen for it.
    pub settings: TopicSettings,
    /// Offsets before this one may be given out without a sync. A start after which something may
    /// have been lost goes on here.
    #[serde(default)]
    pub reserved: u64,
    /// Offsets that hold no message and were announced, in order.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// What is damaged and not accepted yet; the topic is quarantined while there is any.
    #[serde(default)]
    pub damage: Vec<Damage>,
}

/// Messages that were acknowledged and can't be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The offsets, or, for a suspect, those that may be affected.
    #[serde(flatten)]
    pub gap: Gap,
    /// Only for a suspect: the damage is in these sequences of the journal, both included, and
    /// hides whose messages they held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences: Option<[u64; 2]>,
}

impl TopicRecord {
    /// A new topic.
    pub(super) fn new(id: TopicId, name: TopicName, settings: TopicSettings) -> Self {
        let (gaps, damage) = (Vec::new(), Vec::new());
        Self { id, name, epoch: Epoch::FIRST, settings, reserved: 0, gaps, damage }
    }

    /// Offsets that are known to be damaged, in order.
    pub(super) fn certain_damage(&self) -> Vec<Gap> {
        let certain = self.damage.iter().filter(|damage| damage.sequences.is_none());
        certain.map(|damage| damage.gap).collect()
    }

    /// Notes damage, joined with what it touches.
    pub(super) fn add_damage(&mut self, gap: Gap) {
        let mut certain = self.certain_damage();
        gap.add_to(&mut certain);
        self.damage.retain(|damage| damage.sequences.is_some());
        self.damage.extend(certain.into_iter().map(|gap| Damage { gap, sequences: None }));
    }
}
