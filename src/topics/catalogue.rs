//! The catalogue: all topics, by name and by number, and what the machine keeps of each.
//!
//! Invariants: it changes ahead of the commit that makes the change durable, on the writer thread
//! only, and no request is answered before that commit has returned (a commit that fails ends the
//! process); numbers are never reused; every change is an event.

use std::collections::HashMap;
use std::mem;

use rustc_hash::FxHashMap;

use super::change::{CatalogueEvent, TopicChanged};
use super::claims::Claims;
use super::fold::Fold;
use super::record::TopicRecord;
use crate::model::{Incarnation, TopicId, TopicName};

/// What the machine knows of a topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) record: TopicRecord,
    /// Its fold: what it knows of its messages.
    pub(super) fold: Fold,
    /// Blocks of earlier ones are refused.
    pub(super) incarnation: Incarnation,
    /// Offsets below this one are reserved.
    pub(super) reserved: u64,
    /// A request for it panicked: its memory is not relied on until the next start.
    pub(super) given_up: bool,
    /// The sockets that hold its producers' names.
    pub(super) claims: Claims,
    /// When its fold was last asked.
    pub(super) used: u64,
}

impl Topic {
    pub(super) fn new(record: TopicRecord, fold: Fold) -> Self {
        let incarnation = Incarnation(0);
        let claims = Claims::default();
        Self { record, fold, incarnation, reserved: 0, given_up: false, claims, used: 0 }
    }

    /// Nothing may be published to it.
    pub(super) fn is_quarantined(&self) -> bool {
        self.given_up || !self.record.damage.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    topics: FxHashMap<TopicId, Topic>,
    names: HashMap<TopicName, TopicId>,
    version: u64,
    events: Vec<CatalogueEvent>,
}

impl Catalogue {
    /// How many topics there are.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn get(&self, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    pub(super) fn get_mut(&mut self, topic: TopicId) -> Option<&mut Topic> {
        self.topics.get_mut(&topic)
    }

    /// The number of the topic of that name.
    pub(super) fn id_of(&self, name: &TopicName) -> Option<TopicId> {
        self.names.get(name).copied()
    }

    /// The topic of that name.
    pub(super) fn named(&mut self, name: &TopicName) -> Option<&mut Topic> {
        self.topics.get_mut(self.names.get(name)?)
    }

    /// Every topic.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// Every topic, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.topics.values_mut()
    }

    /// Enters a topic that existed before; not an event.
    pub(super) fn enter(&mut self, topic: Topic) {
        self.names.insert(topic.record.name.clone(), topic.record.id);
        self.topics.insert(topic.record.id, topic);
    }

    /// Creates a topic.
    pub(super) fn create(&mut self, topic: Topic) -> TopicChanged {
        let id = topic.record.id;
        self.enter(topic);
        self.changed(id, true)
    }

    /// A topic has been changed, or only looked up.
    pub(super) fn unchanged(&mut self, id: TopicId) -> Option<TopicChanged> {
        let record = self.topics.get(&id)?.record.clone();
        Some(TopicChanged { record, created: false, version: self.version })
    }

    /// A topic has been changed. It must exist.
    pub(super) fn changed(&mut self, id: TopicId, created: bool) -> TopicChanged {
        self.version += 1;
        let record = self.topics[&id].record.clone();
        let changed = TopicChanged { record, created, version: self.version };
        self.events.push(CatalogueEvent::Changed(changed.clone()));
        changed
    }

    /// Deletes a topic.
    pub(super) fn delete(&mut self, name: &TopicName) -> Option<TopicChanged> {
        let record = self.topics.remove(&self.names.remove(name)?)?.record;
        self.version += 1;
        self.events.push(CatalogueEvent::Deleted(record.clone()));
        Some(TopicChanged { record, created: false, version: self.version })
    }

    /// The events since the last call.
    pub(super) fn take_events(&mut self) -> Vec<CatalogueEvent> {
        mem::take(&mut self.events)
    }
}
