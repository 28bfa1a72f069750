//! Where actors find each other: topic name → handle, handle → announced addresses.
//!
//! Invariants: an address is announced only after its actor has recovered; only the supervisor
//! announces (the writing halves are visible to it alone); a handle outlives every restart, so
//! holding one is never stale until the topic is deleted.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use actix::{Actor, Addr};
use dashmap::DashMap;
use tokio::sync::{Notify, watch};

use super::ingest::IngestLogger;
use super::topic::Topic;
use crate::model::{TopicId, TopicName, TopicSettings};
use crate::topics::TopicRecord;

/// What is known of an actor.
pub enum Announcement<A: Actor> {
    /// It is being started or restarted.
    Recovering,
    /// It takes messages here.
    Running(Addr<A>),
    /// Its restart budget is spent.
    Quarantined,
    /// It is gone for good.
    Ended,
}

/// Why there is no address and will be none soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The restart budget is spent; an operator has to intervene.
    #[error("quarantined after too many restarts")]
    Quarantined,
    /// The topic was deleted, or the broker stops.
    #[error("gone")]
    Ended,
}

/// The reading half of an actor's announcements. Cloning shares it.
pub struct Slot<A: Actor>(watch::Receiver<Announcement<A>>);

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> Slot<A> {
    pub(super) fn new() -> (watch::Sender<Announcement<A>>, Self) {
        let (announcer, slot) = watch::channel(Announcement::Recovering);
        (announcer, Self(slot))
    }

    /// The address, if there is one right now.
    pub fn now(&self) -> Option<Addr<A>> {
        match &*self.0.borrow() {
            // A panicked actor's address is closed some moments before that is announced.
            Announcement::Running(addr) if addr.connected() => Some(addr.clone()),
            _ => None,
        }
    }

    /// Waits for an address.
    ///
    /// # Errors
    /// [`Unavailable`] when waiting is of no use.
    pub async fn running(&self) -> Result<Addr<A>, Unavailable> {
        let mut slot = self.0.clone();
        loop {
            match &*slot.borrow_and_update() {
                Announcement::Running(addr) if addr.connected() => return Ok(addr.clone()),
                Announcement::Running(_) | Announcement::Recovering => {}
                Announcement::Quarantined => return Err(Unavailable::Quarantined),
                Announcement::Ended => return Err(Unavailable::Ended),
            }
            if slot.changed().await.is_err() {
                return Err(Unavailable::Ended);
            }
        }
    }

    fn state(&self) -> TopicState {
        match &*self.0.borrow() {
            Announcement::Running(_) => TopicState::Running,
            Announcement::Recovering | Announcement::Ended => TopicState::Recovering,
            Announcement::Quarantined => TopicState::Quarantined,
        }
    }
}

/// The state of a topic's actors, as API.md shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TopicState {
    /// Messages pass.
    Running,
    /// An actor is being restarted.
    Recovering,
    /// An actor's restart budget is spent.
    Quarantined,
}

/// A topic as the other parts see it.
pub struct TopicHandle {
    id: TopicId,
    name: TopicName,
    /// With the version of the change that made it so.
    record: RwLock<(u64, TopicRecord)>,
    /// Made on first use: most topics are idle.
    slots: OnceLock<Slots>,
    /// Producer sockets open now.
    pub producers: AtomicUsize,
    restarts: AtomicU64,
    /// Its actors have been started; they are on first use.
    pub(super) activated: AtomicBool,
    /// The topic was deleted: its supervision ends.
    pub(super) deleted: AtomicBool,
    /// Wakes supervision to look at `deleted`, or to leave quarantine.
    pub(super) wake_supervision: Notify,
}

/// Where a topic's actors are announced.
struct Slots {
    ingest: Slot<IngestLogger>,
    topic: Slot<Topic>,
    /// The writing halves, until activation takes them.
    announcers: Mutex<Option<Announcers>>,
}

/// The writing halves of a topic's slots.
pub(super) struct Announcers {
    pub(super) ingest: watch::Sender<Announcement<IngestLogger>>,
    pub(super) topic: watch::Sender<Announcement<Topic>>,
}

