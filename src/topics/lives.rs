//! Lives: what distinguishes a restored journal from its source.
//!
//! A copy continues where it was taken, and its source, or another copy of it, may have done the
//! same. Everything issued from then on must differ: the copy begins a life of its own, with a
//! secret of its own for receipts, epochs beyond all that an earlier life may have used, and
//! offsets far from those. Likewise for a topic that is deleted and created again under its name:
//! its epochs continue.
//!
//! Invariants: an epoch is never used twice under a name; a receipt that one life issues means
//! nothing in another one, but that of a message which both have means the same.

use bytes::Bytes;

use crate::journal::format::varint;
use crate::journal::{JournalError, Now, StateKey, Unit, random};
use crate::model::{Epoch, ReceiptLife, TopicId, TopicName};

/// The word its keys begin with.
const LIVES: &str = "lives";
/// The word that the keys of floors begin with.
const FLOOR: &str = "epochs/";
/// Number of floors; names share them by their hash, so that memory of deleted names is bounded.
const FLOORS: usize = 4_096;
/// Ingest sequences and offsets of a life begin at a multiple of this, more than a topic takes in
/// weeks at a million messages a second.
const SEQUENCES: u64 = 1 << 40;
/// Receipts hold 48 bits of a sequence.
const LIVES_MAX: u64 = 255;
/// Epochs of a life begin at the milliseconds since 2025 by the clock, times this: two copies of
/// one source are not made in the same millisecond. Numbers stay below 2^53, which all clients can
/// represent.
const EPOCHS_A_MS: u64 = 1 << 4;
const MS_TO_2025: u64 = 1_735_689_600_000;

/// All lives, and the highest epochs of deleted names.
#[derive(Debug)]
pub(super) struct Lives {
    /// Oldest first; the first one has no key.
    lives: Vec<Life>,
    floors: Vec<u64>,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// Topics from this number on were made in it or later.
    from_topic: u32,
    /// So were messages from this ingest sequence on.
    pub(super) from_sequence: u64,
    /// Its epochs are higher.
    epoch_base: u64,
    secret: [u8; 16],
}

impl Default for Lives {
    fn default() -> Self {
        Self { lives: vec![Life::default()], floors: vec![0; FLOORS] }
    }
}

impl Lives {
    /// Loads a value of state; returns whether its key belongs to this part.
    ///
    /// # Errors
    /// It is malformed.
    pub(super) fn load(&mut self, key: &StateKey, value: &Bytes) -> Result<bool, JournalError> {
        let Some(word) = key.as_word() else { return Ok(false) };
        let malformed = || JournalError::Metadata(format!("{key:?} is malformed"));
        if word == LIVES {
            self.lives.truncate(1);
            self.lives.extend(decode(value).ok_or_else(malformed)?);
            return Ok(true);
        }
        let Some(floor) = word.strip_prefix(FLOOR) else { return Ok(false) };
        let floor = usize::from_str_radix(floor, 16).ok().and_then(|n| self.floors.get_mut(n));
        let floor = floor.ok_or_else(malformed)?;
        *floor = varint::take(&mut &value[..]).ok_or_else(malformed)?;
        Ok(true)
    }

    /// The secret of the first life's receipts.
    pub(super) fn set_first_secret(&mut self, secret: [u8; 16]) {
        self.lives[0].secret = secret;
    }

    /// The secrets of each life's receipts.
    pub(super) fn receipts(&self) -> Vec<ReceiptLife> {
        let life = |life: &Life| ReceiptLife {
            from_topic: TopicId(life.from_topic),
            from_sequence: life.from_sequence,
            secret: life.secret,
        };
        self.lives.iter().map(life).collect()
    }

    fn now(&self) -> &Life {
        self.lives.last().expect("there is a first life")
    }

    /// The first epoch of a topic created under this name.
    pub(super) fn first_epoch(&self, name: &TopicName) -> Epoch {
        Epoch(self.floors[floor_of(name)].max(self.now().epoch_base) + 1)
    }

    /// The epoch after this one, in the present life.
    pub(super) fn next_epoch(&self, epoch: Epoch) -> Epoch {
        Epoch(epoch.0.max(self.now().epoch_base) + 1)
    }

    /// A topic was deleted; its epochs are never used again under its name.
    pub(super) fn forget(&mut self, name: &TopicName, last: Epoch, unit: &mut Unit) {
        let n = floor_of(name);
        let floor = &mut self.floors[n];
        if last.0 > *floor {
            *floor = last.0;
            let mut value = Vec::new();
            varint::put(&mut value, last.0);
            unit.put(StateKey::word(&format!("{FLOOR}{n:03x}")), value);
        }
    }

