//! A fold's memory of inputs: ids, named producers, origins. It is saved by tag and key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Buf;

use super::producers::{Known, Producers};
use super::window::{self, Window};
use super::{Inputs, Put};
use crate::journal::format::varint;
use crate::model::{Incarnation, LastId, Origin, WindowSettings};

/// The tag of a piece of the window; its number (`u64` BE) follows.
pub(in crate::topics) const PIECE: u8 = 0x81;
/// The tag of a named producer; its name follows.
pub(in crate::topics) const NAME: u8 = 0x82;
/// The tag of an origin; its ingest id (`u32` BE) follows.
pub(in crate::topics) const ORIGIN: u8 = 0x83;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) window: Window,
    pub(super) producers: Producers,
    origins: Origins,
}

/// How far each origin's inputs are known, by ingest id.
#[derive(Debug, Default)]
struct Origins {
    known: BTreeMap<u32, Progress>,
    changed: BTreeMap<u32, ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    incarnation: Incarnation,
    /// The next ingest sequence.
    next: u64,
}

impl Remembered {
    pub(super) fn bytes(&self) -> usize {
        self.window.bytes() + self.producers.bytes() + self.origins.known.len() * 64
    }

    pub(super) fn is_saved(&self) -> bool {
        self.window.is_saved() && self.producers.is_saved() && self.origins.changed.is_empty()
    }

    /// Applies a header's content about its inputs.
    pub(super) fn take(&mut self, inputs: &Inputs, settings: WindowSettings, names_max: usize) {
        let extras = &inputs.extras;
        if let Some(gap) = extras.gap {
            self.window.forget(gap);
        }
        for (place, print) in &extras.fingerprints {
            let (ingest, offset) = inputs.place(*place);
            if inputs.seen {
                self.window.set_offset(print.id, ingest, offset);
            } else {
                self.window.enter(*print, ingest, offset, inputs.age_ms);
            }
        }
        if inputs.seen {
            return;
        }
        if !extras.fingerprints.is_empty() {
            self.window.expire(inputs.age_ms, settings);
        }
        for run in &extras.runs {
            self.producers.advance(&run.name, &run.last, inputs.age_ms, names_max);
        }
        if let Some(Origin { ingest_id, incarnation }) = extras.origin {
            let next = inputs.ingest_end();
            self.origins.known.insert(ingest_id, Progress { incarnation, next });
            self.origins.changed.insert(ingest_id, ());
        }
    }

    /// Puts the changes since the last time; a piece gets the number.
    pub(super) fn save(&mut self, number: u64, put: Put<'_>) {
        let (piece, useless) = self.window.save(number);
        useless.iter().for_each(|n| put(PIECE, &n.to_be_bytes(), None));
        if piece.is_some() {
            put(PIECE, &number.to_be_bytes(), piece);
        }
        for (name, value) in self.producers.save() {
            put(NAME, name.as_bytes(), value);
        }
        for (id, ()) in std::mem::take(&mut self.origins.changed) {
            put(ORIGIN, &id.to_be_bytes(), self.origins.known.get(&id).map(Progress::encode));
        }
    }

    /// Loads a saved value; false when it can't be read.
    pub(super) fn restore(&mut self, tag: u8, rest: &[u8], value: &[u8]) -> bool {
        match tag {
            PIECE => rest
                .try_into()
                .is_ok_and(|number| self.window.restore(u64::from_be_bytes(number), value)),
            NAME => self.producers.restore(rest, value),
            ORIGIN => {
                let (Ok(id), Some(progress)) = (rest.try_into(), Progress::decode(value)) else {
                    return false;
                };
                self.origins.known.insert(u32::from_be_bytes(id), progress);
                true
            }
            _ => false,
        }
    }
}

impl Progress {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, self.incarnation.0);
        varint::put(&mut out, self.next);
        out
    }

    fn decode(mut rest: &[u8]) -> Option<Self> {
        let incarnation = Incarnation(varint::take(&mut rest)?);
        let next = varint::take(&mut rest)?;
        (!rest.has_remaining()).then_some(Self { incarnation, next })
    }
}

/// Saves inputs of a topic whose snapshot is not loaded: their changes need none of it.
pub(super) fn save_cold(pending: &[Inputs], number: u64, put: Put<'_>) {
    let prints = pending.iter().flat_map(|inputs| {
        inputs.extras.fingerprints.iter().map(|(place, print)| {
            let (ingest, offset) = inputs.place(*place);
            (*print, ingest, offset, inputs.age_ms)
        })
    });
    let mut prints = prints.peekable();
    if prints.peek().is_some() {
        put(PIECE, &number.to_be_bytes(), Some(window::piece(prints)));
    }
    let mut names: BTreeMap<Arc<str>, (LastId, u64)> = BTreeMap::new();
    let mut origins = BTreeMap::new();
    for inputs in pending.iter().filter(|inputs| !inputs.seen) {
        for run in &inputs.extras.runs {
            names.insert(run.name.clone(), (run.last.clone(), inputs.age_ms));
        }
        if let Some(Origin { ingest_id, incarnation }) = inputs.extras.origin {
            origins.insert(ingest_id, Progress { incarnation, next: inputs.ingest_end() });
        }
    }
    for (name, (last, age_ms)) in names {
        put(NAME, name.as_bytes(), Some(Known::new(last, age_ms).encode()));
    }
    for (id, progress) in origins {
        put(ORIGIN, &id.to_be_bytes(), Some(progress.encode()));
    }
}