impl TopicHandle {
    pub(super) fn new(record: TopicRecord) -> Arc<Self> {
        Arc::new(Self {
            id: record.id,
            name: record.name.clone(),
            record: RwLock::new((0, record)),
            slots: OnceLock::new(),
            producers: AtomicUsize::new(0),
            restarts: AtomicU64::new(0),
            activated: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            wake_supervision: Notify::new(),
        })
    }

    fn slots(&self) -> &Slots {
        self.slots.get_or_init(|| {
            let (ingest_announcer, ingest) = Slot::new();
            let (topic_announcer, topic) = Slot::new();
            let announcers = Announcers { ingest: ingest_announcer, topic: topic_announcer };
            Slots { ingest, topic, announcers: Mutex::new(Some(announcers)) }
        })
    }

    /// Its ingest logger.
    pub fn ingest(&self) -> &Slot<IngestLogger> {
        &self.slots().ingest
    }

    /// Its topic actor.
    pub fn topic(&self) -> &Slot<Topic> {
        &self.slots().topic
    }

    /// The writing halves of its slots; only the first call gets them.
    pub(super) fn take_announcers(&self) -> Option<Announcers> {
        self.slots().announcers.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The topic's number.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// The settings in force.
    pub fn settings(&self) -> TopicSettings {
        self.record.read().unwrap_or_else(PoisonError::into_inner).1.settings
    }

    /// The topic as the catalogue has it.
    pub fn record(&self) -> TopicRecord {
        self.record.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Stores a changed record, unless a newer change is stored already.
    pub(super) fn set_record(&self, version: u64, record: TopicRecord) {
        let mut known = self.record.write().unwrap_or_else(PoisonError::into_inner);
        if version > known.0 && record.id == self.id {
            *known = (version, record);
        }
    }

    /// Restarts of its actors since the process began.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the supervision of its actors.
    fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.wake_supervision.notify_waiters();
    }

    /// The worst of its actors' states. A topic that has not been used yet is idle, ready to run.
    pub fn state(&self) -> TopicState {
        if !self.activated.load(Ordering::Acquire) {
            return TopicState::Running;
        }
        self.ingest().state().max(self.topic().state())
    }
}

/// All topics, by name and by id.
#[derive(Default)]
pub struct Directory {
    topics: DashMap<TopicName, Arc<TopicHandle>>,
    by_id: DashMap<TopicId, Arc<TopicHandle>>,
}

impl Directory {
    /// The topic of that name.
    pub fn topic(&self, name: &TopicName) -> Option<Arc<TopicHandle>> {
        self.topics.get(name).map(|handle| handle.clone())
    }

    /// The topic with that id.
    pub fn topic_with_id(&self, id: TopicId) -> Option<Arc<TopicHandle>> {
        self.by_id.get(&id).map(|handle| handle.clone())
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// No topic exists.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// All topics, ordered by name.
    pub fn topics(&self) -> Vec<Arc<TopicHandle>> {
        let mut topics: Vec<_> = self.topics.iter().map(|entry| entry.value().clone()).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Enters a topic. An existing one stays, unless it is an earlier topic of that name which is
    /// just being deleted.
    pub(super) fn enter(&self, record: TopicRecord) -> Arc<TopicHandle> {
        let mut entry = self
            .topics
            .entry(record.name.clone())
            .or_insert_with(|| TopicHandle::new(record.clone()));
        if entry.id < record.id {
            entry.mark_deleted();
            self.by_id.remove(&entry.id);
            *entry = TopicHandle::new(record);
        }
        let handle = entry.clone();
        self.by_id.insert(handle.id, handle.clone());
        handle
    }

    /// Removes a topic, if it is still the one with this id.
    pub(super) fn remove(&self, name: &TopicName, id: TopicId) {
        if let Some((_, handle)) = self.topics.remove_if(name, |_, handle| handle.id == id) {
            handle.mark_deleted();
            self.by_id.remove(&id);
        }
    }
}
