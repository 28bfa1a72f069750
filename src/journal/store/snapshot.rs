//! The store as it was at one moment.

use bytes::Bytes;
use fjall::Readable;

use super::{Store, read};
use crate::journal::JournalError;
use crate::journal::index::Page;
use crate::journal::state::StateKey;
use crate::model::StreamId;

/// See the module. fjall keeps everything it needs for as long as this lives, every memtable
/// included, so it must not live for long; dropped chunks are gone all the same.
pub(in crate::journal) struct Snapshot {
    store: Store,
    snapshot: fjall::Snapshot,
}

impl Store {
    /// Everything as it is now.
    pub(in crate::journal) fn snapshot(&self) -> Snapshot {
        Snapshot { store: self.clone(), snapshot: self.database.snapshot() }
    }
}

impl Snapshot {
    /// All keys of `meta`, by owner, with their values as they are stored.
    pub(in crate::journal) fn small_state(
        &self,
    ) -> impl Iterator<Item = Result<(StateKey, Bytes), JournalError>> {
        self.snapshot.iter(&self.store.meta).map(read::keyed)
    }

    /// All keys of `index` that are no pages, with their values as they are stored.
    pub(in crate::journal) fn bulk_state(
        &self,
    ) -> impl Iterator<Item = Result<(StateKey, Bytes), JournalError>> {
        let items = self.snapshot.iter(&self.store.index).map(read::keyed);
        let is_state = |item: &Result<(StateKey, Bytes), JournalError>| {
            item.as_ref().map_or(true, |(key, _)| Page::parse_key(key.as_bytes()).is_none())
        };
        items.filter(is_state)
    }

    /// The pages of all streams, each stream's in order.
    pub(in crate::journal) fn pages(
        &self,
    ) -> impl Iterator<Item = Result<(StreamId, Page), JournalError>> {
        let items = self.snapshot.iter(&self.store.index);
        items.filter_map(|guard| read::maybe_page(guard).transpose())
    }
}
