//! What an owner of the small machine must be after so many changes.

use std::collections::BTreeMap;

use weir::journal::{StreamReadError, Streams};
use weir::model::ReadLimits;
use weir::model::StreamId;

use super::machine::{Change, Owner, SIDES, digest, payload};

/// An owner as it must be after so many changes.
#[derive(Clone, Debug, Default)]
pub struct Version {
    pub lengths: [Vec<u16>; SIDES],
    /// Which of the messages readers are told of.
    pub visible: [Vec<bool>; SIDES],
    digests: [u64; SIDES],
    values: BTreeMap<u8, u8>,
    trimmed: [u64; SIDES],
}

impl Version {
    pub fn after(&self, change: &Change) -> Self {
        let mut next = self.clone();
        for (side, lengths, visible) in &change.appends {
            for length in lengths {
                let offset = next.lengths[*side].len() as u64;
                next.digests[*side] = digest(next.digests[*side], u128::from(*length), offset);
                next.lengths[*side].push(*length);
                next.visible[*side].push(*visible);
            }
        }
        for (key, value) in &change.values {
            match value {
                Some(value) => drop(next.values.insert(*key, *value)),
                None => drop(next.values.remove(key)),
            }
        }
        if let Some((side, first)) = change.trim {
            next.trimmed[side] = next.trimmed[side].max(first.min(next.lengths[side].len() as u64));
        }
        next
    }

    /// Holds what was recovered against it; panics where they differ.
    pub fn compare(&self, owner: &Owner) {
        assert_eq!(owner.digests, self.digests, "what is learnt is what was written");
        assert_eq!(owner.heads, self.lengths.each_ref().map(|all| all.len() as u64));
        let small = self.values.iter().filter(|(key, _)| **key < 128);
        assert_eq!(owner.small, small.map(|(key, value)| (*key, *value)).collect());
    }

    /// The values that are looked up when they are needed.
    pub fn bulk(&self) -> BTreeMap<u8, u8> {
        let bulk = self.values.iter().filter(|(key, _)| **key >= 128);
        bulk.map(|(key, value)| (*key, *value)).collect()
    }

    /// Reads one side from its first block to its head; panics where it differs.
    pub fn check_stream(&self, streams: &Streams, stream: StreamId, side: usize) {
        let (lengths, trimmed) = (&self.lengths[side], self.trimmed[side]);
        let extent = streams.extent(stream).unwrap();
        assert_eq!(extent.head, lengths.len() as u64);
        assert!(extent.first <= trimmed, "{} is more than {trimmed}", extent.first);
        let limits = ReadLimits { messages: u64::MAX, bytes: u64::MAX };
        if extent.first > 0 {
            let gone = streams.read(stream, extent.first - 1, u64::MAX, limits);
            assert!(matches!(gone, Err(StreamReadError::Gone { first }) if first == extent.first));
        }
        let blocks = streams.read(stream, extent.first, u64::MAX, limits).unwrap();
        let mut expected = extent.first;
        for (offset, record) in blocks.iter().flat_map(|block| block.records().map(Result::unwrap))
        {
            assert_eq!(offset, expected);
            assert_eq!(record.payload, payload(offset, lengths[offset as usize]));
            expected += 1;
        }
        assert_eq!(expected, extent.head);
    }
}
