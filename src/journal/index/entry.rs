//! Where one block is, and what a reader needs to know of it.

use crate::model::{BlockHeader, BlockKind, Epoch, Sequence, Timestamp};

/// See the module. Its stream tells which log the sequence counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) kind: BlockKind,
    pub(crate) epoch: Epoch,
    /// The block's number in its stream.
    pub(crate) number: u64,
    pub(crate) base_offset: u64,
    pub(crate) count: u32,
    /// Ingest sequence of the first input.
    pub(crate) ingest_base: u64,
    pub(crate) ingest_count: u32,
    pub(crate) sequence: Sequence,
    /// Where its body begins in its chunk.
    pub(crate) position: u32,
    pub(crate) bytes: u32,
    pub(crate) time: Timestamp,
    /// How old the journal was when the block came (see `age`).
    pub(crate) age_ms: u64,
    pub(crate) crc: u32,
}

impl IndexEntry {
    /// The entry of a block with this header at this place.
    pub(crate) fn of(header: &BlockHeader, sequence: Sequence, body: BodyPlace) -> Self {
        Self {
            kind: header.kind,
            epoch: header.epoch,
            number: header.number,
            base_offset: header.base_offset,
            count: header.count,
            ingest_base: header.ingest_base,
            ingest_count: header.ingest_count,
            sequence,
            position: body.position,
            bytes: body.bytes,
            time: header.published_at,
            age_ms: header.age_ms,
            crc: body.crc,
        }
    }

    /// The offset after its last message.
    pub(crate) fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    /// The same block, wherever it is.
    pub(crate) fn is_block(&self, other: &Self) -> bool {
        (self.number, self.base_offset, self.crc) == (other.number, other.base_offset, other.crc)
    }

    /// It lies below the low watermark. A block without messages does so once a message after it
    /// does.
    pub(crate) fn is_below(&self, first: u64) -> bool {
        self.end_offset() <= first && (self.count > 0 || self.base_offset < first)
    }

    /// Readers or receipts may ask for it, so pages know it.
    pub(crate) fn is_indexed(&self) -> bool {
        self.count > 0 || (self.kind == BlockKind::Outcome && self.ingest_count > 0)
    }

    /// What it takes on the disk, roughly: a block without a body takes its entry.
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.bytes) + 32
    }
}

/// A body in its chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyPlace {
    pub(crate) position: u32,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
}
