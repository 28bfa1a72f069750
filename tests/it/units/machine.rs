//! A small machine to drive the journal with: owners with two streams each, one in either log, and
//! state of both kinds. It knows nothing of topics.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;
use weir::journal::{
    Findings, JournalError, Known, Machine, Now, Reply, Request, StateKey, StateReader, StreamEnd,
    SyncNeed, Turn, Unit,
};
use weir::model::{
    Block, BlockBuilder, BlockHeader, Fingerprint, HeaderExtras, Log, OwnerId, Record, StreamId,
};

/// The tag of an owner's own record; a machine that does not know it must not go on.
const OWNER: u8 = b't';
/// The tag of what an owner has learnt of its blocks.
const SNAPSHOT: u8 = b's';
/// The tag of small values.
const SMALL: u8 = b'a';
/// The tag of values that are looked up when they are needed.
const BULK: u8 = 0x90;

/// An owner's streams, in the order of [`Log::ALL`].
pub const SIDES: usize = 2;

/// What one request changes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Side, lengths of payloads, and whether readers are told.
    pub appends: Vec<(usize, Vec<u16>, bool)>,
    /// Key and value, or none to remove it; bulk for the higher half of the keys.
    pub values: Vec<(u8, Option<u8>)>,
    /// Gives up blocks of a side that end at or before the offset.
    pub trim: Option<(usize, u64)>,
    pub synced: bool,
    /// The request panics when all this is in the unit.
    pub panic: bool,
}

/// What the machine knows of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub streams: [StreamId; SIDES],
    /// How many changes were made.
    pub changes: u64,
    pub small: BTreeMap<u8, u8>,
    pub heads: [u64; SIDES],
    /// Of all messages, in order.
    pub digests: [u64; SIDES],
    numbers: [u64; SIDES],
    given_up: bool,
}

pub enum Asked {
    Open(oneshot::Sender<Owner>),
    Change(OwnerId, Change, oneshot::Sender<Option<u64>>),
    /// What is stored under keys that are looked up.
    Look(OwnerId, oneshot::Sender<BTreeMap<u8, u8>>),
    Delete(OwnerId, oneshot::Sender<Option<u64>>),
}

/// An answer that waits for its commit.
pub struct Answer(Box<dyn FnOnce() + Send>);

impl Answer {
    fn of<T: Send + 'static>(reply: oneshot::Sender<T>, value: T) -> Self {
        Self(Box::new(move || drop(reply.send(value))))
    }
}

impl Request for Asked {
    fn refuse(self, _: &JournalError) {}
}

impl Reply for Answer {
    fn give(self) {
        (self.0)();
    }

    fn refuse(self, _: &JournalError) {}
}

/// See the module.
#[derive(Default)]
pub struct Small {
    /// Something may be missing: it is noted what, and nothing is learnt from blocks.
    pub tolerant: bool,
    pub findings: Findings,
    pub owners: BTreeMap<OwnerId, Owner>,
    /// The owner and side of each stream.
    pub sides: BTreeMap<StreamId, (OwnerId, usize)>,
}

/// A message's payload: its number in its stream, then filling.
pub fn payload(number: u64, length: u16) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + usize::from(length), number as u8);
    payload
}

