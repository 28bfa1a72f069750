//! Packs a commit's blocks into chunks.
//!
//! All blocks that are appended to one stream in a commit become one block on disk, as far as they
//! fit a chunk; that is what keeps the index small when many producers send one message each.
//!
//! Invariants: a stream's blocks keep the order they were added in; no block is split; a chunk
//! exceeds [`CHUNK_BYTES`] only when a single block does; a stream's blocks are numbered without
//! holes.

use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::journal::format::chunk::{self, Bodies, CHUNK_BYTES, Chunk, Part, Place};
use crate::journal::format::entry::Moment;
use crate::journal::shared::StreamState;
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
    state: Arc<StreamState>,
    header: BlockHeader,
    blocks: Vec<Block>,
    bytes: usize,
    visible: bool,
}

/// A chunk, and of each of its blocks the stream, and whether readers are notified of it.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) chunk: Chunk,
    pub(super) blocks: Vec<(Arc<StreamState>, bool)>,
}

impl Packer {
    /// A packer for about N blocks.
    pub(super) fn with_capacity(expected: usize) -> Self {
        let open = FxHashMap::with_capacity_and_hasher(expected, FxBuildHasher);
        Self { groups: Vec::with_capacity(expected), open }
    }

    /// Adds a block to its stream.
    pub(super) fn add(&mut self, append: UnitAppend, state: &Arc<StreamState>) {
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
        header.number = state.next_number();
        self.open.insert(stream, self.groups.len());
        let (state, blocks) = (state.clone(), block.into_iter().collect());
        self.groups.push(Group { stream, state, header, blocks, bytes, visible });
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
            let (mut parts, mut blocks, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut close = |parts: &mut Vec<Part<'_>>, blocks: &mut Vec<_>| {
                let chunk = chunk::encode(place, commit, moment, parts);
                packed.push(Packed { chunk, blocks: std::mem::take(blocks) });
                place.sequence = place.sequence.next();
                parts.clear();
            };
            for group in self.groups.iter().filter(|group| group.state.log == log) {
                let full =
                    bytes + group.bytes > CHUNK_BYTES || parts.len() == usize::from(u16::MAX);
                if !parts.is_empty() && full {
                    close(&mut parts, &mut blocks);
                    bytes = 0;
                }
                bytes += group.bytes;
                let bodies = Bodies::Sent(&group.blocks);
                parts.push(Part { stream: group.stream, header: &group.header, bodies });
                blocks.push((group.state.clone(), group.visible));
            }
            if !parts.is_empty() {
                close(&mut parts, &mut blocks);
            }
        }
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::index::StreamIndex;
    use crate::model::{BlockBuilder, Record};

    /// A chunk's sequence, and stream, first offset and messages of its blocks.
    type Layout = (u64, Vec<(u32, u64, u32)>);

    #[derive(Default)]
    struct Streams {
        packer: Packer,
        states: FxHashMap<u32, Arc<StreamState>>,
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
            let new = || StreamState::new(StreamIndex::new(log));
            self.packer.add(append, self.states.entry(stream).or_insert_with(new));
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
        assert_eq!(streams.states[&1].number(), 1, "one block");
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
        assert_eq!(streams.states[&1].number(), 4);
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
