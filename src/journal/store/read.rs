//! What the store is asked.

use std::collections::HashMap;

use bytes::Bytes;

use super::Store;
use super::keys::{self, LowWatermark};
use crate::journal::page::Page;
use crate::journal::{JournalError, TopicRecord};
use crate::model::{Sequence, TopicId};

impl Store {
    pub(in crate::journal) fn chunk(
        &self,
        sequence: Sequence,
    ) -> Result<Option<Bytes>, JournalError> {
        Ok(self.blocks.get(sequence.0.to_be_bytes())?.map(Bytes::from))
    }

    /// The sequence of the first chunk there is.
    pub(in crate::journal) fn first_sequence(&self) -> Result<Option<Sequence>, JournalError> {
        self.blocks.first_key_value().map(sequence).transpose()
    }

    /// The sequence of the last chunk there is.
    pub(in crate::journal) fn last_sequence(&self) -> Result<Option<Sequence>, JournalError> {
        self.blocks.last_key_value().map(sequence).transpose()
    }

    /// The topic's page that holds `offset`, or would: the last one that begins at or before it.
    pub(in crate::journal) fn page_at(
        &self,
        topic: TopicId,
        offset: u64,
    ) -> Result<Option<Page>, JournalError> {
        let range = Page::key(topic, 0)..=Page::key(topic, offset);
        self.index.range(range).next_back().map(page).transpose()
    }

    /// The topic's pages from the one that begins at `base_offset` or later on.
    pub(in crate::journal) fn pages_from(
        &self,
        topic: TopicId,
        base_offset: u64,
    ) -> impl DoubleEndedIterator<Item = Result<Page, JournalError>> {
        let range = Page::key(topic, base_offset)..=Page::key(topic, u64::MAX);
        self.index.range(range).map(page)
    }

    /// All pages of all topics, also of deleted ones.
    pub(in crate::journal) fn pages(
        &self,
    ) -> impl Iterator<Item = Result<(TopicId, Page), JournalError>> {
        self.index.iter().map(topic_page)
    }

    pub(in crate::journal) fn topics(
        &self,
    ) -> impl Iterator<Item = Result<TopicRecord, JournalError>> {
        self.meta.prefix(keys::TOPIC).map(|guard| {
            let value = guard.value()?;
            serde_json::from_slice(&value)
                .map_err(|error| JournalError::Metadata(format!("a topic record: {error}")))
        })
    }

    /// Deleted topics that chunks may still hold blocks of, with the sequence after the last one.
    pub(in crate::journal) fn deleted_topics(
        &self,
    ) -> Result<HashMap<TopicId, Sequence>, JournalError> {
        let mut deleted = HashMap::new();
        for guard in self.meta.prefix(keys::DELETED) {
            let (key, value) = guard.into_inner()?;
            let end = value[..].try_into().map_or(u64::MAX, u64::from_le_bytes);
            if let Some(topic) = keys::topic_of(keys::DELETED, &key) {
                deleted.insert(topic, Sequence(end));
            }
        }
        Ok(deleted)
    }

    pub(in crate::journal) fn low(&self, topic: TopicId) -> Result<LowWatermark, JournalError> {
        let value = self.meta.get(keys::of_topic(keys::LOW, topic, b""))?;
        Ok(value.and_then(|value| LowWatermark::decode(&value)).unwrap_or_default())
    }

    /// The topic's saved message ids, with the number each piece was saved under, oldest first.
    pub(in crate::journal) fn ids(
        &self,
        topic: TopicId,
    ) -> impl Iterator<Item = Result<(u64, Bytes), JournalError>> {
        let prefix = keys::of_topic(keys::IDS, topic, b"");
        let skip = prefix.len();
        self.meta.prefix(prefix).map(move |guard| {
            let (key, value) = guard.into_inner()?;
            let number = key.get(skip..).and_then(|rest| rest.try_into().ok());
            Ok((u64::from_be_bytes(number.unwrap_or_default()), Bytes::from(value)))
        })
    }

    pub(in crate::journal) fn producer(
        &self,
        topic: TopicId,
        name: &str,
    ) -> Result<Option<Bytes>, JournalError> {
        let key = keys::of_topic(keys::PRODUCER, topic, name.as_bytes());
        Ok(self.meta.get(key)?.map(Bytes::from))
    }

    /// The topic's named producers, with what is kept of each.
    pub(in crate::journal) fn producers(
        &self,
        topic: TopicId,
    ) -> impl Iterator<Item = Result<(String, Bytes), JournalError>> {
        let prefix = keys::of_topic(keys::PRODUCER, topic, b"");
        let skip = prefix.len();
        self.meta.prefix(prefix).map(move |guard| {
            let (key, value) = guard.into_inner()?;
            let name = String::from_utf8_lossy(key.get(skip..).unwrap_or_default()).into_owned();
            Ok((name, Bytes::from(value)))
        })
    }

    /// The secret receipts are sealed with.
    pub(in crate::journal) fn receipt_secret(&self) -> Result<[u8; 16], JournalError> {
        self.secret(keys::RECEIPT_KEY)
    }

    /// The secret message ids are hashed with.
    pub(in crate::journal) fn message_id_secret(&self) -> Result<[u8; 16], JournalError> {
        self.secret(keys::MESSAGE_ID_KEY)
    }

    fn secret(&self, key: &[u8]) -> Result<[u8; 16], JournalError> {
        let value = self.meta.get(key)?;
        value.and_then(|value| value[..].try_into().ok()).ok_or_else(|| {
            let key = String::from_utf8_lossy(key);
            JournalError::Metadata(format!("`{key}` is missing or has a wrong length"))
        })
    }
}

fn sequence(guard: fjall::Guard) -> Result<Sequence, JournalError> {
    let key = guard.key()?;
    let key = <[u8; 8]>::try_from(&*key)
        .map_err(|_| JournalError::Metadata("a chunk's key is no sequence".into()))?;
    Ok(Sequence(u64::from_be_bytes(key)))
}

fn page(guard: fjall::Guard) -> Result<Page, JournalError> {
    Ok(topic_page(guard)?.1)
}

/// A page and whose it is.
pub(super) fn topic_page(guard: fjall::Guard) -> Result<(TopicId, Page), JournalError> {
    let (key, value) = guard.into_inner()?;
    let (topic, _) = Page::parse_key(&key)
        .ok_or_else(|| JournalError::Metadata("an index page's key is none".into()))?;
    let page = Page::decode(&key, &value)
        .map_err(|what| JournalError::Metadata(format!("topic {topic}: {what}")))?;
    Ok((topic, page))
}
