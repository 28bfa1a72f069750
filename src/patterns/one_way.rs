//! One-way: a message is taken, and nobody hears of it again.
//!
//! It goes the way of every message, so that it is as safe as its topic's level makes it, but its
//! sender does not wait, and loss is counted instead of told.

use super::request_acknowledge;
use crate::actors::directory::TopicHandle;
use crate::model::Block;

/// Sends a block; false when it was not stored.
pub async fn send(topic: &TopicHandle, block: Block) -> bool {
    request_acknowledge::publish(topic, block).await.is_ok()
}
