//! The writer's catalogue of topics: which there are, and where each one's next block goes.
//!
//! Invariants: it changes ahead of the commit that makes the change durable, on the writer thread
//! only, and nobody is answered before that commit has returned (a commit that fails ends the
//! process; damage and retention are shown at once, as they are true either way); ids are never
//! reused.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::dedup::DedupWindow;
use super::named::NamedProducers;
use crate::journal::index::TopicIndex;
use crate::journal::shared::{Shared, TopicState};
use crate::journal::{Damage, JournalError, TopicRecord};
use crate::model::{
    Epoch, Gap, Incarnation, TopicId, TopicName, TopicSettings, TopicSettingsChange,
};

/// A change of the catalogue.
#[derive(Clone, Debug)]
pub enum TopicChange {
    /// Creates the topic unless it is there.
    Ensure {
        /// Its name.
        name: TopicName,
        /// Its settings, if it is created.
        settings: TopicSettings,
        /// Most topics there may be after this.
        topics_max: usize,
    },
    /// Creates the topic or replaces its settings.
    Replace {
        /// Its name.
        name: TopicName,
        /// Its settings.
        settings: TopicSettings,
        /// Most topics there may be after this.
        topics_max: usize,
        /// Only if there is no topic of that name.
        must_be_new: bool,
    },
    /// Changes some settings of a topic.
    Merge {
        /// Its name.
        name: TopicName,
        /// What changes; each value is within its bounds.
        change: TopicSettingsChange,
    },
    /// Deletes the topic.
    Delete {
        /// Its name.
        name: TopicName,
    },
    /// Accepts that messages are lost: their offsets become an announced gap.
    AcceptGap {
        /// The topic's name.
        name: TopicName,
        /// Exactly what is shown as its damage.
        gap: Gap,
    },
}

impl TopicChange {
    /// The name of the topic it is about.
    pub(super) fn name(&self) -> &TopicName {
        match self {
            Self::Ensure { name, .. }
            | Self::Replace { name, .. }
            | Self::Merge { name, .. }
            | Self::Delete { name }
            | Self::AcceptGap { name, .. } => name,
        }
    }
}

/// What a [`TopicChange`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChanged {
    /// The topic as it is now, or was last.
    pub record: TopicRecord,
    /// It did not exist before.
    pub created: bool,
    /// Rises with every change, so that an answer that is seen late can be told from a newer one.
    pub version: u64,
}

/// Why a [`TopicChange`] did nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicChangeError {
    /// No topic of that name.
    #[error("there is no such topic")]
    NotFound,
    /// A topic that was to be new isn't.
    #[error("there is a topic of that name")]
    AlreadyExists,
    /// There are as many as there may be.
    #[error("there are {max} topics already, which is all that `topics_max` allows")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// What was to be accepted is not what is damaged.
    #[error("`accept_gap` must be one of the topic's damaged ranges: {}", ranges(.0))]
    NoSuchDamage(Vec<Damage>),
    /// The disk has no room to spare.
    #[error("the disk is full; topics can be deleted, not made")]
    StorageFull,
    /// The journal stores nothing any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn ranges(damage: &[Damage]) -> String {
    if damage.is_empty() {
        return "there is none".into();
    }
    let range = |damage: &Damage| format!("{} to {}", damage.gap.from, damage.gap.to);
    damage.iter().map(range).collect::<Vec<_>>().join(", ")
}

/// What a change asks of the next commit.
#[derive(Debug)]
pub(super) enum Edit {
    None,
    Put(TopicRecord),
    /// With the topic's state, whose tail is not to be written out any more.
    Remove(TopicId, Arc<TopicState>),
}

/// What only the writer knows of a topic.
pub(super) struct WriterTopic {
    pub(super) record: TopicRecord,
    pub(super) state: Arc<TopicState>,
    /// Blocks of earlier ones are refused.
    pub(super) incarnation: Incarnation,
    pub(super) next_offset: u64,
    pub(super) dedup: DedupWindow,
    pub(super) named: NamedProducers,
}

impl WriterTopic {
    /// Notes damage that a reader found; false when it is known.
    pub(super) fn damaged(&mut self, gap: Gap) -> bool {
        let known = |damage: &Gap| damage.from <= gap.from && gap.to <= damage.to;
        if self.record.certain_damage().iter().any(known) {
            return false;
        }
        self.record.add_damage(gap);
        self.show_damage();
        true
    }

    /// Takes other settings over.
    fn set(&mut self, settings: TopicSettings, version: u64) -> (TopicChanged, Edit) {
        self.record.settings = settings;
        self.state.show(&self.record);
        self.changed(version)
    }

    fn changed(&self, version: u64) -> (TopicChanged, Edit) {
        let record = self.record.clone();
        let changed = TopicChanged { record: record.clone(), created: false, version };
        (changed, Edit::Put(record))
    }

    fn accept(&mut self, gap: Gap) -> Result<(), TopicChangeError> {
        let Some(at) = self.record.damage.iter().position(|damage| damage.gap == gap) else {
            return Err(TopicChangeError::NoSuchDamage(self.record.damage.clone()));
        };
        self.record.damage.remove(at);
        gap.add_to(&mut self.record.gaps);
        self.record.epoch = Epoch(self.record.epoch.0 + 1);
        if gap.end() > self.next_offset {
            // A suspect goes on behind all that it may have lost.
            self.next_offset = gap.end();
            self.state.write_index().skip_to(gap.end());
        }
        self.dedup.forget(gap);
        self.show_damage();
        Ok(())
    }

