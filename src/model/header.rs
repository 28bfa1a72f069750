//! A block's header: everything a topic learns from its messages without reading them.
//!
//! The same header describes a block in the journal, in a backup and on a cluster; a topic's
//! knowledge of its messages is a fold over headers (`topics::fold`), so everything that the fold
//! needs must be in it. `journal/format.md` has the encoding.
//!
//! Invariant: a header joined of two that follow each other ([`BlockHeader::join`]) has the content
//! of both, in their order.

use std::sync::Arc;

use bytes::Bytes;

use super::{Epoch, Fingerprint, Gap, Incarnation, Timestamp};

/// The purpose of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// Messages.
    #[default]
    Data,
    /// No message: only the results of inputs.
    Outcome,
    /// The topic begins an epoch: messages may be lost before it.
    Epoch,
    /// Settings that change what the fold remembers.
    Settings,
    /// Messages are given up: their offsets are an announced gap.
    Gap,
    /// Events of another owner's, say acknowledgements; only the owner knows what they mean.
    Events,
}

/// The last id that a named producer has used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LastId {
    /// Ids are rising numbers.
    Number(u64),
    /// Ids are positions in a source outside, of at most [`POSITION_BYTES_MAX`] bytes, that only
    /// the source can compare.
    Position(Bytes),
}

/// Longest opaque position of a source, in bytes.
pub const POSITION_BYTES_MAX: usize = 256;

/// A block's content of one named producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The producer's name.
    pub name: Arc<str>,
    /// The last of its ids.
    pub last: LastId,
}

/// The origin of a block: a topic at one node, or another topic that routed it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The ingest id of the sequence that counts the inputs.
    pub ingest_id: u32,
    /// Blocks of an earlier life that come late are void.
    pub incarnation: Incarnation,
}

/// The results of consecutive inputs. Inputs that each gave one output are in no run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRun {
    /// The first of them, counted from the block's first input.
    pub place: u32,
    /// How many they are.
    pub count: u32,
    /// The result of each.
    pub outcome: InputOutcome,
}

/// The result of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputOutcome {
    /// It gave this many outputs in its own topic.
    Outputs(u32),
    /// A processor dropped it.
    Filtered,
    /// A processor or schema refused it, for this reason.
    Rejected(Arc<str>),
}

/// How much a topic remembers of its messages' ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSettings {
    /// For how long, in milliseconds of the journal's age.
    pub ms: u64,
    /// How many.
    pub messages: u64,
}

/// Fields that few blocks have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderExtras {
    /// Ids of inputs, by place from the block's first input, in order.
    pub fingerprints: Vec<(u32, Fingerprint)>,
    /// Named producers of these messages; each name once.
    pub runs: Vec<Run>,
    /// The block's origin, on a cluster.
    pub origin: Option<Origin>,
    /// The results of inputs, if they differ from one output each; in order.
    pub outcomes: Vec<OutcomeRun>,
    /// The offsets given up ([`BlockKind::Epoch`], [`BlockKind::Gap`]).
    pub gap: Option<Gap>,
    /// What is remembered from here on ([`BlockKind::Settings`]).
    pub window: Option<WindowSettings>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockHeader {
    /// The purpose of the block.
    pub kind: BlockKind,
    /// The topic's epoch.
    pub epoch: Epoch,
    /// The block's number in its stream, from 1; the one before it is `prev`.
    pub number: u64,
    /// Offset of the first message; the stream's next offset in a block without messages.
    pub base_offset: u64,
    /// How many messages it holds.
    pub count: u32,
    /// Ingest sequence of the first input that it covers.
    pub ingest_base: u64,
    /// How many inputs it covers.
    pub ingest_count: u32,
    /// When the messages were published.
    pub published_at: Timestamp,
    /// How old the journal was then, in milliseconds.
    pub age_ms: u64,
    /// Fields that few blocks have.
    pub extras: Option<Box<HeaderExtras>>,
}

impl BlockHeader {
    /// The offset after the last message.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    /// The ingest sequence after the last input.
    pub fn ingest_end(&self) -> u64 {
        self.ingest_base + u64::from(self.ingest_count)
    }

    /// Adds a following header: messages and inputs of the same kind and epoch that come right
    /// after these. Returns false, and changes nothing, if it does not follow.
    pub fn join(&mut self, next: &mut Self) -> bool {
        let follows = self.kind == BlockKind::Data
            && next.kind == BlockKind::Data
            && self.epoch == next.epoch
            && self.end_offset() == next.base_offset
            && self.ingest_end() == next.ingest_base
            && self.count.checked_add(next.count).is_some()
            && self.ingest_count.checked_add(next.ingest_count).is_some();
        let origin = |header: &Self| header.extras.as_ref().and_then(|extras| extras.origin);
        if !follows || origin(self) != origin(next) {
            return false;
        }
        if let Some(mut extras) = next.extras.take() {
            let places = self.ingest_count;
            extras.fingerprints.iter_mut().for_each(|(place, _)| *place += places);
            extras.outcomes.iter_mut().for_each(|run| run.place += places);
            match &mut self.extras {
                None => self.extras = Some(extras),
                Some(known) => known.extend(*extras),
            }
        }
        self.count += next.count;
        self.ingest_count += next.ingest_count;
        true
    }
}

impl HeaderExtras {
    fn extend(&mut self, next: Self) {
        self.fingerprints.extend(next.fingerprints);
        self.outcomes.extend(next.outcomes);
        for run in next.runs {
            match self.runs.iter_mut().find(|known| known.name == run.name) {
                Some(known) => known.last = run.last,
                None => self.runs.push(run),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(base_offset: u64, count: u32, extras: HeaderExtras) -> BlockHeader {
        BlockHeader {
            epoch: Epoch::FIRST,
            base_offset,
            count,
            ingest_base: base_offset,
            ingest_count: count,
            extras: Some(Box::new(extras)),
            ..BlockHeader::default()
        }
    }

    fn print(id: u128) -> Fingerprint {
        Fingerprint { id, payload: 0 }
    }

    fn run(name: &str, last: u64) -> Run {
        Run { name: name.into(), last: LastId::Number(last) }
    }

    #[test]
    fn what_follows_joins_and_keeps_its_places() {
        let extras = |place, id, runs| HeaderExtras {
            fingerprints: vec![(place, print(id))],
            runs,
            ..HeaderExtras::default()
        };
        let mut first = header(10, 2, extras(1, 7, vec![run("a", 2)]));
        let mut next = header(12, 3, extras(0, 8, vec![run("a", 5), run("b", 1)]));
        assert!(first.join(&mut next));
        assert_eq!((first.count, first.ingest_end()), (5, 15));
        let joined = first.extras.unwrap();
        assert_eq!(joined.fingerprints, [(1, print(7)), (2, print(8))]);
        assert_eq!(joined.runs, [run("a", 5), run("b", 1)]);
    }

    #[test]
    fn what_does_not_follow_stays_apart() {
        let mut first = header(10, 2, HeaderExtras::default());
        let mut gone = first.clone();
        assert!(!first.join(&mut header(13, 1, HeaderExtras::default())), "a hole");
        let mut epoch = BlockHeader { epoch: Epoch(2), ..header(12, 1, HeaderExtras::default()) };
        assert!(!first.join(&mut epoch));
        let mut settings =
            BlockHeader { kind: BlockKind::Settings, ..header(12, 0, HeaderExtras::default()) };
        assert!(!first.join(&mut settings));
        assert!(
            !gone.join(&mut BlockHeader {
                ingest_base: 20,
                ..header(12, 1, HeaderExtras::default())
            })
        );
        assert_eq!(first, gone);
    }
}
