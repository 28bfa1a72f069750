//! What to do with a WAL: which batches stay, which are missing, what is cut.
//!
//! Plain decisions over what a scan found, no files. A commit counts from 1; the durable
//! watermark `durable` says that commits 1 to `durable` were proven safe.
//!
//! Invariants: no complete batch at or before the watermark is dropped; what stays beyond it has no
//! hole, so that a loss of power takes a suffix and nothing else.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::wal::{Batch, Piece};
use crate::journal::format::positions::Positions;

/// One WAL file as it was found.
pub(super) struct FoundFile {
    pub(super) pieces: Vec<Piece>,
}

/// A batch that stays, with the seqno it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) batch: Batch,
    pub(super) seqno: u64,
}

/// Commits that were durable and are missing from the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Hole {
    /// The commits missing.
    pub(in crate::journal) commits: RangeInclusive<u64>,
    /// The commit before them, if any.
    pub(in crate::journal) before: Option<Positions>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Per file, in its order, the batches that stay.
    pub(super) files: Vec<Vec<Kept>>,
    pub(super) holes: Vec<Hole>,
    /// Commits up to here are known to be durable.
    pub(super) durable: u64,
    /// The last batch that stays.
    pub(super) last: Option<Positions>,
    /// Whole batches beyond the watermark that a hole cuts off.
    pub(super) cut_batches: usize,
}

/// Makes the plan. `durable` is from the watermark file; the batches may know more. `journal` is
/// the journal's number, if that is known: batches of another one are ignored.
pub(super) fn plan(files: &[FoundFile], durable: u64, journal: Option<u64>) -> Plan {
    let journal = journal.or_else(|| most_common_journal(files));
    let batches = || {
        files.iter().enumerate().flat_map(|(n, file)| {
            file.pieces.iter().filter_map(move |piece| match piece {
                Piece::Batch(batch) if Some(batch.positions.journal) == journal => Some((n, batch)),
                Piece::Batch(_) | Piece::Damage(_) => None,
            })
        })
    };
    let known = batches().map(|(_, batch)| batch.positions.durable_commits).max();
    let durable = durable.max(known.unwrap_or(0));
    let mut plan = Plan { durable, ..Plan::default() };
    plan.files.resize_with(files.len(), Vec::new);
    let mut cut = false;
    for (file, batch) in batches() {
        let commits = batch.positions.commits;
        let before = plan.last;
        if before.is_some_and(|last| commits <= last.commits) {
            // The broker never writes a commit twice: an old page reappeared.
            plan.cut_batches += 1;
            continue;
        }
        let expected = before.map_or(commits, |last| last.commits + 1);
        if commits > expected {
            plan.missing(expected..=commits - 1, before);
            // Batches behind a hole beyond the watermark must be dropped, else the loss were no
            // suffix.
            cut |= commits - 1 > durable;
        } else if before.is_none()
            && first_is_damaged(files)
            && batch.positions.examined_commits < commits
        {
            // The commits before the first complete batch are unknown: every earlier one may have
            // existed.
            let examined = batch.positions.examined_commits;
            plan.missing(examined + 1..=commits - 1, None);
        }
        if cut {
            plan.cut_batches += 1;
            continue;
        }
        plan.last = Some(batch.positions);
        plan.files[file].push(Kept { batch: batch.clone(), seqno: batch.seqno });
    }
    if let Some(last) = plan.last {
        let told = plan.holes.last().map_or(0, |hole| *hole.commits.end());
        plan.missing(last.commits.max(told) + 1..=durable, Some(last));
    }
    mend_seqnos(&mut plan.files);
    plan
}

