//! A block's entry in its chunk's directory, which is the block's header and where its body is.
//!
//! Invariants: what [`encode`] wrote, [`decode`] gives back; an entry whose offsets would have no
//! end, or whose body has no room for what it counts, is refused, whatever its checksum.

use bytes::{Buf, BufMut};

use super::{extras, varint};
use crate::model::{BlockHeader, BlockKind, Epoch, LastId, Record, StreamId, Timestamp};

const KIND_BITS: u8 = 0x0f;
const HAS_INGEST: u8 = 0x10;
const HAS_EXTRAS: u8 = 0x20;

/// The moment that a chunk's entries are relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) published_at: Timestamp,
    pub(crate) age_ms: u64,
}

/// A block as its chunk describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    pub(crate) stream: StreamId,
    pub(crate) header: BlockHeader,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
}

pub(in crate::journal) fn kind_code(kind: BlockKind) -> u8 {
    match kind {
        BlockKind::Data => 0,
        BlockKind::Outcome => 1,
        BlockKind::Epoch => 2,
        BlockKind::Settings => 3,
        BlockKind::Gap => 4,
        BlockKind::Events => 5,
    }
}

pub(in crate::journal) fn kind_of(code: u8) -> Option<BlockKind> {
    Some(match code {
        0 => BlockKind::Data,
        1 => BlockKind::Outcome,
        2 => BlockKind::Epoch,
        3 => BlockKind::Settings,
        4 => BlockKind::Gap,
        5 => BlockKind::Events,
        _ => return None,
    })
}

pub(in crate::journal) fn encode(
    out: &mut Vec<u8>,
    stream: StreamId,
    header: &BlockHeader,
    moment: Moment,
    body: (u32, u32),
) {
    let own = (header.ingest_base, header.ingest_count) != (header.base_offset, header.count);
    let shape = kind_code(header.kind)
        | if own { HAS_INGEST } else { 0 }
        | if header.extras.is_some() { HAS_EXTRAS } else { 0 };
    let (bytes, crc) = body;
    out.push(shape);
    varint::put(out, stream.0.into());
    varint::put(out, header.epoch.0);
    varint::put(out, header.number);
    varint::put(out, header.base_offset);
    varint::put(out, header.count.into());
    varint::put(out, bytes.into());
    varint::put_difference(out, header.published_at.0, moment.published_at.0);
    varint::put_difference(out, header.age_ms, moment.age_ms);
    out.put_u32_le(crc);
    if own {
        varint::put_difference(out, header.ingest_base, header.base_offset);
        varint::put(out, header.ingest_count.into());
    }
    if let Some(found) = &header.extras {
        let mut value = Vec::new();
        extras::encode(&mut value, found);
        varint::put_bytes(out, &value);
    }
}

/// `None` when the bytes are malformed.
pub(in crate::journal) fn decode(rest: &mut &[u8], moment: Moment) -> Option<ChunkEntry> {
    let shape = rest.try_get_u8().ok()?;
    if shape & !(KIND_BITS | HAS_INGEST | HAS_EXTRAS) != 0 {
        return None;
    }
    let kind = kind_of(shape & KIND_BITS)?;
    let stream = StreamId(varint::take_u32(rest)?);
    let epoch = Epoch(varint::take(rest)?);
    let number = varint::take(rest)?;
    let base_offset = varint::take(rest)?;
    let count = varint::take_u32(rest)?;
    let bytes = varint::take_u32(rest)?;
    let published_at = Timestamp(varint::take_difference(rest, moment.published_at.0)?);
    let age_ms = varint::take_difference(rest, moment.age_ms)?;
    let crc = rest.try_get_u32_le().ok()?;
    let (mut ingest_base, mut ingest_count) = (base_offset, count);
    if shape & HAS_INGEST != 0 {
        ingest_base = varint::take_difference(rest, base_offset)?;
        ingest_count = varint::take_u32(rest)?;
    }
    let extras = match shape & HAS_EXTRAS {
        0 => None,
        _ => Some(Box::new(extras::decode(varint::take_bytes(rest)?)?)),
    };
    let header = BlockHeader {
        kind,
        epoch,
        number,
        base_offset,
        count,
        ingest_base,
        ingest_count,
        published_at,
        age_ms,
        extras,
    };
    is_possible(&header, bytes).then_some(ChunkEntry { stream, header, bytes, crc })
}

/// True of every entry the broker writes; but a checksum can be forged.
fn is_possible(header: &BlockHeader, bytes: u32) -> bool {
    let ends = |base: u64, count: u32| base.checked_add(count.into()).is_some();
    let has_room = match header.kind {
        BlockKind::Data => u64::from(header.count) * Record::ENCODED_BYTES_MIN <= u64::from(bytes),
        BlockKind::Events => true,
        _ => header.count == 0,
    };
    has_room
        && ends(header.base_offset, header.count)
        && ends(header.ingest_base, header.ingest_count)
}

/// Appends a producer's last id as runs have it.
pub(crate) fn put_last_id(out: &mut Vec<u8>, last: &LastId) {
    extras::put_last_id(out, last);
}

/// Takes a producer's last id as runs have it.
pub(crate) fn take_last_id(rest: &mut &[u8]) -> Option<LastId> {
    extras::take_last_id(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::extras::tests::extras;
    use super::*;

    proptest! {
        #[test]
        fn an_entry_comes_back(
            kind in 0u8..6, ids: (u32, u32), number: u64, base_offset in 0u64..1 << 60,
            count in 0u32..100, ingest in proptest::option::of((0u64..1 << 60, any::<u32>())),
            times: (u64, u64), moment: (u64, u64), crc: u32,
            extras in proptest::option::of(extras()),
        ) {
            let count = if matches!(kind, 0 | 5) { count } else { 0 };
            let (ingest_base, ingest_count) = ingest.unwrap_or((base_offset, count));
            let header = BlockHeader {
                kind: kind_of(kind).unwrap(),
                epoch: Epoch(ids.1.into()),
                number,
                base_offset,
                count,
                ingest_base,
                ingest_count,
                published_at: Timestamp(times.0),
                age_ms: times.1,
                extras: extras.map(Box::new),
            };
            let moment = Moment { published_at: Timestamp(moment.0), age_ms: moment.1 };
            let (stream, bytes) = (StreamId(ids.0), 100 * 100);
            let mut out = Vec::new();
            encode(&mut out, stream, &header, moment, (bytes, crc));
            let mut rest = &out[..];
            let expected = ChunkEntry { stream, header, bytes, crc };
            prop_assert_eq!(decode(&mut rest, moment), Some(expected));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn kinds_and_shapes_that_are_not_known_are_refused() {
        let mut out = Vec::new();
        encode(&mut out, StreamId(1), &BlockHeader::default(), Moment::default(), (0, 0));
        assert!(decode(&mut &out[..], Moment::default()).is_some());
        for shape in [0x06, 0x40, 0x80] {
            out[0] = shape;
            assert_eq!(decode(&mut &out[..], Moment::default()), None, "{shape:#x}");
        }
    }
}
