//! Counting the live blocks of a journal that was opened.

use std::collections::HashMap;

use super::Reclaimer;
use crate::journal::machine::Request;
use crate::model::{OwnerId, StreamId};

impl<R: Request> Reclaimer<R> {
    /// Counts the blocks in pages; those of tails were counted when they were recovered.
    pub(super) fn count(&mut self) {
        for item in self.shared.store.pages() {
            let (stream, page) = match item {
                Ok(found) => found,
                Err(error) => {
                    // Its blocks are not counted, so nothing may be dropped.
                    self.may_drop = false;
                    tracing::error!(%error, "no disk space is reclaimed until this is repaired");
                    continue;
                }
            };
            let Some((log, first)) = self.counts(stream) else { continue };
            let counted_from = self.counted_from[log as usize];
            let tail_from = self.tails_from.get(&stream).copied().unwrap_or(u64::MAX);
            let mut usage = self.shared.log(log).lock_usage();
            for entry in &page.entries {
                let counted = entry.sequence >= counted_from || entry.number >= tail_from;
                if !counted && !entry.is_below(first) {
                    usage.add(entry.sequence, entry.weight());
                }
            }
        }
        self.tails_from = HashMap::new();
    }

    /// The log and low watermark of a stream whose pages count.
    fn counts(&self, stream: StreamId) -> Option<(crate::model::Log, u64)> {
        if let Some(deleted) = self.shared.lock_deleted().get(&OwnerId::from(stream)) {
            return deleted.counted.then_some((deleted.log, deleted.first));
        }
        let state = self.shared.stream(stream)?;
        let first = state.read_index().extent.first;
        Some((state.log, first))
    }
}