    fn show_damage(&self) {
        let mut index = self.state.write_index();
        index.gaps.clone_from(&self.record.gaps);
        let first = index.first;
        index.gaps.retain(|gap| gap.to >= first);
        index.damage = self.record.certain_damage();
        self.state.show(&self.record);
    }
}

/// See the module.
pub(super) struct Catalogue {
    shared: Arc<Shared>,
    topics: FxHashMap<TopicId, WriterTopic>,
    names: HashMap<TopicName, TopicId>,
    next_topic_id: u32,
    version: u64,
}

impl Catalogue {
    pub(super) fn new(shared: Arc<Shared>, next_topic_id: u32) -> Self {
        Self {
            shared,
            topics: FxHashMap::default(),
            names: HashMap::new(),
            next_topic_id,
            version: 0,
        }
    }

    /// Enters a topic, new or recovered, and shows it to readers.
    pub(super) fn enter(&mut self, record: TopicRecord, index: TopicIndex, dedup: DedupWindow) {
        let id = record.id;
        let next_offset = index.head;
        let state = TopicState::new(&record, index);
        self.shared.topics.insert(id, state.clone());
        self.names.insert(record.name.clone(), id);
        let incarnation = Incarnation(0);
        let named = NamedProducers::default();
        let topic = WriterTopic { record, state, incarnation, next_offset, dedup, named };
        self.topics.insert(id, topic);
    }

    pub(super) fn get(&self, topic: TopicId) -> Option<&WriterTopic> {
        self.topics.get(&topic)
    }

    pub(super) fn get_mut(&mut self, topic: TopicId) -> Option<&mut WriterTopic> {
        self.topics.get_mut(&topic)
    }

    /// Every topic.
    pub(super) fn topics_mut(&mut self) -> impl Iterator<Item = &mut WriterTopic> {
        self.topics.values_mut()
    }

    /// The id the next topic gets.
    pub(super) fn next_topic_id(&self) -> u32 {
        self.next_topic_id
    }

    /// Makes a change, in memory.
    pub(super) fn change(
        &mut self,
        change: TopicChange,
    ) -> Result<(TopicChanged, Edit), TopicChangeError> {
        self.version += 1;
        let version = self.version;
        match change {
            TopicChange::Ensure { name, settings, topics_max } => match self.named(&name) {
                Some(known) => {
                    let record = known.record.clone();
                    Ok((TopicChanged { record, created: false, version }, Edit::None))
                }
                None => self.create(name, settings, topics_max),
            },
            TopicChange::Replace { name, settings, topics_max, must_be_new } => {
                match self.named(&name) {
                    Some(_) if must_be_new => Err(TopicChangeError::AlreadyExists),
                    Some(known) => Ok(known.set(settings, version)),
                    None => self.create(name, settings, topics_max),
                }
            }
            TopicChange::Merge { name, change } => {
                let known = self.named(&name).ok_or(TopicChangeError::NotFound)?;
                Ok(known.set(change.apply_to(known.record.settings), version))
            }
            TopicChange::Delete { name } => self.delete(&name),
            TopicChange::AcceptGap { name, gap } => {
                let known = self.named(&name).ok_or(TopicChangeError::NotFound)?;
                known.accept(gap)?;
                Ok(known.changed(version))
            }
        }
    }

    /// Refuses a change that would create a topic: there is no room for one.
    pub(super) fn create_nothing(&self, change: &TopicChange) -> Result<(), TopicChangeError> {
        match change {
            TopicChange::Ensure { name, .. } | TopicChange::Replace { name, .. }
                if !self.names.contains_key(name) =>
            {
                Err(TopicChangeError::StorageFull)
            }
            _ => Ok(()),
        }
    }

    /// The id of the topic of that name.
    pub(super) fn id_of(&self, name: &TopicName) -> Option<TopicId> {
        self.names.get(name).copied()
    }

    fn named(&mut self, name: &TopicName) -> Option<&mut WriterTopic> {
        self.topics.get_mut(self.names.get(name)?)
    }

    fn create(
        &mut self,
        name: TopicName,
        settings: TopicSettings,
        topics_max: usize,
    ) -> Result<(TopicChanged, Edit), TopicChangeError> {
        if self.topics.len() >= topics_max {
            return Err(TopicChangeError::TooMany { max: topics_max });
        }
        let id = TopicId(self.next_topic_id);
        self.next_topic_id += 1;
        let record = TopicRecord::new(id, name, settings);
        self.enter(record.clone(), TopicIndex::default(), DedupWindow::default());
        let version = self.version;
        let changed = TopicChanged { record: record.clone(), created: true, version };
        Ok((changed, Edit::Put(record)))
    }

    fn delete(&mut self, name: &TopicName) -> Result<(TopicChanged, Edit), TopicChangeError> {
        let id = self.names.remove(name).ok_or(TopicChangeError::NotFound)?;
        let known = self.topics.remove(&id).ok_or(TopicChangeError::NotFound)?;
        self.shared.topics.remove(&id);
        let (record, version) = (known.record, self.version);
        let changed = TopicChanged { record, created: false, version };
        Ok((changed, Edit::Remove(id, known.state)))
    }
}
