//! Which messages of a block are new: named producers' numbers and message ids against what the
//! topic remembers.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::fold::{Fold, NOT_KNOWN, Seen};
use crate::model::{Block, Fingerprint, HeaderExtras, LastId, NamedRun, NotStored, Run};

/// The part of a block to store.
pub(super) struct Deduplicated {
    /// The messages that are new; `None` when all are known.
    pub(super) block: Option<Block>,
    /// What their header has to contain about them.
    pub(super) extras: Option<Box<HeaderExtras>>,
    /// The others, by place.
    pub(super) not_stored: Arc<[(u32, NotStored)]>,
}

/// Finds what is new in a block. The fold must be warm if the block has ids or a named producer.
pub(super) fn deduplicate(fold: &Fold, block: Block, now_ms: u64) -> Deduplicated {
    if block.fingerprints().is_empty() && block.named().is_none() {
        return Deduplicated { block: Some(block), extras: None, not_stored: Arc::default() };
    }
    let mut extras = HeaderExtras::default();
    let old = match block.named() {
        Some(run) => take_numbers(fold, run, &mut extras),
        None => 0,
    };
    let mut not_stored: Vec<_> =
        (0..old).map(|place| (place, NotStored::Duplicate(None))).collect();
    let mut in_block = InBlock::default();
    for (place, print) in block.fingerprints().iter().filter(|(place, _)| *place >= old) {
        let seen = match in_block.look(*print) {
            Some(own) => own.at(fold),
            None => fold.look(*print, now_ms),
        };
        let why = match seen {
            Seen::New => {
                let new_place = place - not_stored.len() as u32;
                in_block.0.insert(print.id, (new_place, print.payload));
                extras.fingerprints.push((new_place, *print));
                continue;
            }
            Seen::Duplicate { offset, .. } => {
                NotStored::Duplicate(Some(offset).filter(|offset| *offset != NOT_KNOWN))
            }
            Seen::Conflict => NotStored::Conflict,
        };
        not_stored.push((*place, why));
    }
    let is_out = |place| not_stored.binary_search_by_key(&place, |(at, _)| *at).is_ok();
    let kept = if not_stored.is_empty() { Some(block) } else { block.without(is_out) };
    let says = extras != HeaderExtras::default();
    Deduplicated {
        block: kept,
        extras: says.then(|| Box::new(extras)),
        not_stored: not_stored.into(),
    }
}

/// Ids of the block itself: the second of two messages with one id finds the first.
#[derive(Default)]
struct InBlock(FxHashMap<u128, (u32, u64)>);

/// The ids of the block itself.
enum Own {
    Duplicate(u32),
    Conflict,
}

impl InBlock {
    fn look(&self, print: Fingerprint) -> Option<Own> {
        let (place, payload) = self.0.get(&print.id)?;
        Some(if *payload == print.payload { Own::Duplicate(*place) } else { Own::Conflict })
    }
}

impl Own {
    fn at(self, fold: &Fold) -> Seen {
        match self {
            Self::Conflict => Seen::Conflict,
            Self::Duplicate(place) => Seen::Duplicate {
                ingest: fold.core.ingest_head + u64::from(place),
                offset: fold.core.head + u64::from(place),
            },
        }
    }
}

/// How many of a named producer's messages are known, from the block's first on.
fn take_numbers(fold: &Fold, run: &NamedRun, extras: &mut HeaderExtras) -> u32 {
    let before = match fold.last_id(&run.name) {
        Some(LastId::Number(last)) => Some(*last),
        Some(LastId::Position(_)) | None => None,
    };
    let old = before.map_or(0, |last| run.ids.partition_point(|id| *id <= last));
    if let Some(id) = run.ids[old..].last() {
        extras.runs.push(Run { name: run.name.clone(), last: LastId::Number(*id) });
    }
    old as u32
}
