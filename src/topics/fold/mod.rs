//! A topic's knowledge of its messages: a fold over the headers of their blocks.
//!
//! `apply(header) → state`, pure: no clock, no look-ups, no I/O. The embedded writer is its first
//! host; a cluster's nodes are its second, with the same code. The host loads a snapshot before it
//! asks for old entries ([`Fold::restore`]), and may have the fold forget what is saved
//! ([`Fold::cool`]).
//!
//! **Cold and warm.** A few numbers are always in memory. Memory of ids, names and origins can be
//! large: a cold fold has none of it but the headers since the snapshot.
//!
//! Invariants: fold(snapshot, blocks after it) = state, over a topic's streams in the order of
//! commits; inputs are applied once, with the first block that covers their ingest range; a block
//! whose number is known changes nothing; a header joined of two has the effect of both.

mod core;
mod producers;
mod remembered;
mod window;

pub(super) use self::core::Core;
pub(super) use remembered::{NAME, ORIGIN, PIECE};
pub(super) use window::{NOT_KNOWN, Seen};

use bytes::Bytes;

use crate::model::{
    BlockHeader, BlockKind, Fingerprint, Gap, HeaderExtras, LastId, WindowSettings,
};
use remembered::Remembered;

/// Which of a topic's streams a block is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Raw messages, whose offsets are their ingest sequences.
    Ingest,
    /// The messages that readers see.
    Outgoing,
}

/// Puts a part of a snapshot: its tag, what follows that in the key, and the value; `None` removes
/// it.
pub(super) type Put<'a> = &'a mut dyn FnMut(u8, &[u8], Option<Vec<u8>>);

/// See the module.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) core: Core,
    memory: Memory,
    names_max: usize,
}

#[derive(Debug)]
enum Memory {
    /// Inputs that came since the snapshot.
    Cold(Vec<Inputs>),
    Warm(Box<Remembered>),
}

/// A header's content about its inputs.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    ingest_base: u64,
    ingest_count: u32,
    /// The offset of the first input, if each gave one message.
    offset_base: Option<u64>,
    age_ms: u64,
    /// They were applied before; only their offsets are new.
    seen: bool,
    extras: HeaderExtras,
}

impl Fold {
    /// A topic without messages.
    pub(super) fn new(window: WindowSettings, names_max: usize) -> Self {
        Self::cold(Core { window, ..Core::default() }, names_max)
    }

    /// A fold of which only the numbers are loaded.
    pub(super) fn cold(core: Core, names_max: usize) -> Self {
        Self { core, memory: Memory::Cold(Vec::new()), names_max }
    }

    /// Applies the header of the next block of one of the topic's streams; returns false, and does
    /// nothing, when it is known.
    pub(super) fn apply(&mut self, side: Side, header: &BlockHeader) -> bool {
        let known = match side {
            Side::Ingest => &mut self.core.raw_number,
            Side::Outgoing => &mut self.core.number,
        };
        if header.number <= *known {
            return false;
        }
        *known = header.number;
        self.absorb(side, header);
        true
    }

    /// Applies a header's content, whatever its number: a part of a block without a number yet.
    pub(super) fn absorb(&mut self, side: Side, header: &BlockHeader) {
        let gap = header.extras.as_ref().and_then(|extras| extras.gap);
        let core = &mut self.core;
        match header.kind {
            BlockKind::Data | BlockKind::Outcome | BlockKind::Events => {}
            BlockKind::Settings => {
                let window = header.extras.as_ref().and_then(|extras| extras.window);
                core.window = window.unwrap_or(core.window);
            }
            BlockKind::Epoch | BlockKind::Gap => {
                core.epoch = core.epoch.max(header.epoch);
                core.ingest_head = core.ingest_head.max(header.ingest_base);
            }
        }
        core.last_time = core.last_time.max(header.published_at);
        core.age_ms = core.age_ms.max(header.age_ms);
        // Inputs that entered elsewhere are counted in the sequence of their origin.
        let own = header.extras.as_ref().is_none_or(|extras| extras.origin.is_none());
        let seen = own && header.ingest_count > 0 && header.ingest_end() <= core.ingest_head;
        let ingest_end = if own { header.ingest_end() } else { 0 };
        core.ingest_head = core.ingest_head.max(ingest_end);
        if side == Side::Outgoing {
            core.head = core.head.max(header.end_offset());
            core.processed_head = core.processed_head.max(ingest_end);
            core.epoch = core.epoch.max(header.epoch);
        }
        if let Some(gap) = gap {
            self.memory.forget(gap);
        }
        if let Some(inputs) = Inputs::of(side, header, seen) {
            match &mut self.memory {
                Memory::Cold(pending) => pending.push(inputs),
                Memory::Warm(remembered) => {
                    remembered.take(&inputs, self.core.window, self.names_max);
                }
            }
        }
    }

    /// Everything remembered is in memory.
    pub(super) fn is_warm(&self) -> bool {
        matches!(self.memory, Memory::Warm(_))
    }

