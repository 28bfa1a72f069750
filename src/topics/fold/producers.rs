//! Named producers: the last durable id of each, and how many names a topic may have.
//!
//! Invariants: a name's last number never falls; a topic has at most `names_max` names: when one
//! more comes, the tenth of them that has been silent the longest is forgotten, as by a window.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::journal::format::entry::{put_last_id, take_last_id};
use crate::journal::format::varint;
use crate::model::LastId;

/// An entry of a name: its last id, and how old the journal was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    last: LastId,
    age_ms: u64,
}

impl Known {
    pub(super) fn new(last: LastId, age_ms: u64) -> Self {
        Self { last, age_ms }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, self.age_ms);
        put_last_id(&mut out, &self.last);
        out
    }

    fn decode(mut rest: &[u8]) -> Option<Self> {
        let age_ms = varint::take(&mut rest)?;
        let last = take_last_id(&mut rest)?;
        rest.is_empty().then_some(Self { last, age_ms })
    }
}

/// One topic's names.
#[derive(Debug, Default)]
pub(super) struct Producers {
    names: HashMap<Arc<str>, Known>,
    /// Names whose state differs from what was saved; unknown ones among them are to be removed.
    changed: BTreeSet<Arc<str>>,
    bytes: usize,
}

/// What a name takes in memory beside its bytes.
const NAME_OVERHEAD_BYTES: usize = 112;

impl Producers {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_saved(&self) -> bool {
        self.changed.is_empty()
    }

    /// The last id of a name; `None` for one that is new.
    pub(super) fn last(&self, name: &str) -> Option<&LastId> {
        self.names.get(name).map(|known| &known.last)
    }

    /// Sets a name's last id, unless it is behind the one that is known.
    pub(super) fn advance(&mut self, name: &Arc<str>, last: &LastId, age_ms: u64, max: usize) {
        if let Some(known) = self.names.get_mut(name) {
            if let (LastId::Number(before), LastId::Number(now)) = (&known.last, last)
                && now < before
            {
                return;
            }
            *known = Known::new(last.clone(), age_ms);
        } else {
            if self.names.len() >= max {
                self.forget_oldest(self.names.len() + 1 - max + max / 10);
            }
            self.bytes += name.len() + NAME_OVERHEAD_BYTES;
            self.names.insert(name.clone(), Known::new(last.clone(), age_ms));
        }
        self.changed.insert(name.clone());
    }

    /// Forgets excess names: those of a cold fold were saved without counting.
    pub(super) fn keep_within(&mut self, max: usize) {
        if self.names.len() > max {
            self.forget_oldest(self.names.len() - max);
        }
    }

    fn forget_oldest(&mut self, how_many: usize) {
        let mut ages: Vec<_> =
            self.names.iter().map(|(name, known)| (known.age_ms, name.clone())).collect();
        ages.sort_unstable();
        for (_, name) in ages.into_iter().take(how_many) {
            self.bytes -= name.len() + NAME_OVERHEAD_BYTES;
            self.names.remove(&name);
            self.changed.insert(name);
        }
    }

    /// Names and values to be put or, without one, removed.
    pub(super) fn save(&mut self) -> Vec<(Arc<str>, Option<Vec<u8>>)> {
        let changed = std::mem::take(&mut self.changed);
        let value = |name: &Arc<str>| self.names.get(name).map(Known::encode);
        changed.into_iter().map(|name| (name.clone(), value(&name))).collect()
    }

    /// Loads a saved name; false when it can't be read.
    pub(super) fn restore(&mut self, name: &[u8], value: &[u8]) -> bool {
        let (Ok(name), Some(known)) = (std::str::from_utf8(name), Known::decode(value)) else {
            return false;
        };
        self.bytes += name.len() + NAME_OVERHEAD_BYTES;
        self.names.insert(name.into(), known);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(producers: &mut Producers, name: &str, id: u64, age_ms: u64) {
        producers.advance(&name.into(), &LastId::Number(id), age_ms, 3);
    }

    #[test]
    fn a_names_last_number_never_falls() {
        let mut producers = Producers::default();
        advance(&mut producers, "a", 7, 1);
        advance(&mut producers, "a", 5, 2);
        assert_eq!(producers.last("a"), Some(&LastId::Number(7)));
        assert_eq!(producers.last("b"), None);
    }

    #[test]
    fn the_name_that_has_been_silent_the_longest_is_forgotten_first() {
        let mut producers = Producers::default();
        for (name, age_ms) in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("d", 5)] {
            advance(&mut producers, name, age_ms, age_ms);
        }
        let known = |name| producers.last(name).is_some();
        assert_eq!(["a", "b", "c", "d"].map(known), [true, false, true, true]);
        let saved = producers.save();
        let mut again = Producers::default();
        for (name, value) in saved {
            assert_eq!(value.is_none(), &*name == "b");
            value.into_iter().for_each(|value| assert!(again.restore(name.as_bytes(), &value)));
        }
        assert_eq!(again.last("a"), Some(&LastId::Number(4)));
        assert!(producers.is_saved() && again.bytes() == producers.bytes());
    }
}
