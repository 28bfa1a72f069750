//! Blocks that were read from the disk a short time ago.
//!
//! Readers receive a few messages at a time, and a block may hold thousands: without this cache
//! each piece would have the whole block read and verified anew, by every reader of it.
//!
//! Invariants: the blocks together stay within the budget, but for a single one; the oldest go
//! first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ReadBlock, ReadLimits};
use crate::model::TopicId;

/// Bytes of all blocks together. Several readers' blocks at once, at a block's usual size.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most blocks: they are searched one by one.
const BLOCKS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct ReadCache(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    blocks: VecDeque<Arc<ReadBlock>>,
    bytes: usize,
}

impl ReadCache {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks from the one that holds `from` on, as far as they follow one another here.
    pub(super) fn read(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Option<Vec<Arc<ReadBlock>>> {
        let recent = self.lock();
        let holds = |block: &Arc<ReadBlock>, offset| {
            block.stream == topic.outgoing()
                && (block.base_offset..block.end_offset()).contains(&offset)
        };
        let start = recent.blocks.iter().position(|block| holds(block, from))?;
        let mut found: Vec<Arc<ReadBlock>> = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        for block in recent.blocks.range(start..) {
            let full = next - from >= limits.messages || bytes >= limits.bytes;
            if !holds(block, next) || (full && !found.is_empty()) {
                break;
            }
            next = block.end_offset();
            bytes += block.body.len() as u64;
            found.push(block.clone());
        }
        Some(found)
    }

    /// Remembers the blocks read.
    pub(super) fn push(&self, blocks: &[Arc<ReadBlock>]) {
        let mut recent = self.lock();
        for block in blocks {
            recent.bytes += block.body.len();
            recent.blocks.push_back(block.clone());
        }
        while recent.blocks.len() > 1
            && (recent.bytes > BYTES_MAX || recent.blocks.len() > BLOCKS_MAX)
        {
            if let Some(block) = recent.blocks.pop_front() {
                recent.bytes -= block.body.len();
            }
        }
    }

    /// Drops a deleted topic's blocks.
    pub(super) fn forget(&self, topic: TopicId) {
        let mut recent = self.lock();
        recent.blocks.retain(|block| block.stream != topic.outgoing());
        recent.bytes = recent.blocks.iter().map(|block| block.body.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::read_block::tests::placed;

    fn block(topic: u32, base_offset: u64, bytes: usize) -> Arc<ReadBlock> {
        ReadBlock::new(placed(topic, base_offset, (1, bytes)))
    }

    fn bases(cache: &ReadCache, topic: u32, from: u64, bytes: u64) -> Option<Vec<u64>> {
        let found = cache.read(TopicId(topic), from, ReadLimits { messages: 100, bytes })?;
        Some(found.iter().map(|block| block.base_offset).collect())
    }

    #[test]
    fn blocks_that_follow_one_another_are_given_together_and_a_hole_ends_them() {
        let cache = ReadCache::default();
        cache.push(&[block(1, 3, 10), block(1, 4, 10), block(1, 6, 10), block(2, 7, 10)]);
        assert_eq!(bases(&cache, 1, 3, u64::MAX), Some(vec![3, 4]));
        assert_eq!(bases(&cache, 1, 3, 1), Some(vec![3]));
        assert_eq!(bases(&cache, 1, 6, u64::MAX), Some(vec![6]));
        assert_eq!(bases(&cache, 1, 5, u64::MAX), None);
        assert_eq!(bases(&cache, 2, 6, u64::MAX), None, "another topic's");
        cache.forget(TopicId(1));
        assert_eq!(bases(&cache, 1, 3, u64::MAX), None);
        assert_eq!(bases(&cache, 2, 7, u64::MAX), Some(vec![7]));
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many_or_too_large() {
        let cache = ReadCache::default();
        for base in 0..=BLOCKS_MAX as u64 {
            cache.push(&[block(1, base, 1)]);
        }
        assert_eq!(bases(&cache, 1, 0, 1), None);
        assert_eq!(bases(&cache, 1, 1, 1), Some(vec![1]));
        cache.push(&[block(2, 0, BYTES_MAX)]);
        assert_eq!(bases(&cache, 1, BLOCKS_MAX as u64, 1), None);
        assert_eq!(bases(&cache, 2, 0, 1), Some(vec![0]));
    }
}
