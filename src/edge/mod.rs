//! The edge: where requests arrive and answers leave.
//!
//! `http` and `ws` turn requests and frames into calls of the patterns, `wire` defines messages'
//! encodings, `admission` bounds memory, `error` is the one table of error answers.
//!
//! Invariants: a block is sent on only with its bytes admitted, and before that a client can make
//! the broker hold one body piece, or a socket's frames in hand and one message; every refusal is a
//! problem object that names the fault; the edge keeps no state that a restart would lose, except
//! what its clients will send again.

pub mod admission;
mod allowed;
pub mod connections;
pub mod error;
pub mod guesses;
pub mod http;
pub mod outgoing;
mod patience;
pub mod readers;
mod settings;
pub mod wire;
pub mod ws;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

pub use settings::{LimitSettings, ServerSettings};

use crate::actors::directory::{TopicHandle, TopicState};
use crate::actors::supervisor::Supervisor;
use crate::actors::topic_service::TopicService;
use crate::clock::Clock;
use crate::model::{BlockBuilder, MessageIdKey, ReceiptKey, TopicSettings};
use crate::queue::Queue;
use admission::Admission;
use connections::Connections;
use guesses::Guesses;
use outgoing::Outgoing;
use readers::Readers;

/// What every request and session needs.
pub struct Edge {
    /// Finds, makes and changes topics.
    pub topics: Arc<TopicService>,
    /// Starts producers, and quarantined topics again.
    pub supervisor: Arc<Supervisor>,
    /// The source of reads.
    pub queue: Queue,
    /// Seals receipts.
    pub receipts: ReceiptKey,
    /// Hashes message ids.
    pub message_ids: MessageIdKey,
    /// The limits in force.
    pub limits: LimitSettings,
    /// Which pages and host names may call.
    pub hosts: ServerSettings,
    /// The open connections.
    pub connections: Arc<Connections>,
    /// The followers of topics.
    pub readers: Readers,
    /// The byte budget of messages in flight.
    pub admission: Admission,
    /// The byte budget, five eighths as large, of incomplete messages and bodies.
    pub unfinished: Admission,
    /// One body at a time may be read without room there, so that bodies which each have some and
    /// wait for more don't wait for each other.
    pub last_upload: Semaphore,
    /// The byte budget of output to readers.
    pub outgoing: Outgoing,
    /// Limits requests for receipts that don't exist.
    pub guesses: Guesses,
    /// The time.
    pub clock: Clock,
    /// Becomes true when the broker is to stop.
    pub draining: watch::Receiver<bool>,
    /// A sender is held by every open session, so that draining can wait for the last one.
    pub sessions: watch::Sender<()>,
    /// The same of every request that publishes.
    pub publishing: watch::Sender<()>,
}

impl Edge {
    /// Collects messages into blocks whose message ids count.
    pub fn block_builder(&self) -> BlockBuilder {
        BlockBuilder::new(self.message_ids.clone())
    }

    /// The largest payload a topic accepts: its setting, and what the broker allows now.
    pub fn message_bytes_max(&self, settings: &TopicSettings) -> usize {
        settings.message_bytes_max.min(self.limits.message_bytes_max)
    }

    /// Why no new work is accepted, if so.
    pub fn not_ready(&self) -> Option<&'static str> {
        // This one won't recover; the others may.
        if self.queue.has_failed() {
            return Some("journal-failed");
        }
        match self.is_draining() {
            true => Some("draining"),
            false => self.queue.is_storage_full().then_some("storage-full"),
        }
    }

    /// The topic's state. Damage that has not been accepted means quarantined.
    pub fn topic_state(&self, topic: &TopicHandle) -> TopicState {
        if self.is_damaged(topic) { TopicState::Quarantined } else { topic.state() }
    }

    /// Some of the topic's messages are damaged, and that has not been accepted yet.
    pub fn is_damaged(&self, topic: &TopicHandle) -> bool {
        self.queue.extent(topic.id()).is_some_and(|extent| extent.damaged)
    }

    /// The broker accepts no new work.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
