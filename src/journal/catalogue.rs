//! The writer's catalogue of topics: which there are, and where each one's next block goes.
//!
//! Invariants: it changes ahead of the commit that makes the change durable, on the writer thread
//! only, and nobody is told before that commit has returned (a commit that fails ends the
//! process); ids are never reused.

use std::collections::HashMap;
use std::sync::Arc;

use super::index::TopicIndex;
use super::{JournalError, Shared, TopicRecord, TopicState};
use crate::model::{Epoch, Incarnation, TopicId, TopicName, TopicSettings};

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
    /// Deletes the topic.
    Delete {
        /// Its name.
        name: TopicName,
    },
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
    /// The journal stores nothing any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
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
}

/// See the module.
pub(super) struct Catalogue {
    shared: Arc<Shared>,
    topics: HashMap<TopicId, WriterTopic>,
    names: HashMap<TopicName, TopicId>,
    next_topic_id: u32,
    version: u64,
}

impl Catalogue {
    pub(super) fn new(shared: Arc<Shared>, next_topic_id: u32) -> Self {
        Self { shared, topics: HashMap::new(), names: HashMap::new(), next_topic_id, version: 0 }
    }

    /// Enters a topic, new or recovered, and shows it to readers.
    pub(super) fn enter(&mut self, record: TopicRecord, index: TopicIndex) {
        let id = record.id;
        let next_offset = index.head;
        let state = TopicState::new(index);
        self.shared.topics.insert(id, state.clone());
        self.names.insert(record.name.clone(), id);
        let incarnation = Incarnation(0);
        self.topics.insert(id, WriterTopic { record, state, incarnation, next_offset });
    }

    pub(super) fn get(&self, topic: TopicId) -> Option<&WriterTopic> {
        self.topics.get(&topic)
    }

    pub(super) fn get_mut(&mut self, topic: TopicId) -> Option<&mut WriterTopic> {
        self.topics.get_mut(&topic)
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
                    Some(known) => {
                        known.record.settings = settings;
                        let record = known.record.clone();
                        let now = record.clone();
                        let changed = TopicChanged { record: now, created: false, version };
                        Ok((changed, Edit::Put(record)))
                    }
                    None => self.create(name, settings, topics_max),
                }
            }
            TopicChange::Delete { name } => self.delete(&name),
        }
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
        let record = TopicRecord { id, name, epoch: Epoch::FIRST, settings };
        self.enter(record.clone(), TopicIndex::default());
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
