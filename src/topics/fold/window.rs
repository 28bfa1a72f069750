//! The dedup window of a topic: which message ids it has seen, and where their messages are.
//!
//! Bounded by age and count (the topic's settings). It is durable without being written message by
//! message: an id whose block a start reads again is found in that block's header; when the block
//! leaves what a start reads, the ids that came since the last time are saved as one piece. A piece
//! is removed once none of its ids is remembered. So the window outlives both restarts and the
//! messages themselves.
//!
//! Invariants: ids leave in the order they came; an id used anew after it left is another entry. A
//! window that is made larger may find ids again that had left the smaller one.

use std::collections::VecDeque;

use bytes::{Buf, BufMut};
use hashbrown::HashTable;

use crate::journal::format::varint;
use crate::model::{Fingerprint, Gap, WindowSettings};

const VERSION: u8 = 1;
/// The offset of a message whose outputs are not known yet.
pub(in crate::topics) const NOT_KNOWN: u64 = u64::MAX;

/// A message's state in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::topics) enum Seen {
    /// No message with this id is known.
    New,
    /// The same message has this ingest sequence and this offset.
    Duplicate { ingest: u64, offset: u64 },
    /// A message with this id and another payload is known.
    Conflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    id: u128,
    payload: u64,
    ingest: u64,
    offset: u64,
    age_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::topics) struct Window {
    /// Oldest first.
    order: VecDeque<Entry>,
    /// How many have left: the place of `order[0]` among all.
    gone: u32,
    /// The newest entry of each id, by its place among all.
    by_id: HashTable<u32>,
    /// Pieces that hold the oldest entries, with how many of theirs are still here.
    pieces: VecDeque<(u64, usize)>,
    /// Entries in pieces; the ones after them are not saved.
    saved: usize,
    /// Saved entries whose offset has become known since.
    amended: Vec<Entry>,
    /// Pieces that are obsolete.
    useless: Vec<u64>,
}

/// Ids are keyed hashes themselves.
fn hash(id: u128) -> u64 {
    id as u64
}

