//! Packs what one commit takes into chunks.
//!
//! All blocks that one topic appends in a commit become one block on disk, as far as they fit a
//! chunk; that is what keeps the index small when many producers send one message each.
//!
//! Invariants: a topic's blocks keep the order they were added in; no block is split; a chunk
//! exceeds [`CHUNK_BYTES`] only when a single block does.

use rustc_hash::FxHashMap;

use crate::journal::chunk::{self, CHUNK_BYTES, Chunk, Moment, Part};
use crate::model::{Block, Epoch, Sequence, TopicId};

/// Collects a commit's blocks, grouped by topic in the order the topics came.
#[derive(Debug, Default)]
pub(super) struct Packer {
    groups: Vec<Group>,
    by_topic: FxHashMap<TopicId, usize>,
}

#[derive(Debug)]
struct Group {
    topic: TopicId,
    epoch: Epoch,
    base_offset: u64,
    blocks: Vec<Block>,
}

impl Packer {
    /// Adds a block. The base offset counts only for a topic's first one: the rest follows it.
    pub(super) fn add(&mut self, topic: TopicId, epoch: Epoch, base_offset: u64, block: Block) {
        let groups = &mut self.groups;
        let group = *self.by_topic.entry(topic).or_insert_with(|| {
            groups.push(Group { topic, epoch, base_offset, blocks: Vec::new() });
            groups.len() - 1
        });
        self.groups[group].blocks.push(block);
    }

    /// The chunks from `sequence` on.
    pub(super) fn pack(&self, sequence: Sequence, moment: Moment) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut sequence = sequence;
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut bytes = 0;
        let mut close = |parts: &mut Vec<Part<'_>>| {
            chunks.push(chunk::encode(sequence, parts));
            sequence = sequence.next();
            parts.clear();
        };
        for group in &self.groups {
            let mut base_offset = group.base_offset;
            let mut from = 0;
            let mut end_offset = base_offset;
            for (n, block) in group.blocks.iter().enumerate() {
                let block_bytes = block.body().len();
                if bytes > 0 && bytes + block_bytes > CHUNK_BYTES {
                    if from < n {
                        let blocks = &group.blocks[from..n];
                        let (topic, epoch) = (group.topic, group.epoch);
                        parts.push(Part { topic, epoch, base_offset, moment, blocks });
                    }
                    close(&mut parts);
                    bytes = 0;
                    from = n;
                    base_offset = end_offset;
                }
                bytes += block_bytes;
                end_offset += u64::from(block.count());
            }
            let blocks = &group.blocks[from..];
            let (topic, epoch) = (group.topic, group.epoch);
            parts.push(Part { topic, epoch, base_offset, moment, blocks });
        }
        if !parts.is_empty() {
            close(&mut parts);
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockBuilder, Record};

    fn block(payload_bytes: usize) -> Block {
        let mut builder = BlockBuilder::default();
        builder.push(&Record::of("application/octet-stream", &vec![1; payload_bytes])).unwrap();
        builder.finish().unwrap()
    }

    fn layout(packer: &Packer) -> Vec<Vec<(u32, u64, u32)>> {
        packer
            .pack(Sequence(9), Moment::default())
            .iter()
            .map(|chunk| {
                let entries = chunk.entries.iter();
                entries.map(|e| (e.topic.0, e.entry.base_offset, e.entry.count)).collect()
            })
            .collect()
    }

    #[test]
    fn blocks_of_one_topic_are_joined_though_others_came_between() {
        let mut packer = Packer::default();
        packer.add(TopicId(1), Epoch(1), 5, block(10));
        packer.add(TopicId(2), Epoch(1), 0, block(10));
        packer.add(TopicId(1), Epoch(1), 6, block(10));
        assert_eq!(layout(&packer), [vec![(1, 5, 2), (2, 0, 1)]]);
    }

    #[test]
    fn a_chunk_closes_before_it_grows_over_its_size_and_a_large_block_stands_alone() {
        let mut packer = Packer::default();
        for _ in 0..5 {
            packer.add(TopicId(1), Epoch(1), 0, block(15_000));
        }
        packer.add(TopicId(2), Epoch(1), 0, block(100_000));
        packer.add(TopicId(3), Epoch(1), 0, block(1));
        assert_eq!(
            layout(&packer),
            [vec![(1, 0, 2)], vec![(1, 2, 2)], vec![(1, 4, 1)], vec![(2, 0, 1)], vec![(3, 0, 1)]]
        );
        let chunks = packer.pack(Sequence(9), Moment::default());
        let sequences: Vec<_> = chunks.iter().map(|c| c.sequence.0).collect();
        assert_eq!(sequences, [9, 10, 11, 12, 13]);
    }
}
