//! Named producers: the last durable id of each, and how many names a topic may have.
//!
//! The last id of a name is written under `producer/` in the very commit that stores its block,
//! so that one is never there without the other, and a start has nothing to look for. Names are
//! read from the store when they are first used.
//!
//! Invariants: a name's last id never falls; a topic has at most `names_max` names: when one more
//! comes, the tenth of them that has been silent the longest is forgotten, as a window would.

use std::collections::HashMap;

use bytes::{Buf, BufMut};

use crate::journal::JournalError;
use crate::journal::store::Store;
use crate::model::TopicId;

/// What is kept of a name: its last id, and how old the journal was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastId {
    pub(super) id: u64,
    pub(super) age_ms: u64,
}

impl LastId {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.put_u64_le(self.id);
        out.put_u64_le(self.age_ms);
        out
    }

    fn decode(mut value: &[u8]) -> Option<Self> {
        (value.len() == 16).then(|| Self { id: value.get_u64_le(), age_ms: value.get_u64_le() })
    }
}

/// One topic's names, as far as they were used since the start.
#[derive(Debug, Default)]
pub(super) struct NamedProducers {
    used: HashMap<Box<str>, LastId>,
    /// How many names the store has; counted when the first new one comes.
    count: Option<usize>,
}

impl NamedProducers {
    /// The last id of a name; `None` for one that is new.
    pub(super) fn last(
        &mut self,
        store: &Store,
        topic: TopicId,
        name: &str,
    ) -> Result<Option<u64>, JournalError> {
        if let Some(known) = self.used.get(name) {
            return Ok(Some(known.id));
        }
        let stored = store.producer(topic, name)?.and_then(|value| LastId::decode(&value));
        if let Some(last) = stored {
            self.used.insert(name.into(), last);
        }
        Ok(stored.map(|last| last.id))
    }

    /// Sets a name's last id; the names that are forgotten for it.
    pub(super) fn advance(
        &mut self,
        store: &Store,
        topic: TopicId,
        name: &str,
        last: LastId,
        names_max: usize,
    ) -> Vec<String> {
        if let Some(known) = self.used.get_mut(name) {
            known.id = known.id.max(last.id);
            known.age_ms = last.age_ms;
            return Vec::new();
        }
        let count = match self.count {
            Some(count) => count,
            None => store.producers(topic).count(),
        };
        let forgotten = if count < names_max {
            Vec::new()
        } else {
            self.oldest(store, topic, count + 1 - names_max + names_max / 10)
        };
        for name in &forgotten {
            self.used.remove(name.as_str());
        }
        self.count = Some(count + 1 - forgotten.len().min(count));
        self.used.insert(name.into(), last);
        forgotten
    }

    fn oldest(&self, store: &Store, topic: TopicId, how_many: usize) -> Vec<String> {
        let mut names = Vec::new();
        // What can't be read can't be forgotten either.
        for (name, value) in store.producers(topic).filter_map(Result::ok) {
            let stored = LastId::decode(&value).map_or(0, |last| last.age_ms);
            let age_ms = self.used.get(name.as_str()).map_or(stored, |last| last.age_ms);
            names.push((age_ms, name));
        }
        names.sort_unstable();
        names.into_iter().take(how_many).map(|(_, name)| name).collect()
    }
}
