//! The newest blocks, in memory, shared by every reader.
//!
//! Invariants: the cached blocks of a topic are consecutive and end at its head; all cached
//! bytes together stay within the budget, the oldest block of any topic going first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;

use super::{ReadBlock, ReadLimits};
use crate::model::{PlacedBlock, TopicId};

/// What a cached block costs besides its bytes and the JSON form that readers leave in it.
const BLOCK_OVERHEAD_BYTES: usize = 256;

fn cost(block: &ReadBlock) -> usize {
    block.body.len() + block.json_bytes_max() + BLOCK_OVERHEAD_BYTES
}

pub(super) struct TailCache {
    bytes_max: usize,
    tails: DashMap<TopicId, VecDeque<Arc<ReadBlock>>>,
    /// Every cached block in the order it came, across topics.
    age: Mutex<Age>,
}

#[derive(Default)]
struct Age {
    bytes: usize,
    order: VecDeque<(TopicId, usize)>,
}

impl TailCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, tails: DashMap::new(), age: Mutex::default() }
    }

    /// Adds new blocks and drops the oldest. Called by one thread only.
    pub(super) fn push(&self, blocks: &[Arc<PlacedBlock>]) {
        let mut age = self.age.lock().unwrap_or_else(PoisonError::into_inner);
        for block in blocks {
            let block = ReadBlock::new(block.clone());
            let bytes = cost(&block);
            age.bytes += bytes;
            let topic = TopicId::of_outgoing(block.stream);
            age.order.push_back((topic, bytes));
            self.tails.entry(topic).or_default().push_back(block);
        }
        while age.bytes > self.bytes_max {
            let Some((topic, bytes)) = age.order.pop_front() else { break };
            age.bytes -= bytes;
            if let Some(mut tail) = self.tails.get_mut(&topic) {
                tail.pop_front();
            }
            self.tails.remove_if(&topic, |_, tail| tail.is_empty());
        }
    }

    /// The blocks from the one that holds `from` on; `None` when it is not here.
    pub(super) fn read(
        &self,
        topic: TopicId,
        from: u64,
        limits: ReadLimits,
    ) -> Option<Vec<Arc<ReadBlock>>> {
        let tail = self.tails.get(&topic)?;
        let start = tail.partition_point(|block| block.end_offset() <= from);
        if tail.get(start)?.base_offset > from {
            return None;
        }
        let mut blocks = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        for block in tail.range(start..) {
            if messages >= limits.messages || bytes >= limits.bytes {
                break;
            }
            messages += block.end_offset() - from.max(block.base_offset);
            bytes += block.body.len() as u64;
            blocks.push(block.clone());
        }
        Some(blocks)
    }

    /// Drops a deleted topic's blocks; their cost is returned when their turn comes (ids are never
    /// reused, so no other topic's block goes then).
    pub(super) fn forget(&self, topic: TopicId) {
        self.tails.remove(&topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::read_block::tests::placed;

    fn block(topic: u32, base_offset: u64, bytes: usize) -> Arc<PlacedBlock> {
        placed(topic, base_offset, (2, bytes))
    }

    fn bases(cache: &TailCache, topic: u32, from: u64, messages: u64) -> Option<Vec<u64>> {
        let limits = ReadLimits { messages, bytes: u64::MAX };
        let blocks = cache.read(TopicId(topic), from, limits)?;
        Some(blocks.iter().map(|b| b.base_offset).collect())
    }

    #[test]
    fn reads_begin_at_the_block_that_holds_the_offset() {
        let cache = TailCache::new(1 << 20);
        cache.push(&[block(1, 4, 10), block(1, 6, 10), block(1, 8, 10)]);
        assert_eq!(bases(&cache, 1, 7, 100), Some(vec![6, 8]));
        assert_eq!(bases(&cache, 1, 4, 3), Some(vec![4, 6]));
        assert_eq!(bases(&cache, 1, 3, 100), None, "older than the cache");
        assert_eq!(bases(&cache, 1, 10, 100), None, "not written yet");
        assert_eq!(bases(&cache, 2, 0, 100), None, "another topic");
    }

    #[test]
    fn the_oldest_blocks_of_all_topics_go_first_when_the_budget_is_spent() {
        let cache = TailCache::new(2 * cost(&ReadBlock::new(block(1, 0, 1_000))));
        cache.push(&[block(1, 0, 1_000)]);
        cache.push(&[block(2, 0, 1_000)]);
        cache.push(&[block(2, 2, 1_000)]);
        assert_eq!(bases(&cache, 1, 0, 100), None);
        assert_eq!(bases(&cache, 2, 0, 100), Some(vec![0, 2]));
        assert_eq!(cache.tails.len(), 1, "an emptied topic leaves nothing behind");
    }
}