/// One more message.
pub fn digest(before: u64, id: u128, offset: u64) -> u64 {
    (before ^ id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(offset)
}

impl Owner {
    fn encode(&self) -> Vec<u8> {
        let numbers = [self.heads, self.digests, self.numbers];
        numbers.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn decode(&mut self, mut value: &[u8]) {
        for numbers in [&mut self.heads, &mut self.digests, &mut self.numbers] {
            numbers.iter_mut().for_each(|number| *number = value.get_u64_le());
        }
    }

    /// Learns from a header; of a block whose number is not given yet, too.
    fn learn(&mut self, side: usize, header: &BlockHeader) {
        assert_eq!(header.base_offset, self.heads[side], "the next block");
        let prints = header.extras.iter().flat_map(|extras| &extras.fingerprints);
        for (place, print) in prints {
            let offset = header.base_offset + u64::from(*place);
            self.digests[side] = digest(self.digests[side], print.id, offset);
        }
        self.heads[side] = header.end_offset();
    }

    fn append(&mut self, side: usize, lengths: &[u16], visible: bool, unit: &mut Unit) {
        let (block, prints) = block(self.heads[side], lengths);
        let extras = HeaderExtras { fingerprints: prints, ..HeaderExtras::default() };
        let header = BlockHeader {
            base_offset: self.heads[side],
            count: block.count(),
            ingest_base: self.heads[side],
            ingest_count: block.count(),
            extras: Some(Box::new(extras)),
            ..BlockHeader::default()
        };
        self.learn(side, &header);
        unit.append(self.streams[side], header, block, visible);
    }
}

fn block(first: u64, lengths: &[u16]) -> (Block, Vec<(u32, Fingerprint)>) {
    let mut builder = BlockBuilder::default();
    let mut prints = Vec::new();
    for (place, length) in lengths.iter().enumerate() {
        let payload = payload(first + place as u64, *length);
        builder.push(&Record::of("x/y", &payload)).unwrap();
        let print = Fingerprint { id: u128::from(*length), payload: 0 };
        prints.push((place as u32, print));
    }
    (builder.finish().unwrap(), prints)
}

fn value_key(owner: OwnerId, key: u8) -> StateKey {
    StateKey::new(owner, if key < 128 { SMALL } else { BULK }, &[key])
}

impl Small {
    fn change(&mut self, id: OwnerId, change: &Change, unit: &mut Unit) -> Option<u64> {
        let owner = self.owners.get_mut(&id).filter(|owner| !owner.given_up)?;
        for (side, lengths, visible) in &change.appends {
            owner.append(*side, lengths, *visible, unit);
        }
        for (key, value) in &change.values {
            match value {
                Some(value) => unit.put(value_key(id, *key), vec![*value]),
                None => unit.remove(value_key(id, *key)),
            }
            if *key < 128 {
                match value {
                    Some(value) => drop(owner.small.insert(*key, *value)),
                    None => drop(owner.small.remove(key)),
                }
            }
        }
        if let Some((side, first)) = change.trim {
            unit.trim(owner.streams[side], first.min(owner.heads[side]));
        }
        owner.changes += 1;
        self.put_owner(id, unit);
        unit.need(if change.synced { SyncNeed::Now } else { SyncNeed::None });
        assert!(!change.panic, "as planned");
        Some(self.owners[&id].changes)
    }

    fn put_owner(&self, id: OwnerId, unit: &mut Unit) {
        let owner = &self.owners[&id];
        let streams = owner.streams.iter().flat_map(|stream| stream.0.to_le_bytes());
        let value: Vec<u8> = owner.changes.to_le_bytes().into_iter().chain(streams).collect();
        unit.put(StateKey::new(id, OWNER, b""), value);
    }

    fn open(&mut self, unit: &mut Unit) -> Owner {
        let id = unit.new_owner();
        let streams = [StreamId(id.0), StreamId(unit.new_owner().0)];
        for (side, (stream, log)) in streams.into_iter().zip(Log::ALL).enumerate() {
            unit.open_stream(stream, log);
            self.sides.insert(stream, (id, side));
        }
        let owner = Owner { streams, ..Owner::default() };
        self.owners.insert(id, owner.clone());
        self.put_owner(id, unit);
        unit.put(StateKey::new(id, SNAPSHOT, b""), owner.encode());
        unit.need(SyncNeed::Now);
        owner
    }
}

impl Machine for Small {
    type Request = Asked;
    type Reply = Answer;

    fn load(&mut self, key: StateKey, value: Bytes) -> Result<(), JournalError> {
        let owner = self.owners.entry(key.owner()).or_default();
        match key.tag() {
            OWNER => {
                let mut value = &value[..];
                owner.changes = value.get_u64_le();
                owner.streams = [(); SIDES].map(|()| StreamId(value.get_u32_le()));
                for (side, stream) in owner.streams.into_iter().enumerate() {
                    self.sides.insert(stream, (key.owner(), side));
                }
            }
            SNAPSHOT => owner.decode(&value),
            SMALL => drop(owner.small.insert(key.rest()[0], value[0])),
            tag => panic!("tag {tag:#x} is never put"),
        }
        Ok(())
    }

    fn known(&self, stream: StreamId) -> Known {
        Known { owned: self.sides.contains_key(&stream), ..Known::default() }
    }

    fn adopt(&mut self, stream: StreamId, _: &BlockHeader) {
        assert!(self.tolerant, "stream {stream} has no owner");
        let id = OwnerId(stream.0);
        self.sides.insert(stream, (id, 0));
        self.owners.entry(id).or_default();
    }

    fn replay(&mut self, stream: StreamId, header: &BlockHeader) -> Result<(), JournalError> {
        let (id, side) = self.sides[&stream];
        let owner = self.owners.get_mut(&id).unwrap();
        if !self.tolerant && header.number > owner.numbers[side] {
            assert_eq!(header.number, owner.numbers[side] + 1, "nothing is missing before it");
            owner.numbers[side] = header.number;
            owner.learn(side, header);
        }
        Ok(())
    }

    fn recovered(
        &mut self,
        findings: Findings,
        ends: &dyn Fn(StreamId) -> Option<StreamEnd>,
        _: &Now,
        _: &mut Unit,
    ) -> Result<(), JournalError> {
        if self.tolerant {
            self.findings = findings;
            return Ok(());
        }
        assert!(findings.missing.is_empty() && !findings.damaged, "{findings:?}");
        for owner in self.owners.values_mut() {
            for side in 0..SIDES {
                let end = ends(owner.streams[side]).expect("the stream is there");
                assert_eq!(end.head, owner.heads[side], "what is known ends where the stream does");
                assert_eq!(end.number, owner.numbers[side]);
            }
        }
        Ok(())
    }

    fn rewind(&mut self, _: StreamId, _: u64, _: u64, _: u64) {}

    fn turn(&self, asked: &Asked) -> Turn {
        match asked {
            Asked::Open(_) => Turn::First,
            Asked::Change(id, ..) | Asked::Look(id, _) | Asked::Delete(id, _) => Turn::Owner(*id),
        }
    }

    fn begin(&mut self, _: &dyn Fn(StreamId) -> u64, _: &mut Unit) {}

    fn apply(
        &mut self,
        asked: Asked,
        _: &Now,
        state: StateReader<'_>,
        unit: &mut Unit,
    ) -> Result<Answer, JournalError> {
        Ok(match asked {
            Asked::Open(reply) => Answer::of(reply, self.open(unit)),
            Asked::Change(id, change, reply) => Answer::of(reply, self.change(id, &change, unit)),
            Asked::Look(id, reply) => {
                let found = state.values(id, BULK)?.into_iter();
                Answer::of(reply, found.map(|(key, value)| (key[0], value[0])).collect())
            }
            Asked::Delete(id, reply) => {
                let owner = self.owners.remove(&id);
                for stream in owner.iter().flat_map(|owner| owner.streams) {
                    unit.delete(stream.into());
                    self.sides.remove(&stream);
                }
                unit.need(SyncNeed::Now);
                Answer::of(reply, owner.map(|owner| owner.changes))
            }
        })
    }

    fn panicked(&mut self, turn: Turn) {
        if let Turn::Owner(id) = turn
            && let Some(owner) = self.owners.get_mut(&id)
        {
            owner.given_up = true;
        }
    }

    fn cover(
        &mut self,
        stream: StreamId,
        _: u64,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    ) -> bool {
        let (id, _) = self.sides[&stream];
        let owner = self.owners.get_mut(&id).unwrap();
        if owner.given_up {
            return false;
        }
        owner.numbers = owner.streams.map(last);
        unit.put(StateKey::new(id, SNAPSHOT, b""), owner.encode());
        true
    }

    fn prepare(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    fn committed(&mut self) {}

    fn sweep(&mut self, _: &Now, _: StateReader<'_>, _: &dyn Fn(StreamId) -> u64, _: &mut Unit) {}

    fn closing(&mut self, _: &mut Unit) {}
}
