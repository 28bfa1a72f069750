//! Messages with a position: committed, and read.
//!
//! Invariant: bytes and position never change, so one block is shared by the cache and every
//! reader.

use bytes::Bytes;

use super::record::{Record, RecordError};
use super::{Epoch, JournalAge, StreamId, Timestamp};

/// A run of messages of one stream with consecutive offsets and one time of publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBlock {
    /// The stream they are in.
    pub stream: StreamId,
    /// The topic's epoch when they were placed.
    pub epoch: Epoch,
    /// Offset of the first message.
    pub base_offset: u64,
    /// How many messages there are.
    pub count: u32,
    /// Ingest sequence of the first input they came from.
    pub ingest_base: u64,
    /// When the journal stored them; the same for all of them.
    pub published_at: Timestamp,
    /// How old the journal was then: the age that they expire by.
    pub age: JournalAge,
    /// The encoded records.
    pub body: Bytes,
}

impl PlacedBlock {
    /// Some of the messages have a time to live. Goes through all of them.
    pub fn has_ttl(&self) -> bool {
        Record::any_has_ttl(&self.body)
    }

    /// The offset after the last message.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    /// The messages with their offsets; never more than the block counts.
    ///
    /// # Errors
    /// An item is [`RecordError::Malformed`] if the bytes are malformed; it is the last one.
    pub fn records(&self) -> Records<'_> {
        self.records_from(self.base_offset)
    }

    /// The same from this offset on; earlier ones are skipped unread.
    ///
    /// # Errors
    /// As [`PlacedBlock::records`].
    pub fn records_from(&self, from: u64) -> Records<'_> {
        let mut records = Records {
            base_offset: self.base_offset,
            rest: &self.body,
            next: self.base_offset,
            end: self.end_offset(),
        };
        while records.next < from.min(records.end)
            && Record::take_encoded(&mut records.rest).is_some()
        {
            records.next += 1;
        }
        records
    }

    /// The same from `from` on, if that is the position of a reader in this block.
    ///
    /// # Errors
    /// As [`PlacedBlock::records`].
    pub fn records_at(&self, from: u64, place: Option<RecordPlace>) -> Records<'_> {
        let here =
            |place: &RecordPlace| (place.base_offset, place.offset) == (self.base_offset, from);
        let Some(place) = place.filter(here) else { return self.records_from(from) };
        let begun = self.body.len().saturating_sub(place.bytes_left);
        let (base_offset, end) = (self.base_offset, self.end_offset());
        Records { base_offset, rest: &self.body[begun..], next: from, end }
    }
}

/// Iterates over the messages of a block.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    base_offset: u64,
    rest: &'a [u8],
    next: u64,
    end: u64,
}

/// A reader's position within a block, so that it can continue there without reading what is
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    base_offset: u64,
    /// Offset of the next message.
    pub offset: u64,
    bytes_left: usize,
}

impl Records<'_> {
    /// The byte position of the next message.
    pub fn place(&self) -> RecordPlace {
        RecordPlace {
            base_offset: self.base_offset,
            offset: self.next,
            bytes_left: self.rest.len(),
        }
    }
}

