//! The fold against itself: whatever is saved, cooled, restored and replayed on the way, it knows
//! what one that never left memory knows.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::{Epoch, Incarnation, InputOutcome, Origin, OutcomeRun, Run, Timestamp};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const NAMES_MAX: usize = 3;
const WINDOW: WindowSettings = WindowSettings { ms: 500, messages: 40 };

/// What happens to a topic. Its messages pass the ingest stream first when `processed`.
#[derive(Clone, Debug)]
enum Step {
    /// Inputs with ids, each maybe of a named producer.
    Inputs {
        ids: Vec<u8>,
        name: Option<usize>,
        origin: Option<u32>,
        joined: bool,
    },
    /// The inputs that wait give so many outputs each; one each where that is 1.
    Process(u32),
    Gap,
    Window(WindowSettings),
    Pass(u64),
    Save,
    /// Saves, and gives up what is in memory.
    Cool,
    Warm,
    /// A start: what was saved, and the blocks after it.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = prop::collection::vec(0u8..60, 1..6);
    let name = proptest::option::of(0..NAMES.len());
    let origin = proptest::option::weighted(0.2, 0u32..3);
    prop_oneof![
        8 => (ids, name, origin, any::<bool>())
            .prop_map(|(ids, name, origin, joined)| Step::Inputs { ids, name, origin, joined }),
        4 => (0u32..3).prop_map(Step::Process),
        1 => Just(Step::Gap),
        1 => (0u64..800, 0u64..60).prop_map(|(ms, messages)| {
            Step::Window(WindowSettings { ms, messages })
        }),
        2 => (0u64..300).prop_map(Step::Pass),
        3 => Just(Step::Save),
        2 => Just(Step::Cool),
        2 => Just(Step::Warm),
        3 => Just(Step::Restart),
    ]
}

/// A fold on its way through saves and starts, beside one that stays.
struct Subject {
    processed: bool,
    here: Fold,
    always: Fold,
    saved: BTreeMap<(u8, Vec<u8>), Bytes>,
    /// Blocks that a start would read again.
    blocks: Vec<(Side, BlockHeader)>,
    gaps: Vec<Gap>,
    numbers: [u64; 2],
    age_ms: u64,
    last_id: u64,
}

impl Subject {
    fn new(processed: bool) -> Self {
        let mut always = Fold::new(WINDOW, NAMES_MAX);
        always.warm_empty();
        let mut subject = Self {
            processed,
            here: Fold::new(WINDOW, NAMES_MAX),
            always,
            saved: BTreeMap::new(),
            blocks: Vec::new(),
            gaps: Vec::new(),
            numbers: [0; 2],
            age_ms: 1,
            last_id: 0,
        };
        subject.save();
        subject
    }

    fn header(&self) -> BlockHeader {
        let core = &self.always.core;
        BlockHeader {
            epoch: core.epoch.max(Epoch::FIRST),
            base_offset: core.head,
            ingest_base: core.ingest_head,
            published_at: Timestamp(self.age_ms),
            age_ms: self.age_ms,
            ..BlockHeader::default()
        }
    }

    fn block(&mut self, side: Side, mut header: BlockHeader) {
        let number = &mut self.numbers[side as usize];
        *number += 1;
        header.number = *number;
        for fold in [&mut self.here, &mut self.always] {
            assert!(fold.apply(side, &header));
            assert!(!fold.apply(side, &header), "a repeat changes nothing");
        }
        self.blocks.push((side, header));
    }

