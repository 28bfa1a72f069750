//! Supervision: starting actors, noticing their deaths, restarting them, giving up in time.
//!
//! actix's own supervisor does not survive a panic, so each actor's context is run as a task here
//! and its end awaited (`supervise`); how often it may be restarted is a plain state machine
//! (`budget`). [`Supervisor`] knows the parts of a topic and is the only writer of the directory.
//!
//! Invariants: one actor's death touches no other; a budget that is spent quarantines that one
//! topic, never the node (a producer that spends it costs its own socket only); a topic's actors
//! start on its first use.

mod budget;
mod supervise;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::ArbiterHandle;
use serde::Deserialize;

pub use budget::RestartPolicy;
pub use supervise::ProducerHandle;

use super::directory::{Directory, Slot, TopicHandle};
use super::ingest::IngestLogger;
use super::producer::Producer;
use super::topic::Topic;
use crate::model::{AppendError, Gap, TopicName, TopicSettings, TopicSettingsChange};
use crate::queue::Queue;
use crate::topics::{
    Backup, BackupError, Claimed, TopicChange, TopicChangeError, TopicChanged, TopicRecord, Topics,
};
use supervise::{Child, supervise};

/// `[supervision]` of broker.toml.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisionSettings {
    /// Threads that run ingest loggers and topics.
    pub threads: usize,
    /// Restarts of one actor within `restart_window_ms` before its topic is quarantined.
    pub restarts_max: u32,
    /// The window in which restarts are counted.
    pub restart_window_ms: u64,
    /// Pause before the first restart of a row; it doubles with each further one.
    pub backoff_ms: u64,
    /// Longest pause before a restart.
    pub backoff_ms_max: u64,
}

impl Default for SupervisionSettings {
    fn default() -> Self {
        Self {
            threads: 1,
            restarts_max: 10,
            restart_window_ms: 10_000,
            backoff_ms: 5,
            backoff_ms_max: 500,
        }
    }
}

/// Which topics may be created, and with what settings.
#[derive(Clone, Debug)]
pub struct TopicPolicy {
    /// Topics are created at first publish or subscribe.
    pub auto_create: bool,
    /// Most topics.
    pub topics_max: usize,
    /// Settings of a topic that asks for nothing else.
    pub defaults: TopicSettings,
}

/// See the module. Shared by everything that needs a topic.
pub struct Supervisor {
    topics: Topics,
    queue: Queue,
    directory: Directory,
    arbiters: Vec<ArbiterHandle>,
    restarts: RestartPolicy,
    policy: TopicPolicy,
}

