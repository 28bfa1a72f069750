//! The journal's own keys.

use bytes::{Buf, BufMut};

use crate::journal::state::{self, StateKey};
use crate::model::{Gap, OwnerId, Sequence, StreamId};

/// The database's format; written once.
pub(super) const FORMAT_KEY: &[u8] = b"\0\0\0\0format";
pub(super) const FORMAT: &[u8] = b"weir journal 3";

const DELETED: &str = "deleted/";
const FINDINGS: &str = "findings";

/// The key of a stream's extent.
pub(in crate::journal) fn extent(stream: StreamId) -> StateKey {
    StateKey::new(stream.into(), state::EXTENT, b"")
}

/// The key under which an import leaves its losses.
pub(in crate::journal) fn findings() -> StateKey {
    StateKey::word(FINDINGS)
}

/// The key of a deleted owner.
pub(in crate::journal) fn deleted(owner: OwnerId) -> StateKey {
    let mut rest = [DELETED.as_bytes(), &[0; 4]].concat();
    rest[DELETED.len()..].copy_from_slice(&owner.0.to_be_bytes());
    StateKey::new(OwnerId::JOURNAL, rest[0], &rest[1..])
}

/// The purpose of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum KeyKind {
    /// The format or the positions, which have no checksum of this kind.
    Own,
    /// A stream's extent.
    Extent(StreamId),
    Deleted(OwnerId),
    Findings,
    /// The machine's.
    State,
}

/// The purpose of a key.
pub(in crate::journal) fn kind(key: &StateKey) -> KeyKind {
    if key.owner() != OwnerId::JOURNAL {
        let is_extent = key.tag() == state::EXTENT && key.rest().is_empty();
        return if is_extent { KeyKind::Extent(StreamId(key.owner().0)) } else { KeyKind::State };
    }
    let word = &key.as_bytes()[4..];
    if let Some(owner) = word.strip_prefix(DELETED.as_bytes()) {
        let owner = owner.try_into().map_or(0, u32::from_be_bytes);
        return KeyKind::Deleted(OwnerId(owner));
    }
    match word {
        b"format" | b"positions" => KeyKind::Own,
        word if word == FINDINGS.as_bytes() => KeyKind::Findings,
        _ => KeyKind::State,
    }
}

/// The ends of both logs, as a deletion notes them.
pub(in crate::journal) fn encode_ends(ends: [Sequence; 2]) -> Vec<u8> {
    ends.iter().flat_map(|end| end.0.to_le_bytes()).collect()
}

/// See [`encode_ends`].
pub(in crate::journal) fn decode_ends(mut value: &[u8]) -> [Sequence; 2] {
    [(); 2].map(|()| Sequence(value.try_get_u64_le().unwrap_or(u64::MAX)))
}

/// The losses of an import: offsets by stream, and sequences that were unreadable.
pub(in crate::journal) type ImportFindings = (Vec<(StreamId, Gap)>, Option<[u64; 2]>);

/// Writes [`ImportFindings`].
pub(in crate::journal) fn encode_findings(
    missing: &[(StreamId, Gap)],
    unreadable: Option<[u64; 2]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for (stream, gap) in missing {
        out.put_u32_le(stream.0);
        out.put_u64_le(gap.from);
        out.put_u64_le(gap.to);
    }
    if let Some([first, last]) = unreadable {
        out.put_u32_le(0);
        out.put_u64_le(first);
        out.put_u64_le(last);
    }
    out
}

/// See [`encode_findings`].
pub(in crate::journal) fn decode_findings(mut value: &[u8]) -> ImportFindings {
    let (mut missing, mut unreadable) = (Vec::new(), None);
    while value.len() >= 20 {
        let (stream, from, to) = (value.get_u32_le(), value.get_u64_le(), value.get_u64_le());
        match stream {
            0 => unreadable = Some([from, to]),
            stream => missing.push((StreamId(stream), Gap { from, to })),
        }
    }
    (missing, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_own_keys_are_told_from_others() {
        assert_eq!(kind(&extent(StreamId(3))), KeyKind::Extent(StreamId(3)));
        assert_eq!(kind(&deleted(OwnerId(0x01020304))), KeyKind::Deleted(OwnerId(0x01020304)));
        assert_eq!(kind(&findings()), KeyKind::Findings);
        assert_eq!(kind(&StateKey::word("positions")), KeyKind::Own);
        assert_eq!(kind(&StateKey::word("secret/receipts")), KeyKind::State);
        assert_eq!(kind(&StateKey::new(OwnerId(3), b't', b"")), KeyKind::State);
    }

    #[test]
    fn findings_come_back() {
        let missing = [(StreamId(3), Gap { from: 1, to: 2 })];
        let found = decode_findings(&encode_findings(&missing, Some([7, 9])));
        assert_eq!(found, (missing.to_vec(), Some([7, 9])));
    }
}
