//! fjall's WAL, read without fjall.
//!
//! A WAL file is a run of batches (fjall 3, `src/journal/entry.rs`), then zeros:
//!
//! ```text
//! batch  start u8 = 1 · items u32 · seqno u64, then the items,
//!        then end u8 = 3 · xxh3 u64 · "FJL\x03"
//! item   u8 = 2 · value type u8 · compression u8 · keyspace u64 · key len u16 · value len u32 ·
//!        stored len u32 · key · value
//! clear  u8 = 4 · keyspace u64
//! ```
//!
//! little endian; the hash covers the items only. fjall stops at the first byte it does not
//! understand and drops the rest, or refuses the whole file. This reader continues at the next
//! complete batch, accepts a batch of which only the start marker is damaged, and reports what it
//! skipped.
//!
//! Invariants: a [`Batch`] holds exactly what was written, and our [`Positions`] with it (every
//! commit of the journal has them). Nothing is written here.

use std::ops::Range;

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_64;

use crate::journal::format::positions::{self, Positions};

const TRAILER: &[u8; 4] = b"FJL\x03";
const START_BYTES: usize = 13;
const END_BYTES: usize = 13;

/// A complete batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Batch {
    /// All of it, in its file.
    pub(in crate::journal) range: Range<usize>,
    /// Its items, in its file.
    pub(in crate::journal) items: Range<usize>,
    pub(in crate::journal) item_count: u32,
    /// As its start marker says.
    pub(in crate::journal) seqno: u64,
    /// Start and end marker are as fjall wrote them.
    pub(in crate::journal) intact: bool,
    pub(in crate::journal) positions: Positions,
}

/// What is in a file, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Piece {
    Batch(Batch),
    /// Bytes that belong to no batch.
    Damage(Range<usize>),
}

/// One key of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Item<'a> {
    pub(in crate::journal) keyspace: u64,
    pub(in crate::journal) key: &'a [u8],
    /// `None` where the key is removed.
    pub(in crate::journal) value: Option<&'a [u8]>,
}

/// Everything in a file up to the zeros at its end.
pub(in crate::journal) fn scan(file: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < file.len() {
        if let Some(batch) = batch_at(file, at) {
            at = batch.range.end;
            pieces.push(Piece::Batch(batch));
            continue;
        }
        let used = file[at..].iter().rposition(|byte| *byte != 0).map_or(at, |last| at + last + 1);
        if used == at {
            break;
        }
        let next = next_batch(file, at, used);
        pieces.push(Piece::Damage(at..next));
        at = next;
    }
    pieces
}

/// Where the next complete batch begins: behind a trailer, or where a start marker could be.
fn next_batch(file: &[u8], at: usize, used: usize) -> usize {
    let behind_trailer = |p: usize| file[..p].ends_with(TRAILER);
    let start_marker = |p: usize| file[p] == 1 && matches!(file.get(p + START_BYTES), Some(2 | 4));
    let candidate = |p: &usize| behind_trailer(*p) || start_marker(*p);
    (at + 1..used).filter(candidate).find(|p| batch_at(file, *p).is_some()).unwrap_or(used)
}

fn batch_at(file: &[u8], at: usize) -> Option<Batch> {
    let mut start = file.get(at..at + START_BYTES)?;
    let (tag, count, seqno) = (start.get_u8(), start.get_u32_le(), start.get_u64_le());
    let items_at = at + START_BYTES;
    let mut rest = &file[items_at..];
    let mut item_count = 0;
    let mut positions = None;
    while let Some(item) = take_item(&mut rest) {
        item_count += 1;
        if let Item { key: positions::KEY, value: Some(value), .. } = item {
            positions = Positions::decode(value);
        }
    }
    let items_end = file.len() - rest.len();
    let mut end = rest.get(..END_BYTES)?;
    let (end_tag, hash) = (end.get_u8(), end.get_u64_le());
    let hash_differs = (xxh3_64(&file[items_at..items_end]) ^ hash).count_ones();
    // Two wrong bits of 64 mean a damaged hash: damaged items give any hash at all.
    if hash_differs > 2 {
        return None;
    }
    let intact = (tag, count, end_tag, hash_differs) == (1, item_count, 3, 0) && end == TRAILER;
    Some(Batch {
        range: at..items_end + END_BYTES,
        items: items_at..items_end,
        item_count,
        seqno,
        intact,
        positions: positions?,
    })
}

/// The items of a batch.
pub(in crate::journal) fn items(mut bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    std::iter::from_fn(move || take_item(&mut bytes))
}

