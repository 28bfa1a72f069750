//! One-way: publish without an acknowledgement.
//!
//! It takes the path of every message, so that it is as safe as its topic's level makes it, but its
//! sender does not wait, and loss is counted instead of reported.
//!
//! Invariant: every message of a block is counted in [`Sent`], but those that its error is about.

use super::request_acknowledge::{self, PublishError};
use crate::actors::topic_service::TopicService;
use crate::model::{Appended, BLOCK_BYTES_MAX, Block, NotStored, Outcome, TopicName};

/// The results of a block's messages.
#[derive(Debug, Default)]
pub struct Sent {
    /// Messages that are new in the topic.
    pub stored: u64,
    /// Encoded bytes of the parts that were stored.
    pub bytes: u64,
    /// Messages whose id is that of the same message.
    pub duplicates: u64,
    /// Messages whose id is that of another one.
    pub conflicts: u64,
    /// Why all others were not stored.
    pub error: Option<PublishError>,
}

impl Sent {
    /// Adds the result of N messages.
    pub fn add(&mut self, appended: &Appended, messages: u32) {
        appended.outcomes().take(messages as usize).for_each(|outcome| self.count(outcome));
    }

    /// Adds the result of one message.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Stored(_) => self.stored += 1,
            Outcome::Not(NotStored::Duplicate(_)) => self.duplicates += 1,
            Outcome::Not(NotStored::Conflict) => self.conflicts += 1,
        }
    }
}

/// Sends a block to the topic of that name.
pub async fn send(topics: &TopicService, name: &TopicName, block: Block) -> Sent {
    let mut sent = Sent::default();
    for part in block.split(BLOCK_BYTES_MAX) {
        let (count, length) = (part.count(), part.body().len() as u64);
        match request_acknowledge::publish_to(topics, name, part).await {
            Ok((_, appended)) => {
                sent.bytes += length;
                sent.add(&appended, count);
            }
            Err(error) => {
                sent.error = Some(error);
                break;
            }
        }
    }
    sent
}
