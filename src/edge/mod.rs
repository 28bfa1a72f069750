//! The edge: where clients come in and answers go out.
//!
//! `http` and `ws` turn requests and frames into calls of the patterns, `wire` knows how messages
//! look outside, `admission` bounds what is inside, `error` is the one table of error answers.
//!
//! Invariants: a block goes on only with its bytes admitted, and before that a client can make us
//! hold one body piece, or a socket's frames in hand and one message; every refusal is a problem
//! object that names what is wrong; the edge keeps no state that a restart would lose,
//! except what its clients will send again.

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
    /// Finds, starts and changes topics.
    pub supervisor: Arc<Supervisor>,
    /// What is read from.
    pub queue: Queue,
    /// Seals receipts.
    pub receipts: ReceiptKey,
    /// Hashes message ids.
    pub message_ids: MessageIdKey,
    /// The limits in force.
    pub limits: LimitSettings,
    /// Who may call us, and by what name.
    pub hosts: ServerSettings,
    /// What is open.
    pub connections: Arc<Connections>,
    /// Who follows topics.
    pub readers: Readers,
    /// The byte budget of what is under way.
    pub admission: Admission,
    /// The byte budget, five eighths as large, of what has not come whole yet.
    pub unfinished: Admission,
    /// One body at a time may come in without room there, so that bodies which each have some and
    /// wait for more don't wait for each other.
    pub last_upload: Semaphore,
    /// The byte budget of what goes out to readers.
    pub outgoing: Outgoing,
    /// Who asked too often for receipts that don't exist.
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

    /// The largest payload a topic takes: what it says, and what the broker allows now.
    pub fn message_bytes_max(&self, settings: &TopicSettings) -> usize {
        settings.message_bytes_max.min(self.limits.message_bytes_max)
    }

    /// Why no new work is taken, if so.
    pub fn not_ready(&self) -> Option<&'static str> {
        // It won't come back; the others may.
        if self.queue.has_failed() {
            return Some("journal-failed");
        }
        match self.is_draining() {
            true => Some("draining"),
            false => self.queue.is_storage_full().then_some("storage-full"),
        }
    }

    /// What a topic is doing; one with damage that nobody has accepted does nothing.
    pub fn topic_state(&self, topic: &TopicHandle) -> TopicState {
        if self.is_damaged(topic) { TopicState::Quarantined } else { topic.state() }
    }

    /// Some of the topic's messages are damaged, and that was not accepted yet.
    pub fn is_damaged(&self, topic: &TopicHandle) -> bool {
        self.queue.extent(topic.id()).is_some_and(|extent| extent.damaged)
    }

    /// The broker takes no new work.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
