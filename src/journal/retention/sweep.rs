//! Which blocks of a topic are to go: too old, or too many bytes.

use super::Retention;
use crate::journal::JournalError;
use crate::journal::command::Trim;
use crate::journal::index::IndexEntry;
use crate::journal::shared::TopicState;
use crate::journal::store::LowWatermark;
use crate::model::TopicId;

/// Blocks let go of with one step, so that memory stays bounded and the writer is not held up.
const STEP_BLOCKS: usize = 4_096;

/// What a look at a topic gave.
pub(super) struct Swept {
    pub(super) trim: Trim,
    /// There may be more to go.
    pub(super) more: bool,
}

impl Retention {
    /// What a topic has to let go of; `None` when it keeps everything.
    pub(super) fn sweep(
        &mut self,
        topic: TopicId,
        state: &TopicState,
        now_ms: u64,
    ) -> Result<Option<Swept>, JournalError> {
        let (retention_ms, retention_bytes) = state.retention();
        let oldest_ms = now_ms.saturating_sub(retention_ms);
        let (first, before, kept, head) = {
            let index = state.read_index();
            (index.first, index.bytes_before_first, index.bytes_kept(), index.head)
        };
        let young =
            self.first_ages.get(&topic).is_some_and(|(at, age)| *at == first && *age >= oldest_ms);
        if first == head || (young && kept <= retention_bytes) {
            return Ok(None);
        }
        let mut left = kept;
        let mut low = LowWatermark { first, bytes_before: before };
        let mut gone = Vec::new();
        let mut pages = Vec::new();
        'pages: for (base, entries) in self.entries(topic, state, first)? {
            let mut last = None;
            for entry in entries {
                if entry.end_offset() <= first {
                    last = Some(entry.end_offset());
                    continue;
                }
                let too_old = entry.age_ms < oldest_ms;
                // One block too large for the limit is kept until the next one comes.
                let too_many = left > retention_bytes && entry.end_offset() < head;
                if gone.len() == STEP_BLOCKS || !(too_old || too_many) {
                    self.first_ages.insert(topic, (low.first, entry.age_ms));
                    break 'pages;
                }
                left = left.saturating_sub(u64::from(entry.bytes));
                low.first = entry.end_offset();
                low.bytes_before += u64::from(entry.bytes);
                last = Some(entry.end_offset());
                gone.push(entry);
            }
            // Every entry of this page is below the low watermark.
            if last == Some(low.first) {
                pages.extend(base);
            }
        }
        let more = gone.len() == STEP_BLOCKS;
        let moved = low.first > first;
        Ok(moved.then_some(Swept { trim: Trim { topic, low, pages, gone }, more }))
    }

    /// A topic's entries from the page that holds `first` on, with the page's first offset; those
    /// of the tail at last, without one.
    fn entries(
        &self,
        topic: TopicId,
        state: &TopicState,
        first: u64,
    ) -> Result<impl Iterator<Item = (Option<u64>, Vec<IndexEntry>)> + use<>, JournalError> {
        let store = &self.shared.store;
        // The tail first: what leaves it meanwhile is met twice rather than never.
        let tail: Vec<_> = state.read_index().tail.iter().copied().collect();
        let tail_base = tail.first().map_or(u64::MAX, |entry| entry.base_offset);
        let page = store.page_at(topic, first)?;
        let from = page.and_then(|page| page.entries.first().map(|e| e.base_offset));
        let mut pages = Vec::new();
        let mut blocks = 0;
        for page in store.pages_from(topic, from.unwrap_or(first)) {
            let page = page?;
            let base = page.entries.first().map(|entry| entry.base_offset);
            if base.is_some_and(|base| base >= tail_base) || blocks > STEP_BLOCKS {
                break;
            }
            blocks += page.entries.len();
            pages.push((base, page.entries));
        }
        let rest = if blocks > STEP_BLOCKS { Vec::new() } else { tail };
        Ok(pages.into_iter().chain([(None, rest)]))
    }
}