    fn inputs(&mut self, ids: &[u8], name: Option<usize>, origin: Option<u32>) -> BlockHeader {
        // Only what is new is stored, an id once; an id that has left the window can come again.
        let print = |id: u8| Fingerprint { id: id.into(), payload: 1 };
        let mut prints: Vec<(u32, Fingerprint)> = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            let known = prints.iter().any(|(_, known)| *known == print(*id));
            if !known && self.always.look(print(*id), self.age_ms) == Seen::New {
                prints.push((place as u32, print(*id)));
            }
        }
        self.last_id += ids.len() as u64;
        let run =
            |name: usize| Run { name: NAMES[name].into(), last: LastId::Number(self.last_id) };
        let incarnation = Incarnation(self.age_ms);
        let extras = HeaderExtras {
            fingerprints: prints,
            runs: name.map(run).into_iter().collect(),
            origin: origin.map(|ingest_id| Origin { ingest_id, incarnation }),
            ..HeaderExtras::default()
        };
        let count = ids.len() as u32;
        let extras = Some(Box::new(extras));
        BlockHeader { count, ingest_count: count, extras, ..self.header() }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Inputs { ids, name, origin, joined } => {
                self.age_ms += 1;
                let mut header = self.inputs(ids, *name, *origin);
                if *joined {
                    // Two requests that became one block: the second one's numbers follow.
                    let others: Vec<_> = ids.iter().map(|id| id + 60).collect();
                    let mut next = self.inputs(&others, *name, *origin);
                    next.base_offset = header.end_offset();
                    next.ingest_base = header.ingest_end();
                    assert!(header.join(&mut next));
                }
                if self.processed {
                    let base_offset = header.ingest_base;
                    self.block(Side::Ingest, BlockHeader { base_offset, ..header });
                } else {
                    self.block(Side::Outgoing, header);
                }
            }
            Step::Process(outputs) => self.process(*outputs),
            Step::Gap => {
                let core = &self.always.core;
                let gap = Gap { from: core.head.saturating_sub(3), to: core.head + 2 };
                let moved = gap.end() - core.head;
                self.gaps.push(gap);
                let header = BlockHeader {
                    kind: BlockKind::Gap,
                    epoch: Epoch(core.epoch.0 + 1),
                    base_offset: core.head + moved,
                    ingest_base: core.ingest_head + moved,
                    extras: Some(Box::new(HeaderExtras { gap: Some(gap), ..Default::default() })),
                    ..self.header()
                };
                self.block(Side::Outgoing, header);
            }
            Step::Window(WindowSettings { ms, messages }) => {
                // A larger one may find ids again, as far as they are still there.
                let WindowSettings { ms: ms_now, messages: messages_now } = self.always.core.window;
                let (ms, messages) = (*ms.min(&ms_now), *messages.min(&messages_now));
                let window = WindowSettings { ms, messages };
                let extras = HeaderExtras { window: Some(window), ..HeaderExtras::default() };
                let header = BlockHeader {
                    kind: BlockKind::Settings,
                    extras: Some(Box::new(extras)),
                    ..self.header()
                };
                self.block(Side::Outgoing, header);
            }
            Step::Pass(ms) => self.age_ms += ms,
            Step::Save => self.save(),
            Step::Cool => {
                self.warm();
                self.save();
                assert!(self.here.cool());
            }
            Step::Warm => self.warm(),
            Step::Restart => self.restart(),
        }
    }

    /// An outgoing block covers the inputs that wait, whatever became of them.
    fn process(&mut self, outputs: u32) {
        let core = &self.always.core;
        let waiting = (core.ingest_head - core.processed_head) as u32;
        if waiting == 0 {
            return;
        }
        let outcome = InputOutcome::Outputs(outputs);
        let run = OutcomeRun { place: 0, count: waiting, outcome };
        let outcomes = if outputs == 1 { Vec::new() } else { vec![run] };
        let extras = Some(Box::new(HeaderExtras { outcomes, ..HeaderExtras::default() }));
        let count = waiting * outputs;
        let kind = if count == 0 { BlockKind::Outcome } else { BlockKind::Data };
        let ingest_base = core.processed_head;
        let header = BlockHeader {
            kind,
            count,
            ingest_base,
            ingest_count: waiting,
            extras,
            ..self.header()
        };
        self.block(Side::Outgoing, header);
    }

    fn save(&mut self) {
        let saved = &mut self.saved;
        self.here.save(&mut |tag, rest, value| {
            let key = (tag, rest.to_vec());
            match value {
                Some(value) => drop(saved.insert(key, value.into())),
                None => drop(saved.remove(&key)),
            }
        });
    }

    fn restore(&mut self) {
        let saved = self.saved.iter().filter(|((tag, _), _)| *tag != Core::TAG);
        let saved: Vec<_> = saved
            .map(|((tag, rest), value)| (*tag, Bytes::from(rest.clone()), value.clone()))
            .collect();
        assert!(self.here.restore(&saved, &self.gaps));
    }

    fn warm(&mut self) {
        self.here.warm_empty();
        if !self.here.is_warm() {
            self.restore();
        }
    }

    fn restart(&mut self) {
        let core = Core::decode(&self.saved[&(Core::TAG, Vec::new())]).unwrap();
        self.here = Fold::cold(core, NAMES_MAX);
        for (side, header) in &self.blocks {
            self.here.apply(*side, header);
        }
    }

    fn check(&mut self) {
        self.warm();
        let storage = |core: Core| Core { next_piece: 0, stored: false, ..core };
        assert_eq!(storage(self.here.core), storage(self.always.core));
        for name in NAMES {
            assert_eq!(self.here.last_id(name), self.always.last_id(name), "{name}");
        }
        for id in 0..120 {
            let print = Fingerprint { id, payload: 1 };
            let look = |fold: &Fold| fold.look(print, self.age_ms);
            assert_eq!(look(&self.here), look(&self.always), "id {id}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_and_the_blocks_after_it_are_the_state(
        processed: bool, steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut subject = Subject::new(processed);
        steps.iter().for_each(|step| subject.apply(step));
        subject.check();
    }
}
