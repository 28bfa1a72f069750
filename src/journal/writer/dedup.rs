//! The dedup window of a topic: which message ids it has seen, and where their messages are.
//!
//! The window is kept in memory and bounded by age and count (the topic's settings). It is
//! durable without being written message by message: an id whose block stands in the topic's
//! index tail is found again in that block; when the tail goes out as a page, the ids that came
//! with it are saved beside it, as one piece, in the same commit. A piece is removed once all its
//! ids have left the window. So the window outlives both restarts and the messages themselves.
//!
//! Piece: version u8 = 1 · entries × (id u128 · payload u64 · offset u64 · age u64), little endian.
//!
//! Invariants: only the writer looks and enters, in the order of the journal, so the second of
//! two messages under way always finds the first; ids leave in the order they came.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BufMut};

use crate::model::{Fingerprint, Gap, TopicSettings};

const VERSION: u8 = 1;
const ENTRY_BYTES: usize = 40;

/// What the window knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Known {
    /// No message with this id is known.
    New,
    /// The same message is at this offset.
    Duplicate(u64),
    /// A message with this id and another payload is known.
    Conflict,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fingerprint: Fingerprint,
    offset: u64,
    age_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::journal) struct DedupWindow {
    by_id: HashMap<u128, Seen>,
    /// Oldest first.
    order: VecDeque<Entry>,
    /// Pieces that hold the oldest entries, with how many of theirs are still here.
    pieces: VecDeque<(u64, usize)>,
    /// Entries in pieces; the ones after them are not saved.
    saved: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    payload: u64,
    offset: u64,
}

impl DedupWindow {
    /// What is known of a message. [`DedupWindow::expire`] comes first.
    pub(in crate::journal) fn look(&self, fingerprint: Fingerprint) -> Known {
        match self.by_id.get(&fingerprint.id) {
            None => Known::New,
            Some(seen) if seen.payload == fingerprint.payload => Known::Duplicate(seen.offset),
            Some(_) => Known::Conflict,
        }
    }

    /// Enters a new message.
    pub(in crate::journal) fn enter(&mut self, fingerprint: Fingerprint, offset: u64, age_ms: u64) {
        let seen = Seen { payload: fingerprint.payload, offset };
        let before = self.by_id.insert(fingerprint.id, seen);
        // Found again in a piece and in a block: once is enough. Under another offset it is the id
        // of a message that had left the window, used anew.
        if before.is_none_or(|before| before.offset != offset) {
            self.order.push_back(Entry { fingerprint, offset, age_ms });
        }
    }

    /// Lets go of what has left the window; the pieces that are of no use any more.
    pub(in crate::journal) fn expire(&mut self, now_ms: u64, settings: &TopicSettings) -> Vec<u64> {
        let mut useless = Vec::new();
        let oldest_ms = now_ms.saturating_sub(settings.dedup_window_ms);
        while let Some(entry) = self.order.front() {
            let too_many = self.order.len() as u64 > settings.dedup_window_messages;
            if !too_many && entry.age_ms >= oldest_ms {
                break;
            }
            let (id, offset) = (entry.fingerprint.id, entry.offset);
            if self.by_id.get(&id).is_some_and(|seen| seen.offset == offset) {
                self.by_id.remove(&id);
            }
            self.order.pop_front();
            if let Some((number, left)) = self.pieces.front_mut() {
                self.saved -= 1;
                *left -= 1;
                if *left == 0 {
                    useless.push(*number);
                    self.pieces.pop_front();
                }
            }
        }
        useless
    }

    /// Forgets messages that are lost, so that they can be sent again.
    pub(in crate::journal) fn forget(&mut self, lost: Gap) {
        self.by_id.retain(|_, seen| !lost.contains(seen.offset));
    }

