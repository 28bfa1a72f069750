//! The block: a run of consecutive messages of one topic, the unit of every hand-over.
//!
//! A [`Block`] is what a producer sends: encoded records without a position. The journal's writer
//! gives it a base offset and a time; from then on it is (part of) a
//! [`PlacedBlock`](super::PlacedBlock).

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::TraceParent;
use super::message_id::{Fingerprint, MessageIdKey};
use super::record::{Record, RecordError};

/// Most bytes of a block, unless it is a single message: a block is stored as a whole, and a larger
/// one would make all others wait.
pub const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The next block is not expected to be larger.
const EXPECTED_BYTES_MAX: usize = 64 * 1024;
/// Memory that a block has beside its bytes is released if it is more than this, and more than this
/// part of them.
const UNUSED_BYTES_MIN: usize = 1024;
const UNUSED_SHARE: usize = 8;

/// Encoded messages in flight to the journal. It is one pointer, and cloning shares all of it.
#[derive(Clone)]
pub struct Block(Arc<Content>);

#[derive(Clone)]
struct Content {
    body: Bytes,
    count: u32,
    /// The messages that have an id, by their place in the block, in order.
    fingerprints: Vec<(u32, Fingerprint)>,
    named: Option<NamedRun>,
    trace: Option<TraceParent>,
    _charge: Option<Arc<dyn Send + Sync>>,
}

/// The ids that a named producer gave a block's messages.
#[derive(Clone, Debug)]
pub struct NamedRun {
    /// The producer's name.
    pub name: Arc<str>,
    /// The claim that they are sent under.
    pub claim: u64,
    /// One id a message, rising.
    pub ids: Arc<[u64]>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("count", &self.0.count).field("body", &self.0.body).finish()
    }
}

impl Block {
    fn of(body: Bytes, count: u32, fingerprints: Vec<(u32, Fingerprint)>) -> Self {
        let (named, trace, _charge) = (None, None, None);
        Self(Arc::new(Content { body, count, fingerprints, named, trace, _charge }))
    }

    /// A block that was stored before: its records as they are encoded.
    pub fn stored(body: Bytes, count: u32) -> Self {
        Self::of(body, count, Vec::new())
    }

    /// The block, holding on to `charge` until its last clone is dropped: what its bytes take of
    /// some budget, wherever they are.
    pub fn charged(mut self, charge: impl Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0)._charge = Some(Arc::new(charge));
        self
    }

    /// The block, as a named producer numbered it.
    pub fn numbered(mut self, named: NamedRun) -> Self {
        debug_assert_eq!(named.ids.len(), self.0.count as usize);
        Arc::make_mut(&mut self.0).named = Some(named);
        self
    }

    /// The block, as a part of a trace.
    pub fn traced(mut self, trace: Option<TraceParent>) -> Self {
        Arc::make_mut(&mut self.0).trace = trace;
        self
    }

    /// The trace it belongs to.
    pub fn trace(&self) -> Option<&TraceParent> {
        self.0.trace.as_ref()
    }

    /// Its messages' own ids, by place in the block, in order.
    pub fn fingerprints(&self) -> &[(u32, Fingerprint)] {
        &self.0.fingerprints
    }

    /// The numbers a named producer gave its messages.
    pub fn named(&self) -> Option<&NamedRun> {
        self.0.named.as_ref()
    }

    /// The block without some of its messages, given by place; `None` when nothing is left.
    pub fn without(&self, leave_out: impl Fn(u32) -> bool) -> Option<Self> {
        let mut body = BytesMut::with_capacity(self.body().len());
        let mut rest = &self.body()[..];
        let mut kept = Vec::new();
        for place in 0..self.count() {
            let record = Record::take_encoded(&mut rest).unwrap_or_default();
            if !leave_out(place) {
                body.extend_from_slice(record);
                kept.push(place);
            }
        }
        let moved = |(place, print): &(u32, Fingerprint)| {
            kept.binary_search(place).ok().map(|now| (now as u32, *print))
        };
        let content = || Content {
            body: body.freeze(),
            count: kept.len() as u32,
            fingerprints: self.fingerprints().iter().filter_map(moved).collect(),
            named: None,
            trace: self.0.trace.clone(),
            _charge: self.0._charge.clone(),
        };
        (!kept.is_empty()).then(|| Self(Arc::new(content())))
    }

    /// The block in parts, in order, of at most N bytes or of a single message.
    pub fn split(self, bytes_max: usize) -> Vec<Self> {
        if self.body().len() <= bytes_max {
            return vec![self];
        }
        let mut parts = Vec::new();
        let (mut rest, mut first) = (&self.body()[..], 0);
        let (mut bytes_from, mut bytes) = (0, 0);
        for place in 0..self.count() {
            let record = Record::take_encoded(&mut rest).unwrap_or_default().len();
            if bytes > 0 && bytes + record > bytes_max {
                parts.push(self.part(first..place, bytes_from..bytes_from + bytes));
                (first, bytes_from, bytes) = (place, bytes_from + bytes, 0);
            }
            bytes += record;
        }
        parts.push(self.part(first..self.count(), bytes_from..self.body().len()));
        parts
    }

    /// Some of its messages, given by place and by the bytes they take.
    fn part(&self, places: Range<u32>, bytes: Range<usize>) -> Self {
        let moved = |(place, print): &(u32, Fingerprint)| {
            places.contains(place).then(|| (place - places.start, *print))
        };
        let numbered = |run: &NamedRun| NamedRun {
            name: run.name.clone(),
            claim: run.claim,
            ids: run.ids[places.start as usize..places.end as usize].into(),
        };
        Self(Arc::new(Content {
            body: self.body().slice(bytes),
            count: places.end - places.start,
            fingerprints: self.fingerprints().iter().filter_map(moved).collect(),
            named: self.named().map(numbered),
            trace: self.0.trace.clone(),
            _charge: self.0._charge.clone(),
        }))
    }

    /// The encoded records.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// How many messages it holds; at least one.
    pub fn count(&self) -> u32 {
        self.0.count
    }
}

