//! Supervision: starting actors, noticing their deaths, restarting them, giving up in time.
//!
//! actix's own supervisor does not survive a panic, so each actor's context is run as a task here
//! and its end awaited (`supervise`); how often it may be restarted is a plain state machine
//! (`budget`). [`Supervisor`] knows the actors of a topic.
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

use super::directory::{Slot, TopicHandle};
use super::ingest::IngestLogger;
use super::producer::Producer;
use super::topic::Topic;
use crate::queue::Queue;
use crate::topics::Topics;
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

/// See the module. Shared by everything that needs an actor started.
pub struct Supervisor {
    topics: Topics,
    queue: Queue,
    arbiters: Vec<ArbiterHandle>,
    restarts: RestartPolicy,
}

impl Supervisor {
    /// Supervises actors on the given threads.
    pub fn new(
        topics: Topics,
        queue: Queue,
        arbiters: Vec<ArbiterHandle>,
        restarts: RestartPolicy,
    ) -> Arc<Self> {
        Arc::new(Self { topics, queue, arbiters, restarts })
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

    /// Starts a topic's actors, if this is its first use.
    pub fn activate(&self, handle: &Arc<TopicHandle>) {
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