    /// The entries not yet saved, as the piece with this number; `None` when there are none.
    pub(in crate::journal) fn save(&mut self, number: u64) -> Option<Vec<u8>> {
        let unsaved = self.order.len() - self.saved;
        if unsaved == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(1 + unsaved * ENTRY_BYTES);
        out.put_u8(VERSION);
        for entry in self.order.range(self.saved..) {
            out.put_u128_le(entry.fingerprint.id);
            out.put_u64_le(entry.fingerprint.payload);
            out.put_u64_le(entry.offset);
            out.put_u64_le(entry.age_ms);
        }
        self.pieces.push_back((number, unsaved));
        self.saved = self.order.len();
        Some(out)
    }

    /// Takes a saved piece back, oldest first and before anything else is entered; false when it
    /// can't be read.
    pub(in crate::journal) fn restore(&mut self, number: u64, mut piece: &[u8]) -> bool {
        if piece.try_get_u8() != Ok(VERSION) || !piece.len().is_multiple_of(ENTRY_BYTES) {
            return false;
        }
        let before = self.order.len();
        while piece.has_remaining() {
            let fingerprint = Fingerprint { id: piece.get_u128_le(), payload: piece.get_u64_le() };
            let (offset, age_ms) = (piece.get_u64_le(), piece.get_u64_le());
            self.enter(fingerprint, offset, age_ms);
        }
        if self.order.len() > before {
            self.pieces.push_back((number, self.order.len() - before));
            self.saved = self.order.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(window_ms: u64, messages: u64) -> TopicSettings {
        TopicSettings {
            dedup_window_ms: window_ms,
            dedup_window_messages: messages,
            ..TopicSettings::default()
        }
    }

    fn print(id: u128) -> Fingerprint {
        Fingerprint { id, payload: id as u64 + 1 }
    }

    #[test]
    fn an_id_is_known_until_it_is_too_old_or_too_many_came_after_it() {
        let mut window = DedupWindow::default();
        window.enter(print(1), 10, 0);
        window.enter(print(2), 11, 50);
        assert_eq!(window.look(print(1)), Known::Duplicate(10));
        assert_eq!(window.look(Fingerprint { id: 1, payload: 9 }), Known::Conflict);
        assert_eq!(window.look(print(3)), Known::New);
        window.expire(100, &settings(100, 10));
        assert_eq!(window.look(print(1)), Known::Duplicate(10), "just young enough");
        window.expire(101, &settings(100, 10));
        assert_eq!(window.look(print(1)), Known::New);
        window.enter(print(3), 12, 101);
        window.expire(101, &settings(100, 1));
        assert_eq!(
            (window.look(print(2)), window.look(print(3))),
            (Known::New, Known::Duplicate(12))
        );
    }

    proptest! {
        #[test]
        fn a_window_put_together_from_its_pieces_and_the_rest_is_the_same(
            actions in proptest::collection::vec((0u8..4, 0u128..40), 1..120),
        ) {
            let settings = settings(30, 12);
            let mut window = DedupWindow::default();
            let mut stored: std::collections::BTreeMap<u64, Vec<u8>> = Default::default();
            // Entered since the last save: what blocks in the tail would give again.
            let mut in_blocks = Vec::new();
            for (now, (action, id)) in actions.into_iter().enumerate() {
                let now = now as u64;
                for number in window.expire(now, &settings) {
                    stored.remove(&number);
                }
                match action {
                    0 => {
                        if let Some(piece) = window.save(now) {
                            stored.insert(now, piece);
                        }
                        in_blocks.clear();
                    }
                    1 => {
                        let mut again = DedupWindow::default();
                        for (number, piece) in &stored {
                            prop_assert!(again.restore(*number, piece));
                        }
                        for (print, offset, age) in &in_blocks {
                            again.enter(*print, *offset, *age);
                        }
                        again.expire(now, &settings);
                        for id in 0..40 {
                            prop_assert_eq!(again.look(print(id)), window.look(print(id)));
                        }
                        window = again;
                    }
                    _ => {
                        if window.look(print(id)) == Known::New {
                            window.enter(print(id), now, now);
                            in_blocks.push((print(id), now, now));
                        }
                    }
                }
            }
        }
    }
}
