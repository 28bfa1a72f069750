//! Which blocks of a stream to remove: too old, too many bytes, or given up.

use std::sync::atomic::Ordering;

use crate::journal::JournalError;
use crate::journal::command::Trim;
use crate::journal::index::{IndexEntry, PageStart};
use crate::journal::shared::StreamState;
use crate::journal::store::Store;
use crate::model::StreamId;

/// Blocks given up with one step, so that memory stays bounded and the writer is not held up.
const STEP_BLOCKS: usize = 4_096;

/// The result of a look at a stream.
#[derive(Debug, Default)]
pub(in crate::journal) struct Walked {
    pub(in crate::journal) trim: Option<Trim>,
    /// There may be more to remove.
    pub(in crate::journal) more: bool,
    /// Age of the first block that stays.
    oldest_age_ms: Option<u64>,
}

/// What a stream has to remove by its limits.
pub(super) fn expire(
    store: &Store,
    stream: StreamId,
    state: &StreamState,
    now_ms: u64,
) -> Result<Walked, JournalError> {
    let limits = state.limits();
    let oldest_ms = now_ms.saturating_sub(limits.age_ms);
    let (first, kept, head) = {
        let extent = &state.read_index().extent;
        (extent.first, extent.bytes_kept(), extent.head)
    };
    let known = state.oldest_age_ms.load(Ordering::Relaxed);
    let young = known > oldest_ms || limits.age_ms == u64::MAX;
    if first == head || (young && kept <= limits.bytes) {
        return Ok(Walked::default());
    }
    let goes = |entry: &IndexEntry, gone_bytes: u64| {
        let too_old = entry.age_ms < oldest_ms;
        // One block too large for the limit is kept until the next one comes.
        let too_many = kept.saturating_sub(gone_bytes) > limits.bytes;
        too_old || (too_many && entry.end_offset() < head)
    };
    let walked = walk(store, stream, state, goes)?;
    if let Some(age_ms) = walked.oldest_age_ms {
        state.oldest_age_ms.store(age_ms.saturating_add(1), Ordering::Relaxed);
    } else if !walked.more {
        state.oldest_age_ms.store(0, Ordering::Relaxed);
    }
    Ok(walked)
}

/// Walks a stream's blocks from the low watermark on, as long as `goes`, which gets the bytes of
/// the blocks before.
pub(in crate::journal) fn walk(
    store: &Store,
    stream: StreamId,
    state: &StreamState,
    goes: impl Fn(&IndexEntry, u64) -> bool,
) -> Result<Walked, JournalError> {
    let (first, bytes_before) = {
        let extent = &state.read_index().extent;
        (extent.first, extent.bytes_before_first)
    };
    let (pages, gone) = (Vec::new(), Vec::new());
    let mut trim = Trim { stream, from: first, first, bytes_before, pages, gone };
    let mut walked = Walked::default();
    let (mut between, mut passed) = (Vec::new(), Vec::new());
    'pages: for (start, entries) in entries(store, stream, state, first)? {
        for entry in entries {
            if entry.is_below(first) {
                continue;
            }
            if entry.count == 0 {
                // It is removed with the next message.
                between.push(entry);
                continue;
            }
            let gone_bytes = trim.bytes_before - bytes_before;
            if trim.gone.len() >= STEP_BLOCKS || !goes(&entry, gone_bytes) {
                walked.oldest_age_ms = Some(entry.age_ms);
                break 'pages;
            }
            trim.first = entry.end_offset();
            trim.bytes_before += u64::from(entry.bytes);
            trim.gone.append(&mut between);
            trim.gone.push(entry);
            trim.pages.append(&mut passed);
        }
        passed.extend(start);
        // Every entry of the pages passed is below the low watermark.
        if between.is_empty() {
            trim.pages.append(&mut passed);
        }
    }
    walked.more = trim.gone.len() >= STEP_BLOCKS;
    walked.trim = (trim.first > first).then_some(trim);
    Ok(walked)
}

/// A stream's entries from the page that holds `first` on, with the page's beginning; those of the
/// tail last, without one.
fn entries(
    store: &Store,
    stream: StreamId,
    state: &StreamState,
    first: u64,
) -> Result<impl Iterator<Item = (Option<PageStart>, Vec<IndexEntry>)> + use<>, JournalError> {
    // The tail first: entries that leave it meanwhile are met twice rather than never.
    let tail: Vec<_> = state.read_index().tail.iter().copied().collect();
    let tail_number = tail.first().map_or(u64::MAX, |entry| entry.number);
    let page = store.page_at(stream, first)?;
    let from = page.and_then(|page| page.start()).unwrap_or(PageStart::at(first));
    let mut pages = Vec::new();
    let mut blocks = 0;
    for page in store.pages_from(stream, from) {
        let page = page?;
        let start = page.start();
        if start.is_some_and(|start| start.number >= tail_number) || blocks > STEP_BLOCKS {
            break;
        }
        blocks += page.entries.len();
        pages.push((start, page.entries));
    }
    let rest = if blocks > STEP_BLOCKS { Vec::new() } else { tail };
    Ok(pages.into_iter().chain([(None, rest)]))
}
