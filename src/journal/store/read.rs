//! Reads of the store.

use bytes::Bytes;

use super::Store;
use crate::journal::JournalError;
use crate::journal::format::chunk::Place;
use crate::journal::index::{Extent, Page, PageStart};
use crate::journal::state::{self, StateKey};
use crate::model::{Log, OwnerId, Sequence, StreamId};

impl Store {
    pub(in crate::journal) fn chunk(&self, place: Place) -> Result<Option<Bytes>, JournalError> {
        Ok(self.log(place.log).get(place.sequence.0.to_be_bytes())?.map(Bytes::from))
    }

    /// The sequence of the first chunk.
    pub(in crate::journal) fn first_sequence(
        &self,
        log: Log,
    ) -> Result<Option<Sequence>, JournalError> {
        self.log(log).first_key_value().map(sequence).transpose()
    }

    /// The sequence of the last chunk.
    pub(in crate::journal) fn last_sequence(
        &self,
        log: Log,
    ) -> Result<Option<Sequence>, JournalError> {
        self.log(log).last_key_value().map(sequence).transpose()
    }

    /// The stream's page that holds `offset`, or would: the last one that begins at or before it.
    pub(in crate::journal) fn page_at(
        &self,
        stream: StreamId,
        offset: u64,
    ) -> Result<Option<Page>, JournalError> {
        self.page_before(stream, PageStart::behind(offset))
    }

    /// The last of the stream's pages that begins there or before.
    pub(in crate::journal) fn page_before(
        &self,
        stream: StreamId,
        start: PageStart,
    ) -> Result<Option<Page>, JournalError> {
        let from = Page::key(stream, PageStart::at(0));
        let found = self.index.range(from..=Page::key(stream, start)).next_back();
        found.map(|guard| Ok(page(guard)?.1)).transpose()
    }

    /// The page that begins exactly there.
    pub(in crate::journal) fn page(
        &self,
        stream: StreamId,
        start: PageStart,
    ) -> Result<Option<Page>, JournalError> {
        let key = Page::key(stream, start);
        let Some(value) = self.index.get(key)? else { return Ok(None) };
        Page::decode(&key, &value).map(Some).map_err(|what| damaged_page(stream, what))
    }

    /// The stream's pages from the one that begins there or later on.
    pub(in crate::journal) fn pages_from(
        &self,
        stream: StreamId,
        start: PageStart,
    ) -> impl DoubleEndedIterator<Item = Result<Page, JournalError>> {
        let from = Page::key(stream, start);
        let to = Page::key(stream, PageStart::behind(u64::MAX));
        self.index.range(from..=to).map(|guard| Ok(page(guard)?.1))
    }

    /// All pages of all streams, also of deleted ones.
    pub(in crate::journal) fn pages(
        &self,
    ) -> impl Iterator<Item = Result<(StreamId, Page), JournalError>> {
        self.index.iter().filter_map(|guard| maybe_page(guard).transpose())
    }

    /// A stream's extent as it was written last.
    pub(in crate::journal) fn extent(
        &self,
        stream: StreamId,
    ) -> Result<Option<Extent>, JournalError> {
        let key = super::keys::extent(stream);
        let Some(sealed) = self.meta.get(key.as_bytes())? else { return Ok(None) };
        let value = state::open(&key, &Bytes::from(sealed))?;
        let malformed = || JournalError::Metadata(format!("the extent of stream {stream}"));
        Extent::decode(&value).map(Some).ok_or_else(malformed)
    }

    /// All keys of `meta`, by owner, with their values as they are stored.
    pub(in crate::journal) fn small_state(
        &self,
    ) -> impl Iterator<Item = Result<(StateKey, Bytes), JournalError>> {
        self.meta.iter().map(keyed)
    }

    /// The owner's keys with a tag that is not loaded at a start.
    pub(in crate::journal) fn state_keys(
        &self,
        owner: OwnerId,
        tag: u8,
    ) -> impl Iterator<Item = Result<StateKey, JournalError>> {
        let prefix = StateKey::new(owner, tag, b"");
        self.index.prefix(prefix.as_bytes()).map(|guard| {
            let key = guard.key()?;
            StateKey::parse(&key).ok_or_else(|| JournalError::Metadata("a key is too short".into()))
        })
    }

    /// The owner's values with a tag that is not loaded at a start, by the rest of their keys.
    pub(in crate::journal) fn state(
        &self,
        owner: OwnerId,
        tag: u8,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), JournalError>> {
        let prefix = StateKey::new(owner, tag, b"");
        self.index.prefix(prefix.as_bytes()).map(|guard| {
            let (key, sealed) = keyed(guard)?;
            let value = state::open(&key, &sealed)?;
            Ok((Bytes::copy_from_slice(key.rest()), value))
        })
    }

    /// Every key of an owner, but its pages.
    pub(in crate::journal) fn keys_of(
        &self,
        owner: OwnerId,
    ) -> Result<Vec<StateKey>, JournalError> {
        let prefix = owner.0.to_be_bytes();
        let mut keys = Vec::new();
        for guard in self.meta.prefix(prefix).chain(self.index.prefix(prefix)) {
            let key = guard.key()?;
            if Page::parse_key(&key).is_none() {
                keys.extend(StateKey::parse(&key));
            }
        }
        Ok(keys)
    }
}

fn sequence(guard: fjall::Guard) -> Result<Sequence, JournalError> {
    let key = guard.key()?;
    let key = <[u8; 8]>::try_from(&*key)
        .map_err(|_| JournalError::Metadata("a chunk's key is no sequence".into()))?;
    Ok(Sequence(u64::from_be_bytes(key)))
}

/// A key of state and its value as it is stored.
pub(super) fn keyed(guard: fjall::Guard) -> Result<(StateKey, Bytes), JournalError> {
    let (key, value) = guard.into_inner()?;
    let key =
        StateKey::parse(&key).ok_or_else(|| JournalError::Metadata("a key is too short".into()))?;
    Ok((key, Bytes::from(value)))
}

fn damaged_page(stream: StreamId, what: &str) -> JournalError {
    JournalError::Metadata(format!("stream {stream}: {what}"))
}

fn page(guard: fjall::Guard) -> Result<(StreamId, Page), JournalError> {
    let malformed = || JournalError::Metadata("an index page's key is malformed".into());
    maybe_page(guard)?.ok_or_else(malformed)
}

/// A page and its stream; `None` for a key of another kind.
pub(super) fn maybe_page(guard: fjall::Guard) -> Result<Option<(StreamId, Page)>, JournalError> {
    let (key, value) = guard.into_inner()?;
    let Some((stream, _)) = Page::parse_key(&key) else { return Ok(None) };
    let page = Page::decode(&key, &value).map_err(|what| damaged_page(stream, what))?;
    Ok(Some((stream, page)))
}