/// Collects records into a block. The default one has no key and so leaves message ids alone.
///
/// A block's memory is its own and hardly more than its bytes, since a budget knows it by those.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    message_ids: Option<MessageIdKey>,
    body: Vec<u8>,
    /// Bytes of the previous block, which the next one is likely to have, too.
    expected: usize,
    count: u32,
    fingerprints: Vec<(u32, Fingerprint)>,
}

impl BlockBuilder {
    /// A builder that takes the fingerprints of messages with an id.
    pub fn new(message_ids: MessageIdKey) -> Self {
        Self { message_ids: Some(message_ids), ..Self::default() }
    }

    /// Makes room for N bytes more, if it is known how much will follow.
    pub fn reserve(&mut self, bytes: usize) {
        self.body.reserve(bytes);
    }

    /// Adds one message.
    ///
    /// # Errors
    /// [`RecordError`] when a part is over its limit; the block is as it was.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        record.validate()?;
        if self.body.capacity() == 0 {
            self.body.reserve(self.expected);
        }
        record.encode(&mut self.body);
        if let (Some(key), Some(message_id)) = (&self.message_ids, record.message_id) {
            let print = key.fingerprint(message_id, record.payload);
            self.fingerprints.push((self.count, print));
        }
        self.count += 1;
        Ok(())
    }

    /// Messages so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Encoded bytes so far.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Takes what was collected and starts anew; `None` if that is nothing.
    pub fn finish(&mut self) -> Option<Block> {
        if self.count == 0 {
            return None;
        }
        let count = std::mem::take(&mut self.count);
        let mut body = std::mem::take(&mut self.body);
        self.expected = body.len().min(EXPECTED_BYTES_MAX);
        if body.capacity() - body.len() > UNUSED_BYTES_MIN.max(body.len() / UNUSED_SHARE) {
            body.shrink_to_fit();
        }
        let fingerprints = std::mem::take(&mut self.fingerprints);
        Some(Block::of(body.into(), count, fingerprints))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_can_leave_messages_out_and_their_ids_move_along() {
        let mut builder = BlockBuilder::new(MessageIdKey::new([0; 16]));
        for (message_id, payload) in [(None, b"0"), (Some("a"), b"1"), (Some("b"), b"2")] {
            builder.push(&Record { message_id, ..Record::json(payload) }).unwrap();
        }
        let block = builder.finish().unwrap();
        assert_eq!(block.fingerprints().len(), 2);
        let left = block.without(|place| place == 1).unwrap();
        assert_eq!((left.count(), left.fingerprints().len()), (2, 1));
        assert_eq!(left.fingerprints()[0], (1, block.fingerprints()[1].1));
        let mut rest = &left.body()[..];
        assert_eq!(Record::decode(&mut rest).unwrap().payload, b"0");
        assert_eq!(Record::decode(&mut rest).unwrap().payload, b"2");
        assert!(block.without(|_| true).is_none());
    }

    #[test]
    fn a_large_block_is_split_between_messages_and_ids_move_along() {
        let mut builder = BlockBuilder::new(MessageIdKey::new([0; 16]));
        let payloads = [vec![b'0'; 40], vec![b'1'; 40], vec![b'2'; 500], vec![b'3'; 40]];
        for payload in &payloads {
            let message_id = Some(std::str::from_utf8(&payload[..1]).unwrap());
            let record = Record::of("application/octet-stream", payload);
            builder.push(&Record { message_id, ..record }).unwrap();
        }
        let (name, ids) = (Arc::from("a"), Arc::from([1, 2, 5, 9]));
        let block = builder.finish().unwrap().numbered(NamedRun { name, claim: 1, ids });
        let (body, prints) = (block.body().clone(), block.fingerprints().to_vec());
        assert_eq!(block.clone().split(body.len()).len(), 1);
        let parts = block.split(250);
        let counts: Vec<_> = parts.iter().map(Block::count).collect();
        assert_eq!(counts, [2, 1, 1]);
        let bodies: Vec<_> = parts.iter().flat_map(|part| part.body().to_vec()).collect();
        assert_eq!(bodies, body);
        assert_eq!(parts[0].fingerprints(), &prints[..2]);
        assert_eq!(parts[2].fingerprints(), [(0, prints[3].1)]);
        let ids: Vec<_> = parts.iter().map(|part| part.named().unwrap().ids.to_vec()).collect();
        assert_eq!(ids, [vec![1, 2], vec![5], vec![9]]);
    }
}
