//! Which messages of a block are new: named producers' numbers and message ids against what the
//! topic knows.

use std::sync::Arc;

use super::catalogue::WriterTopic;
use super::commit::Commit;
use super::dedup::Known;
use super::named::LastId;
use crate::journal::JournalError;
use crate::journal::command::Exception;
use crate::journal::store::Store;
use crate::model::{Block, NamedRun};

/// What of a block is to be stored.
pub(super) struct Sifted {
    /// The messages that are new; `None` when there are none.
    pub(super) block: Option<Block>,
    /// The others, by place.
    pub(super) exceptions: Arc<[(u32, Exception)]>,
}

/// Sifts a block and enters what is new as stored: from here on it counts as known.
///
/// # Errors
/// The store can't be read.
pub(super) fn sift(
    known: &mut WriterTopic,
    block: Block,
    store: &Store,
    names_max: usize,
    commit: &mut Commit,
) -> Result<Sifted, JournalError> {
    if block.fingerprints().is_empty() && block.named().is_none() {
        return Ok(Sifted { block: Some(block), exceptions: Arc::default() });
    }
    let old = match block.named() {
        Some(run) => take_numbers(known, run, store, names_max, commit)?,
        None => 0,
    };
    let mut exceptions: Vec<_> =
        (0..old).map(|place| (place, Exception::Duplicate(None))).collect();
    let topic = known.record.id;
    let useless = known.dedup.expire(commit.age_ms, &known.record.settings);
    commit.useless_ids.extend(useless.into_iter().map(|number| (topic, number)));
    for (place, print) in block.fingerprints().iter().filter(|(place, _)| *place >= old) {
        let exception = match known.dedup.look(*print) {
            Known::New => {
                let offset = known.next_offset + u64::from(*place) - exceptions.len() as u64;
                known.dedup.enter(*print, offset, commit.age_ms);
                continue;
            }
            Known::Duplicate(offset) => Exception::Duplicate(Some(offset)),
            Known::Conflict => Exception::Conflict,
        };
        exceptions.push((*place, exception));
    }
    if exceptions.is_empty() {
        return Ok(Sifted { block: Some(block), exceptions: Arc::default() });
    }
    let is_exception = |place| exceptions.binary_search_by_key(&place, |(at, _)| *at).is_ok();
    Ok(Sifted { block: block.without(is_exception), exceptions: exceptions.into() })
}

/// How many of a named producer's messages are known, from the block's first on.
fn take_numbers(
    known: &mut WriterTopic,
    run: &NamedRun,
    store: &Store,
    names_max: usize,
    commit: &mut Commit,
) -> Result<u32, JournalError> {
    let topic = known.record.id;
    let before = known.named.last(store, topic, &run.name)?;
    let old = before.map_or(0, |last| run.ids.partition_point(|id| *id <= last));
    if let Some(id) = run.ids[old..].last() {
        let last = LastId { id: *id, age_ms: commit.age_ms };
        let forgotten = known.named.advance(store, topic, &run.name, last, names_max);
        commit.producers.extend(forgotten.into_iter().map(|name| ((topic, name.into()), None)));
        commit.producers.insert((topic, run.name.clone()), Some(last));
    }
    Ok(old as u32)
}
