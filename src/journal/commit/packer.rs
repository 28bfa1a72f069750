//! Packs what one commit takes into chunks.
//!
//! All blocks that are appended to one stream in a commit become one block on disk, as far as they
//! fit a chunk; that is what keeps the index small when many producers send one message each.
//!
//! Invariants: a stream's blocks keep the order they were added in; no block is split; a chunk
//! exceeds [`CHUNK_BYTES`] only when a single block does; a stream's blocks are numbered without
//! holes.

use rustc_hash::FxHashMap;

use crate::journal::format::chunk::{self, Bodies, CHUNK_BYTES, Chunk, Part, Place};
use crate::journal::format::entry::Moment;
use crate::journal::unit::UnitAppend;
use crate::model::{Block, BlockHeader, Log, Sequence, StreamId};

/// Collects a commit's blocks in the order they came.
#[derive(Debug, Default)]
pub(super) struct Packer {
    groups: Vec<Group>,
    /// The group of each stream that may still grow.
    open: FxHashMap<StreamId, usize>,
}

/// What becomes one block.
#[derive(Debug)]
struct Group {
    stream: StreamId,
    log: Log,
    header: BlockHeader,
    blocks: Vec<Block>,
    bytes: usize,
    visible: bool,
}

/// A chunk, and which of its blocks readers are notified of.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) chunk: Chunk,
    pub(super) visible: Vec<bool>,
}

impl Packer {
    /// Adds a block to a stream of that log, whose last block has the given number.
    pub(super) fn add(&mut self, append: UnitAppend, log: Log, number: &mut u64) {
        let UnitAppend { stream, mut header, block, visible } = append;
        let bytes = block.as_ref().map_or(0, |block| block.body().len());
        if let Some(group) = self.open.get(&stream).map(|at| &mut self.groups[*at])
            && group.visible == visible
            && group.bytes + bytes <= CHUNK_BYTES
            && group.header.join(&mut header)
        {
            group.bytes += bytes;
            group.blocks.extend(block);
            return;
        }
        *number += 1;
        header.number = *number;
        self.open.insert(stream, self.groups.len());
        let blocks = block.into_iter().collect();
        self.groups.push(Group { stream, log, header, blocks, bytes, visible });
    }

    /// There is nothing to pack.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The chunks of both logs, from the given sequences on.
    pub(super) fn pack(&self, next: [Sequence; 2], commit: u64, moment: Moment) -> Vec<Packed> {
        let mut packed = Vec::new();
        for log in Log::ALL {
            let mut place = Place { log, sequence: next[log as usize] };
            let (mut parts, mut visible, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut close = |parts: &mut Vec<Part<'_>>, visible: &mut Vec<bool>| {
                let chunk = chunk::encode(place, commit, moment, parts);
                packed.push(Packed { chunk, visible: std::mem::take(visible) });
                place.sequence = place.sequence.next();
                parts.clear();
            };
            for group in self.groups.iter().filter(|group| group.log == log) {
                let full =
                    bytes + group.bytes > CHUNK_BYTES || parts.len() == usize::from(u16::MAX);
                if !parts.is_empty() && full {
                    close(&mut parts, &mut visible);
                    bytes = 0;
                }
                bytes += group.bytes;
                let bodies = Bodies::Sent(&group.blocks);
                parts.push(Part { stream: group.stream, header: &group.header, bodies });
                visible.push(group.visible);
            }
            if !parts.is_empty() {
                close(&mut parts, &mut visible);
            }
        }
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockBuilder, Record};

    /// A chunk's sequence, and stream, first offset and messages of its blocks.
    type Layout = (u64, Vec<(u32, u64, u32)>);

    #[derive(Default)]
    struct Streams {
        packer: Packer,
        numbers: FxHashMap<u32, u64>,
        heads: FxHashMap<u32, u64>,
    }

    impl Streams {
        fn add(&mut self, stream: u32, payload_bytes: usize) {
            let mut builder = BlockBuilder::default();
            let payload = vec![1; payload_bytes];
            builder.push(&Record::of("application/octet-stream", &payload)).unwrap();
            let block = builder.finish();
            let head = self.heads.entry(stream).or_default();
            let header = BlockHeader {
                base_offset: *head,
                count: 1,
                ingest_base: *head,
                ingest_count: 1,
                ..BlockHeader::default()
            };
            *head += 1;
            let append = UnitAppend { stream: StreamId(stream), header, block, visible: true };
            let log = if stream < 10 { Log::Blocks } else { Log::Short };
            self.packer.add(append, log, self.numbers.entry(stream).or_default());
        }

        fn layout(&self) -> Vec<Layout> {
            let packed = self.packer.pack([Sequence(9), Sequence(5)], 1, Moment::default());
            let block = |(stream, entry): &(StreamId, crate::journal::index::IndexEntry)| {
                (stream.0, entry.base_offset, entry.count)
            };
            let chunks = packed.iter().map(|packed| &packed.chunk);
            chunks.map(|c| (c.place.sequence.0, c.entries.iter().map(block).collect())).collect()
        }
    }

    #[test]
    fn a_streams_blocks_become_one_and_streams_share_a_chunk() {
        let mut streams = Streams::default();
        for stream in [1, 2, 1, 1, 2] {
            streams.add(stream, 100);
        }
        assert_eq!(streams.layout(), [(9, vec![(1, 0, 3), (2, 0, 2)])]);
        assert_eq!(streams.numbers[&1], 1, "one block");
    }

    #[test]
    fn a_chunk_is_closed_when_the_next_block_does_not_fit() {
        let mut streams = Streams::default();
        for bytes in [20_000, 10_000, 10_000, 70_000, 5] {
            streams.add(1, bytes);
        }
        let expected = [
            (9, vec![(1, 0, 2)]),
            (10, vec![(1, 2, 1)]),
            (11, vec![(1, 3, 1)]),
            (12, vec![(1, 4, 1)]),
        ];
        assert_eq!(streams.layout(), expected);
        assert_eq!(streams.numbers[&1], 4);
    }

    #[test]
    fn each_log_has_chunks_and_sequences_of_its_own() {
        let mut streams = Streams::default();
        for stream in [1, 11, 1, 11] {
            streams.add(stream, 100);
        }
        assert_eq!(streams.layout(), [(9, vec![(1, 0, 2)]), (5, vec![(11, 0, 2)])]);
    }
}
