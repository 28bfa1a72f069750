//! The store as it was at one moment.

use bytes::Bytes;
use fjall::Readable;

use super::Store;
use crate::journal::JournalError;
use crate::journal::page::Page;
use crate::model::TopicId;

/// See the module. fjall keeps what it needs for as long as this lives; chunks that retention
/// drops are gone all the same.
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
    /// The keys of `meta` that mean something in another directory, in order.
    pub(in crate::journal) fn meta(
        &self,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), JournalError>> {
        let items = self.snapshot.iter(&self.store.meta).map(|guard| {
            let (key, value) = guard.into_inner()?;
            Ok((Bytes::from(key), Bytes::from(value)))
        });
        items.filter(|item: &Result<(Bytes, _), JournalError>| {
            item.as_ref().map_or(true, |(key, _)| Store::is_content(key))
        })
    }

    /// The pages of all topics, each topic's in order.
    pub(in crate::journal) fn pages(
        &self,
    ) -> impl Iterator<Item = Result<(TopicId, Page), JournalError>> {
        self.snapshot.iter(&self.store.index).map(super::read::topic_page)
    }
}