impl Records<'_> {
    /// Skips the next message; returns its offset, and its [bytes](Record::bytes).
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if the bytes are malformed; it was the last one.
    pub fn pass_over(&mut self) -> Option<Result<(u64, usize), RecordError>> {
        if self.rest.is_empty() || self.next == self.end {
            return None;
        }
        let bytes = Record::take_encoded(&mut self.rest).and_then(Record::bytes_of_encoded);
        if bytes.is_none() {
            self.rest = &[];
        }
        let offset = self.next;
        self.next += 1;
        Some(bytes.map(|bytes| (offset, bytes)).ok_or(RecordError::Malformed))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u64, Record<'a>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.next == self.end {
            return None;
        }
        let record = Record::decode(&mut self.rest);
        if record.is_err() {
            self.rest = &[];
        }
        let item = record.map(|record| (self.next, record));
        self.next += 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlockBuilder;

    fn placed(records: &[Record<'_>]) -> PlacedBlock {
        let mut builder = BlockBuilder::default();
        records.iter().for_each(|record| builder.push(record).unwrap());
        let block = builder.finish().unwrap();
        assert!(builder.finish().is_none());
        PlacedBlock {
            stream: StreamId(1),
            epoch: Epoch::FIRST,
            base_offset: 40,
            count: block.count(),
            ingest_base: 40,
            published_at: Timestamp(0),
            age: JournalAge(0),
            body: block.body().clone(),
        }
    }

    #[test]
    fn a_placed_block_counts_offsets_from_its_base() {
        let placed = placed(&[Record::json(b"1"), Record::json(b"2")]);
        let found: Vec<_> =
            placed.records().map(|r| r.unwrap()).map(|(o, r)| (o, r.payload.to_vec())).collect();
        assert_eq!(found, [(40, b"1".to_vec()), (41, b"2".to_vec())]);
        assert_eq!(placed.end_offset(), 42);
    }

    #[test]
    fn a_reader_goes_on_where_it_stood() {
        let placed = placed(&[Record::json(b"1"), Record::json(b"2"), Record::json(b"3")]);
        let mut records = placed.records_from(41);
        let before = records.place();
        records.next();
        let offsets = |from, place| {
            let records = placed.records_at(from, Some(place));
            records.map(|record| record.unwrap().0).collect::<Vec<_>>()
        };
        assert_eq!(offsets(41, before), [41, 42]);
        assert_eq!(offsets(42, records.place()), [42]);
        assert_eq!(offsets(41, records.place()), [41, 42], "it stands elsewhere");
        records.next();
        let end = records.place();
        assert_eq!(offsets(43, end), [0; 0]);
        let following = PlacedBlock { base_offset: 43, ..placed };
        assert_eq!(following.records_at(43, Some(end)).count(), 3, "another block");
    }

    #[test]
    fn offsets_end_where_the_count_says_whatever_the_bytes_hold() {
        let two = placed(&[Record::json(b"1"), Record::json(b"2")]);
        let last = PlacedBlock { base_offset: u64::MAX - 1, count: 1, ..two };
        let offsets: Vec<_> = last.records().map(|record| record.unwrap().0).collect();
        assert_eq!(offsets, [u64::MAX - 1]);
    }

    #[test]
    fn messages_that_are_passed_over_have_the_bytes_that_read_ones_have() {
        let all = Record {
            key: Some("key"),
            message_id: Some("m"),
            attributes: vec![("a", "b"), ("c", "")],
            ttl_ms: Some(5),
            ..Record::of("x/y", b"payload")
        };
        let key = Record { key: Some("é"), ..Record::json(b"2") };
        let mut placed = placed(&[Record::json(b"1"), all, Record::of("text/plain", b""), key]);
        let expected = placed.records().map(|item| item.map(|(at, record)| (at, record.bytes())));
        let mut records = placed.records();
        let found: Vec<_> = std::iter::from_fn(|| records.pass_over()).collect();
        assert_eq!(found, expected.collect::<Vec<_>>());
        assert_eq!(found.len(), 4);
        // For any bytes it ends, and within them.
        for cut in 0..placed.body.len() {
            placed.body = placed.body.slice(..placed.body.len() - usize::from(cut > 0));
            let mut records = placed.records();
            let found = std::iter::from_fn(|| records.pass_over());
            assert!(found.count() <= 4);
        }
    }

    #[test]
    fn one_message_with_a_ttl_is_enough_for_a_block_to_expire_in_part() {
        let ttl = Record { ttl_ms: Some(5), ..Record::json(b"2") };
        assert!(!placed(&[Record::json(b"1")]).has_ttl());
        assert!(placed(&[Record::json(b"1"), ttl, Record::json(b"3")]).has_ttl());
    }
}