    /// Begins a life: this journal is a copy. `highest` are the highest ingest sequence and epoch
    /// of all topics, `next_topic` the next topic's number.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn begin(
        &mut self,
        highest: (u64, Epoch),
        next_topic: u32,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<Life, JournalError> {
        let (sequence, epoch) = highest;
        let from = sequence / SEQUENCES + 1;
        if from > LIVES_MAX {
            let what = format!("it was restored {LIVES_MAX} times from one copy to the next");
            return Err(JournalError::Metadata(what));
        }
        let by_clock = now.time.0.saturating_sub(MS_TO_2025) * EPOCHS_A_MS;
        let [a, b] = random::<2>()?;
        let (moment, minute) = (u64::from(a % 32), u64::from(u16::from_le_bytes([a, b])));
        let known = self.floors.iter().copied().fold(epoch.0.max(self.now().epoch_base), u64::max);
        let life = Life {
            from_topic: next_topic,
            from_sequence: from * SEQUENCES,
            // Copies made at the same moment differ by chance; so do all if the clock is set to the
            // past, which must not reuse earlier epochs.
            epoch_base: EPOCHS_A_MS * moment
                + if by_clock > known { by_clock } else { known + EPOCHS_A_MS * (1 + minute) },
            secret: random()?,
        };
        self.lives.push(life);
        unit.put(StateKey::word(LIVES), encode(&self.lives[1..]));
        Ok(life)
    }
}

fn floor_of(name: &TopicName) -> usize {
    crc32c::crc32c(name.as_str().as_bytes()) as usize % FLOORS
}

fn encode(lives: &[Life]) -> Vec<u8> {
    let mut out = Vec::new();
    for life in lives {
        varint::put(&mut out, life.from_topic.into());
        varint::put(&mut out, life.from_sequence);
        varint::put(&mut out, life.epoch_base);
        out.extend_from_slice(&life.secret);
    }
    out
}

fn decode(mut rest: &[u8]) -> Option<Vec<Life>> {
    let rest = &mut rest;
    let mut lives = Vec::new();
    while !rest.is_empty() {
        let from_topic = varint::take_u32(rest)?;
        let (from_sequence, epoch_base) = (varint::take(rest)?, varint::take(rest)?);
        let (secret, after) = rest.split_first_chunk()?;
        lives.push(Life { from_topic, from_sequence, epoch_base, secret: *secret });
        *rest = after;
    }
    Some(lives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn name(text: &str) -> TopicName {
        TopicName::new(text).unwrap()
    }

    fn at(ms: u64) -> Now {
        Now { age_ms: 0, time: Timestamp(ms), full: None }
    }

    #[test]
    fn the_epochs_of_a_name_go_on_when_its_topic_is_made_again() {
        let (mut lives, mut unit) = (Lives::default(), Unit::default());
        assert_eq!(lives.first_epoch(&name("a")), Epoch(1));
        lives.forget(&name("a"), Epoch(4), &mut unit);
        assert_eq!(lives.first_epoch(&name("a")), Epoch(5));
        lives.forget(&name("a"), Epoch(2), &mut unit);
        assert_eq!(lives.first_epoch(&name("a")), Epoch(5));
        assert_eq!(lives.first_epoch(&name("b")), Epoch(1));
    }

    #[test]
    fn a_life_uses_nothing_that_an_earlier_one_or_another_copy_may_have_used() {
        let (now, mut unit) = (at(MS_TO_2025 + 1_000_000), Unit::default());
        let mut first = Lives::default();
        let one = first.begin((70, Epoch(3)), 9, &now, &mut unit).unwrap();
        assert_eq!(one.from_sequence, SEQUENCES);
        assert!(first.first_epoch(&name("a")).0 > 3 && first.next_epoch(Epoch(3)).0 > 4);
        let later = at(MS_TO_2025 + 1_000_100);
        let mut other = Lives::default();
        let two = other.begin((70, Epoch(3)), 9, &later, &mut unit).unwrap();
        assert!(two.epoch_base > one.epoch_base && one.secret != two.secret);
        let mut third = first;
        let three = third.begin((SEQUENCES + 5, Epoch(one.epoch_base + 7)), 12, &at(0), &mut unit);
        let three = three.unwrap();
        assert_eq!(three.from_sequence, 2 * SEQUENCES);
        assert!(three.epoch_base > one.epoch_base + 7, "though the clock is wrong");
    }

    #[test]
    fn lives_and_floors_come_back() {
        let (mut lives, mut unit) = (Lives::default(), Unit::default());
        lives.begin((70, Epoch(3)), 9, &at(MS_TO_2025), &mut unit).unwrap();
        lives.begin((1 << 41, Epoch(3)), 10, &at(MS_TO_2025), &mut unit).unwrap();
        lives.forget(&name("a"), Epoch(1 << 40), &mut unit);
        let mut again = Lives::default();
        let value = Bytes::from(encode(&lives.lives[1..]));
        assert!(again.load(&StateKey::word(LIVES), &value).unwrap());
        assert_eq!(again.lives, lives.lives);
        let floor = StateKey::word(&format!("{FLOOR}{:03x}", floor_of(&name("a"))));
        let mut value = Vec::new();
        varint::put(&mut value, 1 << 40);
        assert!(again.load(&floor, &value.into()).unwrap());
        assert_eq!(again.floors, lives.floors);
        assert!(again.load(&StateKey::word(LIVES), &Bytes::from_static(b"\x80")).is_err());
        assert!(again.load(&StateKey::word("epochs/fff0"), &Bytes::new()).is_err());
        assert!(!again.load(&StateKey::word("secret/x"), &Bytes::new()).unwrap());
    }
}
