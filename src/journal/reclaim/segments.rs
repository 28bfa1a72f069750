//! How many bytes of blocks are still kept, by their position in a log.
//!
//! A log's sequences are counted off in segments of [`SEGMENT_CHUNKS`]. The writer adds what it
//! writes and takes off what is trimmed; what is below the first segment with something live can be
//! dropped from the disk.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::model::Sequence;

/// Chunks of a segment.
pub(in crate::journal) const SEGMENT_CHUNKS: u64 = 256;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::journal) struct SegmentUsage {
    live: BTreeMap<u64, u64>,
}

impl SegmentUsage {
    /// Blocks were written, or found when the journal was opened.
    pub(in crate::journal) fn add(&mut self, sequence: Sequence, weight: u64) {
        if weight > 0 {
            *self.live.entry(sequence.0 / SEGMENT_CHUNKS).or_default() += weight;
        }
    }

    /// A block is not needed any more, or was moved.
    pub(in crate::journal) fn remove(&mut self, sequence: Sequence, weight: u64) {
        let segment = sequence.0 / SEGMENT_CHUNKS;
        let live = self.live.entry(segment).or_default();
        let Some(left) = live.checked_sub(weight) else {
            // Better to keep a segment for ever than to drop needed blocks.
            tracing::error!(segment, "a segment gives up more than it has; it is kept");
            *live = u64::MAX / 2;
            return;
        };
        *live = left;
        if left == 0 {
            self.live.remove(&segment);
        }
    }

    /// Bytes live in all segments.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.values().fold(0, |sum, live| sum.saturating_add(*live))
    }

    /// The first sequence that may be needed; `next` when nothing is live.
    pub(super) fn floor(&self, next: Sequence) -> Sequence {
        let segment = next.0 / SEGMENT_CHUNKS;
        let first = self.live.keys().next().map_or(segment, |first| segment.min(*first));
        Sequence(first * SEGMENT_CHUNKS)
    }

    /// The oldest segment with live bytes, and how many.
    pub(super) fn oldest(&self) -> Option<(Range<u64>, u64)> {
        let (segment, live) = self.live.first_key_value()?;
        Some((segment * SEGMENT_CHUNKS..(segment + 1) * SEGMENT_CHUNKS, *live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_first_segment_with_something_live() {
        let mut usage = SegmentUsage::default();
        let next = Sequence(3 * SEGMENT_CHUNKS + 5);
        assert_eq!(usage.floor(next), Sequence(3 * SEGMENT_CHUNKS));
        for sequence in [3, 4, SEGMENT_CHUNKS] {
            usage.add(Sequence(sequence), 10);
        }
        assert_eq!((usage.floor(next), usage.live_bytes()), (Sequence(0), 30));
        usage.remove(Sequence(3), 10);
        usage.remove(Sequence(4), 10);
        assert_eq!(usage.floor(next), Sequence(SEGMENT_CHUNKS));
        assert_eq!(usage.oldest(), Some((SEGMENT_CHUNKS..2 * SEGMENT_CHUNKS, 10)));
    }
}
