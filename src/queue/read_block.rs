//! A block as readers share it: what is stored, and what they have worked out of it.
//!
//! Invariant: what is worked out depends on the block's bytes alone, so one reader does it for all.

use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use bytestring::ByteString;

use crate::model::PlacedBlock;

/// See the module.
#[derive(Debug)]
pub struct ReadBlock {
    placed: Arc<PlacedBlock>,
    json: OnceLock<BlockJson>,
    may_expire: OnceLock<bool>,
}

/// A block's messages in JSON, within a frame that is sent to many readers as it is. Cloning shares
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockJson {
    frame: ByteString,
    messages: Range<usize>,
}

/// What a message's JSON takes beside its payload, key and so on: names, offset, receipt, time; and
/// the frame around it.
const JSON_OVERHEAD_BYTES: usize = 192;

impl Deref for ReadBlock {
    type Target = PlacedBlock;

    fn deref(&self) -> &PlacedBlock {
        &self.placed
    }
}

impl ReadBlock {
    /// Nothing is worked out yet.
    pub fn new(placed: Arc<PlacedBlock>) -> Arc<Self> {
        Arc::new(Self { placed, json: OnceLock::new(), may_expire: OnceLock::new() })
    }

    /// The largest JSON form that is kept; a cache has to reckon with it.
    pub fn json_bytes_max(&self) -> usize {
        // Payloads that are no text are written in base64.
        self.body.len().div_ceil(3) * 4 + JSON_OVERHEAD_BYTES * self.count as usize
    }

    /// The messages as clients read them in JSON, if a reader has left them here.
    pub fn json(&self) -> Option<&BlockJson> {
        self.json.get()
    }

    /// Leaves the messages' JSON form for others, unless it takes more than
    /// [`ReadBlock::json_bytes_max`].
    pub fn keep_json(&self, json: &BlockJson) {
        if json.frame.len() <= self.json_bytes_max() {
            // Another reader may have set it first; the value is the same.
            let _ = self.json.set(json.clone());
        }
    }

    /// Some of the messages have a time to live.
    pub fn may_expire(&self) -> bool {
        *self.may_expire.get_or_init(|| self.placed.has_ttl())
    }
}

impl BlockJson {
    /// The frame, and where in it the messages stand.
    ///
    /// # Panics
    /// That is not within it.
    pub fn new(frame: ByteString, messages: Range<usize>) -> Self {
        assert!(frame.get(messages.clone()).is_some(), "{messages:?} of {}", frame.len());
        Self { frame, messages }
    }

    /// The whole frame.
    pub fn frame(&self) -> &ByteString {
        &self.frame
    }

    /// The messages: objects with commas between them.
    pub fn messages(&self) -> &str {
        &self.frame[self.messages.clone()]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{BlockBuilder, Epoch, JournalAge, Record, Timestamp, TopicId};

    /// A block of so many messages of so many bytes.
    pub(in crate::queue) fn placed(
        topic: u32,
        base_offset: u64,
        (count, bytes): (u32, usize),
    ) -> Arc<PlacedBlock> {
        let mut builder = BlockBuilder::default();
        for _ in 0..count {
            builder.push(&Record::of("application/octet-stream", &vec![0; bytes])).unwrap();
        }
        let block = builder.finish().unwrap();
        Arc::new(PlacedBlock {
            stream: TopicId(topic).outgoing(),
            epoch: Epoch::FIRST,
            base_offset,
            count,
            ingest_base: base_offset,
            published_at: Timestamp(0),
            age: JournalAge(0),
            body: block.body().clone(),
        })
    }

    #[test]
    fn a_json_form_over_its_size_is_not_kept() {
        let block = ReadBlock::new(placed(1, 0, (1, 1)));
        block.keep_json(&BlockJson::new(" ".repeat(block.json_bytes_max() + 1).into(), 0..1));
        assert!(block.json().is_none());
        block.keep_json(&BlockJson::new("[1]".into(), 1..2));
        assert_eq!(block.json().map(|json| (&**json.frame(), json.messages())), Some(("[1]", "1")));
    }
}
