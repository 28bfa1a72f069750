//! One-way: a message is taken, and nobody hears of it again.
//!
//! It goes the way of every message, so that it is as safe as its topic's level makes it, but its
//! sender does not wait, and loss is counted instead of told.

use super::request_acknowledge;
use crate::actors::directory::TopicHandle;
use crate::model::{BLOCK_BYTES_MAX, Block};

/// Sends a block; how many of its messages, and bytes, were stored.
pub async fn send(topic: &TopicHandle, block: Block) -> (u64, u64) {
    let (mut messages, mut bytes) = (0, 0);
    for part in block.split(BLOCK_BYTES_MAX) {
        let (count, length) = (u64::from(part.count()), part.body().len() as u64);
        if request_acknowledge::publish(topic, part).await.is_err() {
            break;
        }
        (messages, bytes) = (messages + count, bytes + length);
    }
    (messages, bytes)
}