/// If no file has the journal's number: the one that most batches have.
fn most_common_journal(files: &[FoundFile]) -> Option<u64> {
    let mut counts = BTreeMap::new();
    for piece in files.iter().flat_map(|file| &file.pieces) {
        if let Piece::Batch(batch) = piece {
            *counts.entry(batch.positions.journal).or_insert(0u64) += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(journal, _)| journal)
}

/// Something preceded the first complete batch. A file without content, before one with batches,
/// was emptied: fjall deletes files it needs no more, and `salvage` leaves none empty.
fn first_is_damaged(files: &[FoundFile]) -> bool {
    let is_batch = |piece: &Piece| matches!(piece, Piece::Batch(_));
    let first = files.iter().position(|file| file.pieces.iter().any(is_batch));
    first.is_some_and(|n| n > 0 || !files[n].pieces.first().is_some_and(is_batch))
}

impl Plan {
    fn missing(&mut self, commits: RangeInclusive<u64>, before: Option<Positions>) {
        let commits = *commits.start()..=(*commits.end()).min(self.durable);
        if !commits.is_empty() {
            self.holes.push(Hole { commits, before });
        }
    }
}

/// The start marker is not covered by fjall's checksum, and fjall ignores a batch whose seqno is
/// too low. Seqnos rise strictly, so one that doesn't fit its neighbours is replaced by the lowest
/// one that does; that is right whether or not the batch's tables were written out.
fn mend_seqnos(files: &mut [Vec<Kept>]) {
    /// More than this between neighbours is a flipped bit.
    const JUMP_MAX: u64 = 1 << 32;
    let raw: Vec<u64> = files.iter().flatten().map(|kept| kept.batch.seqno).collect();
    let mut before: Option<u64> = None;
    for (n, kept) in files.iter_mut().flatten().enumerate() {
        let next = raw.get(n + 1).copied();
        let rises = before.is_none_or(|b| kept.seqno > b && kept.seqno - b < JUMP_MAX);
        // A next one that is itself out of order proves nothing about this one.
        let next_fits = |next: u64| before.is_none_or(|b| next > b + 1 && next - b < JUMP_MAX);
        let below_next = next.is_none_or(|next| kept.seqno < next || !next_fits(next));
        if !rises || !below_next {
            kept.seqno = match (before, next) {
                (Some(before), _) => before + 1,
                (None, Some(next)) => next.saturating_sub(1),
                (None, None) => kept.seqno,
            };
        }
        before = Some(kept.seqno);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::format::positions;
    use crate::journal::salvage::wal::{scan, tests::sample};

    fn file(content: &[Vec<u8>]) -> FoundFile {
        FoundFile { pieces: scan(&content.concat()) }
    }

    fn kept(plan: &Plan) -> Vec<u64> {
        plan.files.iter().flatten().map(|kept| kept.batch.positions.commits).collect()
    }

    fn missing(plan: &Plan) -> Vec<RangeInclusive<u64>> {
        plan.holes.iter().map(|hole| hole.commits.clone()).collect()
    }

    const BAD: [u8; 7] = [9; 7];

    #[test]
    fn a_sound_wal_stays_as_it_is() {
        let plan = plan(&[file(&[sample(4, 2), sample(5, 3)]), file(&[sample(6, 4)])], 5, None);
        assert_eq!((kept(&plan), missing(&plan), plan.durable), (vec![4, 5, 6], vec![], 5));
        let seqnos: Vec<_> = plan.files.iter().flatten().map(|kept| kept.seqno).collect();
        assert_eq!(seqnos, [108, 110, 112]);
    }

    #[test]
    fn a_torn_tail_is_cut_at_its_first_hole_and_is_no_damage() {
        let torn = file(&[sample(1, 0), sample(2, 1), BAD.to_vec(), sample(4, 1)]);
        let plan = plan(&[torn], 1, None);
        assert_eq!((kept(&plan), missing(&plan)), (vec![1, 2], vec![]));
        assert_eq!(plan.cut_batches, 1);
    }

    #[test]
    fn a_hole_before_the_watermark_is_damage_and_costs_nothing_else() {
        let damaged = file(&[sample(1, 0), BAD.to_vec(), sample(3, 1), sample(4, 3)]);
        let plan = plan(&[damaged], 0, None);
        assert_eq!((kept(&plan), missing(&plan), plan.durable), (vec![1, 3, 4], vec![2..=2], 3));
    }

    #[test]
    fn a_hole_that_reaches_over_the_watermark_cuts_what_follows() {
        let damaged = file(&[sample(1, 0), BAD.to_vec(), sample(5, 0)]);
        let plan = plan(&[damaged], 2, None);
        assert_eq!((kept(&plan), missing(&plan)), (vec![1], vec![2..=2]));
    }

    #[test]
    fn a_tail_that_was_durable_and_is_gone_is_damage() {
        let plan = plan(&[file(&[sample(1, 0), sample(2, 1)])], 4, None);
        assert_eq!((kept(&plan), missing(&plan)), (vec![1, 2], vec![3..=4]));
    }

    #[test]
    fn damage_before_the_first_batch_may_hide_anything_not_examined_before() {
        let plan = plan(&[file(&[BAD.to_vec(), sample(3, 2)])], 3, None);
        assert_eq!((kept(&plan), missing(&plan)), (vec![3], vec![1..=2]));
    }

    #[test]
    fn a_batch_of_another_journal_is_none_though_it_fits() {
        let mut forged = sample(2, 1);
        let at = forged.windows(9).position(|window| window == b"positions").unwrap() + 9;
        let mut positions = Positions::decode(&forged[at..at + positions::BYTES]).unwrap();
        positions.journal = 7;
        forged[at..at + positions::BYTES].copy_from_slice(&positions.encode());
        let items = forged[13..forged.len() - 13].to_vec();
        let mut batch = Vec::new();
        crate::journal::salvage::wal::put_batch(&mut batch, &items, 2, 104);
        let files = [file(&[sample(1, 1), batch.clone()])];
        assert_eq!(kept(&super::plan(&files, 1, Some(0))), [1]);
        assert_eq!(kept(&super::plan(&files, 1, Some(7))), [2]);
        let files = [file(&[sample(1, 1), batch, sample(2, 1)])];
        assert_eq!(kept(&super::plan(&files, 1, None)), [1, 2]);
    }

    #[test]
    fn a_first_file_that_was_emptied_is_damage() {
        let emptied = FoundFile { pieces: Vec::new() };
        let plan = plan(&[emptied, file(&[sample(5, 4)])], 5, None);
        assert_eq!((kept(&plan), missing(&plan)), (vec![5], vec![1..=4]));
        let active = FoundFile { pieces: Vec::new() };
        assert_eq!(missing(&super::plan(&[file(&[sample(5, 4)]), active], 5, None)), vec![]);
    }

    #[test]
    fn a_seqno_that_does_not_fit_its_neighbours_is_replaced() {
        for bit in 0..64 {
            for which in 0..3 {
                let mut whole = [sample(1, 0), sample(2, 0), sample(3, 0)];
                let at = 5 + bit / 8;
                whole[which][at] ^= 1 << (bit % 8);
                let plan = plan(&[file(&whole)], 0, None);
                let seqnos: Vec<_> = plan.files.iter().flatten().map(|kept| kept.seqno).collect();
                assert!(seqnos.is_sorted_by(|a, b| a < b), "bit {bit} of {which}: {seqnos:?}");
                assert_eq!(seqnos.len(), 3);
            }
        }
    }
}