fn take_item<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    let mut bytes = *rest;
    let item = match bytes.try_get_u8().ok()? {
        2 => {
            let value_type = bytes.try_get_u8().ok()?;
            let compression = bytes.try_get_u8().ok()?;
            let keyspace = bytes.try_get_u64_le().ok()?;
            let key_len = usize::from(bytes.try_get_u16_le().ok()?);
            let value_len = bytes.try_get_u32_le().ok()? as usize;
            let stored_len = bytes.try_get_u32_le().ok()? as usize;
            if value_type > 2 || compression != 0 || value_len != stored_len {
                return None;
            }
            let key = bytes.split_off(..key_len)?;
            let value = bytes.split_off(..value_len)?;
            Item { keyspace, key, value: (value_type == 0).then_some(value) }
        }
        4 => Item { keyspace: bytes.try_get_u64_le().ok()?, key: &[], value: None },
        _ => return None,
    };
    *rest = bytes;
    Some(item)
}

/// Writes a batch anew: the same items, the given seqno, sound markers.
pub(in crate::journal) fn put_batch(out: &mut Vec<u8>, items: &[u8], item_count: u32, seqno: u64) {
    out.push(1);
    out.extend(item_count.to_le_bytes());
    out.extend(seqno.to_le_bytes());
    out.extend(items);
    out.push(3);
    out.extend(xxh3_64(items).to_le_bytes());
    out.extend(TRAILER);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A batch with one chunk and positions.
    pub(in crate::journal::salvage) fn sample(commits: u64, durable_commits: u64) -> Vec<u8> {
        let positions = Positions { commits, durable_commits, ..Positions::default() };
        let mut items = Vec::new();
        put_item(&mut items, 1, &commits.to_be_bytes(), &[commits as u8; 300]);
        put_item(&mut items, 3, positions::KEY, &positions.encode());
        let mut out = Vec::new();
        put_batch(&mut out, &items, 2, 100 + 2 * commits);
        out
    }

    fn put_item(out: &mut Vec<u8>, keyspace: u64, key: &[u8], value: &[u8]) {
        out.extend([2, 0, 0]);
        out.extend(keyspace.to_le_bytes());
        out.extend((key.len() as u16).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        out.extend(key);
        out.extend(value);
    }

    fn commits(pieces: &[Piece]) -> Vec<Option<u64>> {
        let commits = |piece: &Piece| match piece {
            Piece::Batch(batch) => Some(batch.positions.commits),
            Piece::Damage(_) => None,
        };
        pieces.iter().map(commits).collect()
    }

    #[test]
    fn what_fjall_writes_is_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let database = fjall::Database::builder(directory.path()).open().unwrap();
        let keyspace = database.keyspace("k", fjall::KeyspaceCreateOptions::default).unwrap();
        let positions = Positions { commits: 5, ..Positions::default() };
        let mut batch = database.batch();
        batch.insert(&keyspace, b"a".as_slice(), b"1".as_slice());
        batch.remove(&keyspace, b"b".as_slice());
        batch.insert(&keyspace, positions::KEY, positions.encode());
        batch.durability(Some(fjall::PersistMode::SyncAll)).commit().unwrap();
        let file = std::fs::read(directory.path().join("0.jnl")).unwrap();
        let pieces = scan(&file);
        let [Piece::Batch(batch)] = &pieces[..] else { panic!("{pieces:?}") };
        assert!(batch.intact);
        assert_eq!((batch.item_count, batch.positions), (3, positions));
        let found: Vec<_> = items(&file[batch.items.clone()]).collect();
        assert_eq!(found[0], Item { keyspace: keyspace.id(), key: b"a", value: Some(b"1") });
        assert_eq!(found[1].value, None);
        let mut written = Vec::new();
        put_batch(&mut written, &file[batch.items.clone()], 3, batch.seqno);
        assert_eq!(written, file[batch.range.clone()]);
    }

    #[test]
    fn whatever_bit_is_flipped_the_batches_beside_it_are_read() {
        let whole = [sample(1, 0), sample(2, 1), sample(3, 2), vec![0; 64]].concat();
        assert_eq!(commits(&scan(&whole)), [Some(1), Some(2), Some(3)]);
        let second = sample(1, 0).len()..sample(1, 0).len() + sample(2, 1).len();
        let mut kept = 0;
        for bit in second.start * 8..second.end * 8 {
            let mut file = whole.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            let found = commits(&scan(&file));
            if found == [Some(1), Some(2), Some(3)] {
                kept += 1;
            } else {
                assert_eq!(found, [Some(1), None, Some(3)], "bit {bit}");
            }
        }
        assert_eq!(kept, (START_BYTES + END_BYTES) * 8, "damaged markers cost nothing");
    }

    #[test]
    fn a_torn_tail_and_a_truncated_file_keep_what_comes_before() {
        let whole = [sample(1, 0), sample(2, 1)].concat();
        for len in sample(1, 0).len() + 1..whole.len() {
            let found = commits(&scan(&whole[..len]));
            assert_eq!(found, [Some(1), None], "{len} bytes");
        }
        let mut torn = whole.clone();
        torn[sample(1, 0).len()..sample(1, 0).len() + 100].fill(0);
        assert_eq!(commits(&scan(&torn)), [Some(1), None]);
    }
}
