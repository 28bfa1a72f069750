//! Puts fragmented messages together, within limits on bytes and on count.

use std::time::Instant;

use actix_http::ws::Item;
use actix_web::web::{Bytes, BytesMut};

use super::unfinished::Unfinished;
use crate::edge::admission::Admission;

/// A complete message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Text(Bytes),
    Binary(Bytes),
}

/// Why fragments are refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Together they exceed a limit.
    TooLarge,
    /// There is no room for them now.
    Overloaded,
}

/// The fragments of one message so far. The codec has checked their order.
#[derive(Debug)]
pub(super) struct Fragments {
    bytes_max: usize,
    count_max: usize,
    bytes: BytesMut,
    count: usize,
    text: bool,
    unfinished: Unfinished,
}

impl Fragments {
    pub(super) fn new(bytes_max: usize, count_max: usize, budget: Option<Admission>) -> Self {
        let unfinished = Unfinished::new(budget);
        Self { bytes_max, count_max, bytes: BytesMut::new(), count: 0, text: false, unfinished }
    }

    /// When the incomplete message began.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished.since()
    }

    /// Adds a fragment; returns the message, if it was the last one.
    pub(super) fn add(&mut self, item: Item) -> Result<Option<Whole>, Refused> {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => {
                self.text = true;
                (bytes, false)
            }
            Item::FirstBinary(bytes) => {
                self.text = false;
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        self.count += 1;
        // Empty fragments cost nothing to send, so they are counted too.
        if self.bytes.len() + bytes.len() > self.bytes_max || self.count > self.count_max {
            return Err(Refused::TooLarge);
        }
        if !self.unfinished.add(bytes.len()) {
            return Err(Refused::Overloaded);
        }
        self.bytes.extend_from_slice(&bytes);
        if !last {
            return Ok(None);
        }
        self.count = 0;
        self.unfinished.finish();
        let whole = self.bytes.split().freeze();
        Ok(Some(if self.text { Whole::Text(whole) } else { Whole::Binary(whole) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn fragments_become_one_message() {
        let mut fragments = Fragments::new(10, 3, None);
        for _ in 0..2 {
            assert_eq!(fragments.add(Item::FirstText(piece(b"ab"))), Ok(None));
            assert_eq!(fragments.add(Item::Continue(piece(b""))), Ok(None));
            let whole = fragments.add(Item::Last(piece(b"c"))).unwrap();
            assert_eq!(whole, Some(Whole::Text(piece(b"abc"))));
        }
    }

    #[test]
    fn too_many_bytes_and_too_many_fragments_are_refused() {
        let mut fragments = Fragments::new(4, 3, None);
        fragments.add(Item::FirstBinary(piece(b"abcd"))).unwrap();
        assert_eq!(fragments.add(Item::Last(piece(b"e"))), Err(Refused::TooLarge));
        let mut fragments = Fragments::new(4, 3, None);
        fragments.add(Item::FirstBinary(piece(b""))).unwrap();
        fragments.add(Item::Continue(piece(b""))).unwrap();
        fragments.add(Item::Continue(piece(b""))).unwrap();
        assert_eq!(fragments.add(Item::Continue(piece(b""))), Err(Refused::TooLarge));
    }
}