impl Window {
    /// Its bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.order.capacity() * size_of::<Entry>() + self.by_id.capacity() * 6
    }

    /// Everything in it is saved.
    pub(super) fn is_saved(&self) -> bool {
        self.saved == self.order.len() && self.amended.is_empty() && self.useless.is_empty()
    }

    fn find(&self, id: u128) -> Option<&Entry> {
        let place = self.by_id.find(hash(id), |place| self.at(*place).id == id)?;
        Some(self.at(*place))
    }

    fn at(&self, place: u32) -> &Entry {
        &self.order[place.wrapping_sub(self.gone) as usize]
    }

    /// The state of a message at that age of the journal.
    pub(in crate::topics) fn look(
        &self,
        print: Fingerprint,
        now_ms: u64,
        settings: WindowSettings,
    ) -> Seen {
        let oldest_ms = now_ms.saturating_sub(settings.ms);
        let place = self.by_id.find(hash(print.id), |place| self.at(*place).id == print.id);
        let Some(place) = place.copied() else { return Seen::New };
        let entry = self.at(place);
        // How many came since, this one included: a restored snapshot may hold too many.
        let since = self.order.len() - place.wrapping_sub(self.gone) as usize;
        if entry.age_ms < oldest_ms || since as u64 > settings.messages {
            return Seen::New;
        }
        match entry.payload == print.payload {
            true => Seen::Duplicate { ingest: entry.ingest, offset: entry.offset },
            false => Seen::Conflict,
        }
    }

    /// Enters a message.
    pub(super) fn enter(&mut self, print: Fingerprint, ingest: u64, offset: u64, age_ms: u64) {
        // Found again in a piece and in a block: once is enough. Under another sequence, or later,
        // it is the id of a message that had left the window, used anew: sequences of two origins
        // can be equal.
        let same = |known: &Entry| known.ingest == ingest && known.age_ms == age_ms;
        if self.find(print.id).is_some_and(same) {
            return self.set_offset(print.id, ingest, offset);
        }
        let place = self.gone.wrapping_add(self.order.len() as u32);
        let (id, payload) = (print.id, print.payload);
        self.order.push_back(Entry { id, payload, ingest, offset, age_ms });
        let (order, gone) = (&self.order, self.gone);
        let at = |place: u32| &order[place.wrapping_sub(gone) as usize];
        let is_id = |place: &u32| at(*place).id == id;
        match self.by_id.find_mut(hash(id), is_id) {
            Some(known) => *known = place,
            None => drop(self.by_id.insert_unique(hash(id), place, |p| hash(at(*p).id))),
        }
    }

    /// The offset of a message has become known.
    pub(super) fn set_offset(&mut self, id: u128, ingest: u64, offset: u64) {
        let Some(place) = self.by_id.find(hash(id), |place| self.at(*place).id == id) else {
            return;
        };
        let n = place.wrapping_sub(self.gone) as usize;
        let entry = &mut self.order[n];
        if entry.ingest != ingest || entry.offset != NOT_KNOWN || offset == NOT_KNOWN {
            return;
        }
        entry.offset = offset;
        if n < self.saved {
            self.amended.push(*entry);
        }
    }

    /// Drops entries that have left the window.
    pub(super) fn expire(&mut self, now_ms: u64, settings: WindowSettings) {
        let oldest_ms = now_ms.saturating_sub(settings.ms);
        while let Some(entry) = self.order.front() {
            let too_many = self.order.len() as u64 > settings.messages;
            if !too_many && entry.age_ms >= oldest_ms {
                break;
            }
            let (id, place) = (entry.id, self.gone);
            let (order, gone) = (&self.order, self.gone);
            let is_it =
                |known: &u32| *known == place && order[known.wrapping_sub(gone) as usize].id == id;
            if let Ok(known) = self.by_id.find_entry(hash(id), is_it) {
                known.remove();
            }
            self.order.pop_front();
            self.gone = self.gone.wrapping_add(1);
            if let Some((_, left)) = self.pieces.front_mut() {
                self.saved -= 1;
                *left -= 1;
            }
            self.drop_useless();
        }
        if self.order.is_empty() && self.order.capacity() > 64 {
            self.order = VecDeque::new();
            self.by_id = HashTable::new();
        }
    }

    fn drop_useless(&mut self) {
        while let Some((number, 0)) = self.pieces.front() {
            self.useless.push(*number);
            self.pieces.pop_front();
        }
    }

    /// Forgets messages that are lost, so that they can be sent again.
    pub(super) fn forget(&mut self, lost: Gap) {
        let (order, gone) = (&self.order, self.gone);
        self.by_id.retain(|place| {
            let entry = &order[place.wrapping_sub(gone) as usize];
            !lost.contains(entry.offset)
        });
    }

    /// The unsaved entries, as the piece of this number, and the obsolete pieces.
    pub(super) fn save(&mut self, number: u64) -> (Option<Vec<u8>>, Vec<u64>) {
        let unsaved = self.order.len() - self.saved;
        let useless = std::mem::take(&mut self.useless);
        let amended = std::mem::take(&mut self.amended);
        if unsaved == 0 && amended.is_empty() {
            return (None, useless);
        }
        let piece = encode(amended.iter().chain(self.order.range(self.saved..)));
        self.pieces.push_back((number, unsaved));
        self.saved = self.order.len();
        (Some(piece), useless)
    }

    /// Loads a saved piece, oldest first and before anything else is entered; false when it can't
    /// be read.
    pub(super) fn restore(&mut self, number: u64, piece: &[u8]) -> bool {
        let Some(entries) = decode(piece) else { return false };
        let before = self.order.len();
        for Entry { id, payload, ingest, offset, age_ms } in entries {
            self.enter(Fingerprint { id, payload }, ingest, offset, age_ms);
        }
        self.amended.clear();
        self.pieces.push_back((number, self.order.len() - before));
        self.saved = self.order.len();
        true
    }
}

/// A piece of messages that no window in memory holds.
pub(super) fn piece(messages: impl Iterator<Item = (Fingerprint, u64, u64, u64)>) -> Vec<u8> {
    let entries: Vec<_> = messages
        .map(|(print, ingest, offset, age_ms)| Entry {
            id: print.id,
            payload: print.payload,
            ingest,
            offset,
            age_ms,
        })
        .collect();
    encode(entries.iter())
}