impl Supervisor {
    /// Supervises the topics of these records on the given threads.
    pub fn new(
        topics: Topics,
        queue: Queue,
        records: Vec<TopicRecord>,
        arbiters: Vec<ArbiterHandle>,
        restarts: RestartPolicy,
        policy: TopicPolicy,
    ) -> Arc<Self> {
        let directory = Directory::default();
        for record in records {
            directory.enter(record);
        }
        Arc::new(Self { topics, queue, directory, arbiters, restarts, policy })
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The policy for topics.
    pub fn topic_policy(&self) -> &TopicPolicy {
        &self.policy
    }

    /// A topic for use, its actors started; `None` when none of that name exists.
    pub fn topic(&self, name: &TopicName) -> Option<Arc<TopicHandle>> {
        let handle = self.directory.topic(name)?;
        self.activate(&handle);
        Some(handle)
    }

    /// A topic for publishing or subscribing: created if the policy allows that.
    ///
    /// # Errors
    /// [`TopicChangeError`]: missing and not to be created, or not storable.
    pub async fn ensure_topic(
        &self,
        name: &TopicName,
    ) -> Result<Arc<TopicHandle>, TopicChangeError> {
        loop {
            if let Some(handle) = self.topic(name) {
                return Ok(handle);
            }
            if !self.policy.auto_create {
                return Err(TopicChangeError::NotFound);
            }
            match self.make_topic(name).await {
                // A deletion followed at once.
                Err(TopicChangeError::NotFound) => {}
                made => return made,
            }
        }
    }

    async fn make_topic(&self, name: &TopicName) -> Result<Arc<TopicHandle>, TopicChangeError> {
        let change = TopicChange::Ensure {
            name: name.clone(),
            settings: self.policy.defaults,
            topics_max: self.policy.topics_max,
        };
        let changed = self.topics.change(change).await?;
        let handle = self.enter(changed.record)?;
        self.activate(&handle);
        Ok(handle)
    }

    /// Creates a topic or replaces its settings; with `must_be_new` only creates.
    ///
    /// # Errors
    /// [`TopicChangeError`]: exists already, too many, or not storable.
    pub async fn put_topic(
        &self,
        name: TopicName,
        settings: TopicSettings,
        must_be_new: bool,
    ) -> Result<(Arc<TopicHandle>, bool), TopicChangeError> {
        let topics_max = self.policy.topics_max;
        let change = TopicChange::Replace { name, settings, topics_max, must_be_new };
        let TopicChanged { record, created, version } = self.topics.change(change).await?;
        let handle = self.enter(record.clone())?;
        handle.set_record(version, record);
        Ok((handle, created))
    }

    /// Changes some settings of a topic; each value must be within its bounds.
    ///
    /// # Errors
    /// [`TopicChangeError::NotFound`], or not storable.
    pub async fn change_topic(
        &self,
        name: TopicName,
        change: TopicSettingsChange,
    ) -> Result<Arc<TopicHandle>, TopicChangeError> {
        let change = TopicChange::Merge { name, change, defaults: self.policy.defaults };
        let TopicChanged { record, version, .. } = self.topics.change(change).await?;
        let handle = self.enter(record.clone())?;
        handle.set_record(version, record);
        Ok(handle)
    }

    /// Deletes a topic and ends its actors.
    ///
    /// # Errors
    /// [`TopicChangeError::NotFound`], or not storable.
    pub async fn delete_topic(&self, name: TopicName) -> Result<(), TopicChangeError> {
        let change = TopicChange::Delete { name: name.clone() };
        let deleted = self.topics.change(change).await?.record.id;
        self.directory.remove(&name, deleted);
        self.queue.forget(deleted);
        Ok(())
    }

    /// Accepts a topic's damage as a gap.
    ///
    /// # Errors
    /// [`TopicChangeError::NoSuchDamage`], or not storable.
    pub async fn accept_gap(&self, handle: &TopicHandle, gap: Gap) -> Result<(), TopicChangeError> {
        let change = TopicChange::AcceptGap { name: handle.name().clone(), gap };
        let TopicChanged { record, version, .. } = self.topics.change(change).await?;
        handle.set_record(version, record);
        Ok(())
    }

    /// A consistent copy of the journal.
    ///
    /// # Errors
    /// The journal has stopped.
    pub async fn backup(&self) -> Result<Backup, BackupError> {
        self.topics.backup().await
    }

    /// Claims a producer's name in a topic for a socket; see [`Topics::claim`].
    ///
    /// # Errors
    /// [`AppendError`]: the topic was deleted, is quarantined, or the journal has stopped.
    pub async fn claim(&self, topic: &TopicHandle, producer: &str) -> Result<Claimed, AppendError> {
        self.topics.claim(topic.id(), producer).await
    }

    /// Restarts a quarantined topic's actors with a fresh budget; does nothing for a running one.
    pub fn recover_topic(&self, handle: &TopicHandle) {
        handle.wake_supervision.notify_waiters();
    }

    /// Starts a producer for a session, on the calling thread.
    pub fn start_producer(&self, topic: Arc<TopicHandle>) -> ProducerHandle {
        let (announcer, slot) = Slot::new();
        let (session, producer) = ProducerHandle::new(slot);
        let (topic_of, restarts) = (topic.clone(), self.restarts);
        let child = Child { what: "producer", topic: topic_of, restarts, recoverable: false };
        supervise(child, announcer, move |_| {
            // A session that left while its producer was away needs no successor.
            let successor = session.strong_count() > 0;
            let producer = successor.then(|| Producer::new(topic.clone()));
            async move { producer }
        });
        producer
    }

    /// Enters the topic that was answered, unless it has been deleted since.
    fn enter(&self, record: TopicRecord) -> Result<Arc<TopicHandle>, TopicChangeError> {
        let (name, id) = (record.name.clone(), record.id);
        let handle = self.directory.enter(record);
        // A deletion takes the topic's stream first, so this call or the deletion sees the other.
        if self.topics.extent(handle.id()).is_none() {
            self.directory.remove(&name, id);
            return Err(TopicChangeError::NotFound);
        }
        Ok(handle)
    }

    fn activate(&self, handle: &Arc<TopicHandle>) {
        if handle.activated.load(Ordering::Acquire) {
            return;
        }
        let Some(announcers) = handle.take_announcers() else { return };
        handle.activated.store(true, Ordering::Release);
        let (topic, restarts) = (handle.clone(), self.restarts);
        let (topics, queue) = (self.topics.clone(), self.queue.clone());
        let arbiter = &self.arbiters[handle.id().0 as usize % self.arbiters.len()];
        arbiter.spawn_fn(move || {
            let id = topic.id();
            let child = |what| Child { what, topic: topic.clone(), restarts, recoverable: true };
            supervise(child("ingest logger"), announcers.ingest, move |incarnation| {
                IngestLogger::recover(id, incarnation, topics.clone())
            });
            supervise(child("topic"), announcers.topic, move |_| {
                let topic = Topic::new(id, queue.clone());
                async move { Some(topic) }
            });
        });
    }
}
