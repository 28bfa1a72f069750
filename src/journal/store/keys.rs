//! What stands in `meta`, key by key.
//!
//! - `format`, `receipt-key`, `message-id-key`: written once.
//! - `positions`: with every commit, see `positions`.
//! - `topic/` + id: a topic's record, as JSON.
//! - `deleted/` + id: a topic that is deleted, while there are chunks with its blocks; the value
//!   is the sequence after the last of them (`u64` LE).
//! - `low/` + id: its low watermark ([`LowWatermark`]).
//! - `ids/` + id + number: message ids of its dedup window, see `dedup`.
//! - `producer/` + id + name: the last durable id of a named producer, see `named`.
//!
//! Ids are `u32` BE, numbers `u64` BE.

use bytes::{Buf, BufMut};

use crate::model::TopicId;

pub(super) const FORMAT: &[u8] = b"format";
pub(super) const RECEIPT_KEY: &[u8] = b"receipt-key";
pub(super) const MESSAGE_ID_KEY: &[u8] = b"message-id-key";
pub(super) const TOPIC: &[u8] = b"topic/";
pub(super) const DELETED: &[u8] = b"deleted/";
pub(super) const LOW: &[u8] = b"low/";
pub(super) const IDS: &[u8] = b"ids/";
pub(super) const PRODUCER: &[u8] = b"producer/";

/// The key under a prefix that belongs to a topic.
pub(super) fn of_topic(prefix: &[u8], topic: TopicId, rest: &[u8]) -> Vec<u8> {
    [prefix, &topic.0.to_be_bytes(), rest].concat()
}

/// The topic a key under the prefix belongs to.
pub(super) fn topic_of(prefix: &[u8], key: &[u8]) -> Option<TopicId> {
    let id = key.strip_prefix(prefix)?.first_chunk()?;
    Some(TopicId(u32::from_be_bytes(*id)))
}

/// Where a topic's kept messages begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct LowWatermark {
    /// The first offset kept.
    pub(in crate::journal) first: u64,
    /// Bytes of the blocks before it.
    pub(in crate::journal) bytes_before: u64,
}

impl LowWatermark {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.put_u64_le(self.first);
        out.put_u64_le(self.bytes_before);
        out
    }

    pub(super) fn decode(mut value: &[u8]) -> Option<Self> {
        (value.len() == 16)
            .then(|| Self { first: value.get_u64_le(), bytes_before: value.get_u64_le() })
    }
}