fn encode<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = vec![VERSION];
    let (mut ingest, mut age_ms) = (0, 0);
    for entry in entries {
        out.put_u128_le(entry.id);
        out.put_u64_le(entry.payload);
        varint::put_difference(&mut out, entry.ingest, ingest);
        varint::put_difference(&mut out, entry.offset, entry.ingest);
        varint::put_difference(&mut out, entry.age_ms, age_ms);
        (ingest, age_ms) = (entry.ingest, entry.age_ms);
    }
    out
}

fn decode(mut rest: &[u8]) -> Option<Vec<Entry>> {
    if rest.try_get_u8() != Ok(VERSION) {
        return None;
    }
    let rest = &mut rest;
    let mut entries = Vec::new();
    let (mut ingest, mut age_ms) = (0, 0);
    while !rest.is_empty() {
        let (id, payload) = (rest.try_get_u128_le().ok()?, rest.try_get_u64_le().ok()?);
        ingest = varint::take_difference(rest, ingest)?;
        let offset = varint::take_difference(rest, ingest)?;
        age_ms = varint::take_difference(rest, age_ms)?;
        entries.push(Entry { id, payload, ingest, offset, age_ms });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ms: u64, messages: u64) -> WindowSettings {
        WindowSettings { ms, messages }
    }

    fn print(id: u128) -> Fingerprint {
        Fingerprint { id, payload: id as u64 + 1 }
    }

    fn at(offset: u64) -> Seen {
        Seen::Duplicate { ingest: offset, offset }
    }

    #[test]
    fn an_id_is_known_until_it_is_too_old_or_too_many_came_after_it() {
        let (mut window, wide) = (Window::default(), settings(100, 10));
        window.enter(print(1), 10, 10, 0);
        window.enter(print(2), 11, 11, 50);
        assert_eq!(window.look(print(1), 50, wide), at(10));
        assert_eq!(window.look(Fingerprint { id: 1, payload: 9 }, 50, wide), Seen::Conflict);
        assert_eq!(window.look(print(3), 50, wide), Seen::New);
        assert_eq!(window.look(print(1), 100, wide), at(10), "just young enough");
        assert_eq!(window.look(print(1), 101, wide), Seen::New);
        window.enter(print(3), 12, 12, 101);
        window.expire(101, settings(100, 1));
        assert_eq!(window.look(print(2), 101, wide), Seen::New);
        assert_eq!(window.look(print(3), 101, wide), at(12));
    }

    #[test]
    fn an_id_used_anew_is_known_by_its_newest_message() {
        let mut window = Window::default();
        for (ingest, age_ms) in [(1, 0), (5, 200)] {
            window.enter(print(1), ingest, ingest, age_ms);
        }
        window.expire(250, settings(100, 10));
        assert_eq!(window.look(print(1), 250, settings(100, 10)), at(5));
        window.expire(301, settings(100, 10));
        assert_eq!(window.look(print(1), 250, settings(100, 10)), Seen::New);
    }

    #[test]
    fn an_offset_that_becomes_known_is_saved_again() {
        let (mut window, wide) = (Window::default(), settings(100, 10));
        window.enter(print(1), 3, NOT_KNOWN, 0);
        let (first, _) = window.save(0);
        window.set_offset(1, 3, 70);
        assert!(!window.is_saved());
        let (second, _) = window.save(1);
        let mut again = Window::default();
        assert!(again.restore(0, &first.unwrap()));
        assert!(again.restore(1, &second.unwrap()));
        assert_eq!(again.look(print(1), 0, wide), Seen::Duplicate { ingest: 3, offset: 70 });
        window.expire(200, wide);
        assert_eq!(window.save(2), (None, vec![0, 1]));
    }

    #[test]
    fn lost_messages_can_be_sent_again() {
        let (mut window, wide) = (Window::default(), settings(100, 10));
        window.enter(print(1), 1, 1, 0);
        window.enter(print(2), 2, 2, 0);
        window.forget(Gap { from: 1, to: 1 });
        assert_eq!(window.look(print(1), 0, wide), Seen::New);
        assert_eq!(window.look(print(2), 0, wide), at(2));
        window.enter(print(1), 9, 9, 0);
        window.expire(0, settings(100, 1));
        assert_eq!(window.look(print(1), 0, wide), at(9));
    }
}
