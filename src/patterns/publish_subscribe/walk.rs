//! Walking blocks that were read: messages, and the gaps between them.
//!
//! Invariants: the results follow each other without a hole from the start of the walk; a message
//! whose `ttl_ms` has passed is never delivered, its offset is part of a gap; gaps don't touch.

use std::ops::Range;
use std::sync::Arc;

use crate::model::{Gap, JournalAge, RecordError};
use crate::queue::ReadBlock;

/// A reader's next item.
#[derive(Debug)]
pub enum Found<'a> {
    /// These offsets of this block.
    Messages(&'a Arc<ReadBlock>, Range<u64>),
    /// Offsets without a visible message: lost, released, or expired.
    Gap(Gap),
}

/// Walks blocks, as the queue returns them, from offset `from` on.
///
/// # Errors
/// [`RecordError::Malformed`] when a block's bytes are not records.
pub fn walk(
    blocks: &[Arc<ReadBlock>],
    from: u64,
    now: JournalAge,
) -> Result<Vec<Found<'_>>, RecordError> {
    let mut path = Path { next: from, found: Vec::with_capacity(blocks.len()) };
    for block in blocks {
        path.pass_to(block.base_offset);
        if !block.may_expire() {
            path.keep(block, block.end_offset());
            continue;
        }
        for item in block.records_from(from) {
            let (offset, record) = item?;
            match record.has_expired(block.age, now) {
                true => path.pass_to(offset + 1),
                false => path.keep(block, offset + 1),
            }
        }
    }
    Ok(path.found)
}

struct Path<'a> {
    next: u64,
    found: Vec<Found<'a>>,
}

impl<'a> Path<'a> {
    /// Nothing is visible before `end`.
    fn pass_to(&mut self, end: u64) {
        let Some(gap) = Gap::before(self.next, end) else { return };
        match self.found.last_mut() {
            Some(Found::Gap(before)) => before.to = gap.to,
            _ => self.found.push(Found::Gap(gap)),
        }
        self.next = end;
    }

    /// The block's messages are visible up to `end`.
    fn keep(&mut self, block: &'a Arc<ReadBlock>, end: u64) {
        if end <= self.next {
            return;
        }
        match self.found.last_mut() {
            Some(Found::Messages(last, offsets)) if Arc::ptr_eq(last, block) => offsets.end = end,
            _ => self.found.push(Found::Messages(block, self.next..end)),
        }
        self.next = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockBuilder, Epoch, PlacedBlock, Record, Timestamp, TopicId};

    /// A block of messages with these times to live, published at an age of 1000 ms.
    fn block(base_offset: u64, ttls_ms: &[Option<u64>]) -> Arc<ReadBlock> {
        let mut builder = BlockBuilder::default();
        for ttl_ms in ttls_ms {
            builder.push(&Record { ttl_ms: *ttl_ms, ..Record::json(b"1") }).unwrap();
        }
        let block = builder.finish().unwrap();
        ReadBlock::new(Arc::new(PlacedBlock {
            stream: TopicId(1).outgoing(),
            epoch: Epoch::FIRST,
            base_offset,
            count: block.count(),
            ingest_base: base_offset,
            published_at: Timestamp(0),
            age: JournalAge(1_000),
            body: block.body().clone(),
        }))
    }

    fn found(blocks: &[Arc<ReadBlock>], from: u64, now: u64) -> String {
        let found = walk(blocks, from, JournalAge(now)).unwrap();
        let tell = |found: &Found<'_>| match found {
            Found::Messages(_, offsets) => format!("{}..{}", offsets.start, offsets.end),
            Found::Gap(gap) => format!("gap {}-{}", gap.from, gap.to),
        };
        found.iter().map(tell).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn holes_between_blocks_are_gaps_and_a_walk_may_begin_within_a_block() {
        let blocks = [block(4, &[None; 3]), block(7, &[None; 2]), block(20, &[None])];
        assert_eq!(found(&blocks, 5, 0), "5..7, 7..9, gap 9-19, 20..21");
        assert_eq!(found(&blocks[2..], 9, 0), "gap 9-19, 20..21");
    }

    #[test]
    fn an_expired_message_is_part_of_a_gap_from_the_millisecond_its_time_has_passed() {
        let blocks = [block(0, &[Some(10), None, Some(10), Some(20)]), block(9, &[Some(0), None])];
        assert_eq!(found(&blocks, 0, 1_000), "0..4, gap 4-9, 10..11");
        assert_eq!(found(&blocks, 0, 1_009), "0..4, gap 4-9, 10..11");
        assert_eq!(found(&blocks, 0, 1_010), "gap 0-0, 1..2, gap 2-2, 3..4, gap 4-9, 10..11");
        assert_eq!(found(&blocks, 0, 1_020), "gap 0-0, 1..2, gap 2-9, 10..11");
        assert_eq!(found(&blocks, 3, 1_020), "gap 3-9, 10..11");
    }
}
