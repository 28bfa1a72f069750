//! The few numbers of a fold that are always in memory.

use bytes::Buf;

use crate::journal::format::varint;
use crate::model::{Epoch, Timestamp, WindowSettings};

const VERSION: u8 = 1;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::topics) struct Core {
    /// The next message's offset.
    pub(in crate::topics) head: u64,
    /// The next ingest sequence.
    pub(in crate::topics) ingest_head: u64,
    /// The first ingest sequence that no outgoing block covers.
    pub(in crate::topics) processed_head: u64,
    /// Number of the last outgoing block.
    pub(in crate::topics) number: u64,
    /// Number of the last raw block.
    pub(in crate::topics) raw_number: u64,
    /// Time of the newest message.
    pub(in crate::topics) last_time: Timestamp,
    /// How old the journal was then.
    pub(in crate::topics) age_ms: u64,
    /// How much is remembered.
    pub(in crate::topics) window: WindowSettings,
    /// The epoch.
    pub(in crate::topics) epoch: Epoch,
    /// The next piece of the window; 0 when none is stored.
    pub(in crate::topics) next_piece: u64,
    /// More is stored than these numbers.
    pub(in crate::topics) stored: bool,
}

impl Core {
    /// The tag of its key.
    pub(in crate::topics) const TAG: u8 = b'f';

    pub(in crate::topics) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for value in [
            self.head,
            self.ingest_head,
            self.processed_head,
            self.number,
            self.raw_number,
            self.last_time.0,
            self.age_ms,
            self.window.ms,
            self.window.messages,
            self.epoch.0,
            self.next_piece,
            self.stored.into(),
        ] {
            varint::put(&mut out, value);
        }
        out
    }

    /// `None` when the bytes are malformed.
    pub(in crate::topics) fn decode(mut rest: &[u8]) -> Option<Self> {
        if rest.try_get_u8() != Ok(VERSION) {
            return None;
        }
        let rest = &mut rest;
        let core = Self {
            head: varint::take(rest)?,
            ingest_head: varint::take(rest)?,
            processed_head: varint::take(rest)?,
            number: varint::take(rest)?,
            raw_number: varint::take(rest)?,
            last_time: Timestamp(varint::take(rest)?),
            age_ms: varint::take(rest)?,
            window: WindowSettings { ms: varint::take(rest)?, messages: varint::take(rest)? },
            epoch: Epoch(varint::take(rest)?),
            next_piece: varint::take(rest)?,
            stored: varint::take(rest)? != 0,
        };
        rest.is_empty().then_some(core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_come_back() {
        let core = Core {
            head: 1,
            ingest_head: 2,
            processed_head: 3,
            number: 4,
            raw_number: 5,
            last_time: Timestamp(6),
            age_ms: 7,
            window: WindowSettings { ms: 8, messages: 9 },
            epoch: Epoch(10),
            next_piece: 11,
            stored: true,
        };
        let bytes = core.encode();
        assert_eq!(Core::decode(&bytes), Some(core));
        assert_eq!(Core::decode(&bytes[..bytes.len() - 1]), None);
    }
}
