//! The topic service: finds, makes, changes and deletes topics, and what else is asked of all of
//! them.
//!
//! Invariants: it is the only writer of the directory; what it answers is durable; a topic that it
//! gives for use has its actors started.

use std::sync::Arc;

use super::directory::{Directory, TopicHandle};
use super::supervisor::Supervisor;
use crate::model::{AppendError, Gap, TopicName, TopicSettings, TopicSettingsChange};
use crate::queue::Queue;
use crate::topics::{
    Backup, BackupError, Claimed, TopicChange, TopicChangeError, TopicChanged, TopicRecord, Topics,
};

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

/// See the module.
pub struct TopicService {
    topics: Topics,
    queue: Queue,
    directory: Directory,
    supervisor: Arc<Supervisor>,
    policy: TopicPolicy,
}

impl TopicService {
    /// The service for the topics of these records.
    pub fn new(
        topics: Topics,
        queue: Queue,
        records: Vec<TopicRecord>,
        supervisor: Arc<Supervisor>,
        policy: TopicPolicy,
    ) -> Arc<Self> {
        let directory = Directory::default();
        for record in records {
            directory.enter(record);
        }
        Arc::new(Self { topics, queue, directory, supervisor, policy })
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The policy.
    pub fn policy(&self) -> &TopicPolicy {
        &self.policy
    }

    /// A topic for use, its actors started; `None` when none of that name exists.
    pub fn find(&self, name: &TopicName) -> Option<Arc<TopicHandle>> {
        let handle = self.directory.topic(name)?;
        self.supervisor.activate(&handle);
        Some(handle)
    }

    /// A topic for publishing or subscribing: created if the policy allows that.
    ///
    /// # Errors
    /// [`TopicChangeError`]: missing and not to be created, or not storable.
    pub async fn ensure(&self, name: &TopicName) -> Result<Arc<TopicHandle>, TopicChangeError> {
        loop {
            if let Some(handle) = self.find(name) {
                return Ok(handle);
            }
            if !self.policy.auto_create {
                return Err(TopicChangeError::NotFound);
            }
            match self.make(name).await {
                // A deletion followed at once.
                Err(TopicChangeError::NotFound) => {}
                made => return made,
            }
        }
    }

    async fn make(&self, name: &TopicName) -> Result<Arc<TopicHandle>, TopicChangeError> {
        let change = TopicChange::Ensure {
            name: name.clone(),
            settings: self.policy.defaults,
            topics_max: self.policy.topics_max,
        };
        let changed = self.topics.change(change).await?;
        let handle = self.enter(changed.record)?;
        self.supervisor.activate(&handle);
        Ok(handle)
    }

    /// Creates a topic or replaces its settings; with `must_be_new` only creates.
    ///
    /// # Errors
    /// [`TopicChangeError`]: exists already, too many, or not storable.
    pub async fn put(
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
    pub async fn change(
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
    pub async fn delete(&self, name: TopicName) -> Result<(), TopicChangeError> {
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
}