    /// Loads what a snapshot holds: values by tag and rest of the key, each tag's in the order of
    /// their keys, without the messages of `gaps`, which were given up since. False when one of
    /// them can't be read; nothing is changed then.
    pub(super) fn restore(&mut self, saved: &[(u8, Bytes, Bytes)], gaps: &[Gap]) -> bool {
        let Memory::Cold(pending) = &mut self.memory else { return true };
        let mut remembered = Remembered::default();
        if !saved.iter().all(|(tag, rest, value)| remembered.restore(*tag, rest, value)) {
            return false;
        }
        remembered.producers.keep_within(self.names_max);
        gaps.iter().for_each(|gap| remembered.window.forget(*gap));
        for inputs in std::mem::take(pending) {
            remembered.take(&inputs, self.core.window, self.names_max);
        }
        remembered.window.expire(0, self.core.window);
        self.memory = Memory::Warm(Box::new(remembered));
        true
    }

    /// Warms a fold that has nothing stored.
    pub(super) fn warm_empty(&mut self) {
        if !self.core.stored {
            self.restore(&[], &[]);
        }
    }

    /// Drops what is saved; false when something is not.
    pub(super) fn cool(&mut self) -> bool {
        let saved = self.memory.remembered().is_some_and(|remembered| remembered.is_saved());
        if saved {
            self.memory = Memory::Cold(Vec::new());
        }
        saved
    }

    /// Bytes of memory that cooling gives back.
    pub(super) fn bytes(&self) -> usize {
        self.memory.remembered().map_or(0, Remembered::bytes)
    }

    /// Puts the snapshot's changes since the last one.
    pub(super) fn save(&mut self, put: Put<'_>) {
        let number = self.core.next_piece;
        let (mut new_piece, mut any) = (false, false);
        let note: Put<'_> = &mut |tag, rest, value| {
            new_piece |= tag == PIECE && value.is_some();
            any = true;
            put(tag, rest, value);
        };
        match &mut self.memory {
            Memory::Cold(pending) if pending.is_empty() => {}
            Memory::Cold(pending) => remembered::save_cold(&std::mem::take(pending), number, note),
            Memory::Warm(remembered) => remembered.save(number, note),
        }
        self.core.next_piece += u64::from(new_piece);
        self.core.stored |= any;
        put(Core::TAG, b"", Some(self.core.encode()));
    }

    /// What is known of a message. The fold must be warm.
    pub(super) fn look(&self, print: Fingerprint, now_ms: u64) -> Seen {
        let remembered = self.memory.remembered();
        remembered.map_or(Seen::New, |r| r.window.look(print, now_ms, self.core.window))
    }

    /// The last id of a named producer. The fold must be warm.
    pub(super) fn last_id(&self, name: &str) -> Option<&LastId> {
        self.memory.remembered()?.producers.last(name)
    }

    /// The ids have all left the window: forgets the window. True if stored pieces have to be
    /// removed.
    pub(super) fn expire_idle(&mut self, now_ms: u64) -> bool {
        let idle = self.core.age_ms.saturating_add(self.core.window.ms) < now_ms;
        if !idle {
            return false;
        }
        match &mut self.memory {
            Memory::Cold(pending) => {
                pending.iter_mut().for_each(|inputs| inputs.extras.fingerprints.clear());
            }
            Memory::Warm(remembered) => remembered.window = window::Window::default(),
        }
        let had_pieces = self.core.next_piece > 0;
        self.core.next_piece = 0;
        had_pieces
    }
}

impl Memory {
    fn remembered(&self) -> Option<&Remembered> {
        match self {
            Self::Cold(_) => None,
            Self::Warm(remembered) => Some(remembered),
        }
    }

    fn forget(&mut self, gap: Gap) {
        match self {
            Self::Warm(remembered) => remembered.window.forget(gap),
            // The order matters: a gap forgets what came before it, also when it is loaded.
            Self::Cold(pending) => {
                let extras = HeaderExtras { gap: Some(gap), ..HeaderExtras::default() };
                pending.push(Inputs::of_extras(extras));
            }
        }
    }
}

impl Inputs {
    /// A header's content to remember; `None` for most.
    fn of(side: Side, header: &BlockHeader, seen: bool) -> Option<Self> {
        let extras = header.extras.as_ref()?;
        let remembers = !extras.fingerprints.is_empty()
            || extras.origin.is_some()
            || (!seen && !extras.runs.is_empty());
        let one_to_one = side == Side::Outgoing && extras.outcomes.is_empty();
        remembers.then(|| Self {
            ingest_base: header.ingest_base,
            ingest_count: header.ingest_count,
            offset_base: one_to_one.then_some(header.base_offset),
            age_ms: header.age_ms,
            seen,
            extras: HeaderExtras { gap: None, ..(**extras).clone() },
        })
    }

    fn of_extras(extras: HeaderExtras) -> Self {
        Self { ingest_base: 0, ingest_count: 0, offset_base: None, age_ms: 0, seen: true, extras }
    }

    fn ingest_end(&self) -> u64 {
        self.ingest_base + u64::from(self.ingest_count)
    }

    /// The ingest sequence and offset of an input.
    fn place(&self, place: u32) -> (u64, u64) {
        let ingest = self.ingest_base + u64::from(place);
        (ingest, self.offset_base.map_or(NOT_KNOWN, |base| base + u64::from(place)))
    }
}

#[cfg(test)]
mod tests;
