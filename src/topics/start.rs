//! The machine while the journal is opened: loading, replaying, and reporting losses.
//!
//! Invariant: findings are in the unit that is committed and synced before anything is served.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use bytes::Bytes;

use super::catalogue::Topic;
use super::fold::{Core, Fold, Side};
use super::machine::{TopicsMachine, window_of};
use super::record::TopicRecord;
use super::retention;
use super::roster::{self, Listed, Roster};
use super::state::{self, Small};
use crate::journal::{
    Findings, JournalError, Now, StateKey, StreamEnd, StreamLimits, SyncNeed, Unit, random,
};
use crate::model::{
    BlockHeader, Epoch, Gap, Log, OwnerId, StreamId, TopicId, TopicName, TopicSettings,
};

/// Loaded state that is not in the catalogue yet.
pub(super) struct Start {
    directory: PathBuf,
    topics: HashMap<TopicId, Loaded>,
    secrets: HashMap<String, [u8; 16]>,
    listed: Option<Vec<Listed>>,
}

#[derive(Default)]
struct Loaded {
    record: Option<TopicRecord>,
    reserved: u64,
    core: Option<Core>,
    fold: Option<Fold>,
    /// Its record was lost.
    adopted: bool,
}

impl Start {
    pub(super) fn new(directory: PathBuf) -> Self {
        let (topics, secrets) = (HashMap::new(), HashMap::new());
        Self { directory, topics, secrets, listed: None }
    }

    /// The record of a topic that was loaded.
    pub(super) fn record(&self, topic: TopicId) -> Option<&TopicRecord> {
        self.topics.get(&topic)?.record.as_ref()
    }

    /// Applies the header of a block that no snapshot may cover.
    pub(super) fn replay(&mut self, topic: TopicId, side: Side, header: &BlockHeader) {
        let Some(loaded) = self.topics.get_mut(&topic) else { return };
        if let Some(fold) = loaded.fold.as_mut() {
            fold.apply(side, header);
        }
    }

    /// Blocks from this number on will be replayed, though a snapshot may cover them: other parts
    /// of it may be lost.
    pub(super) fn rewind(
        &mut self,
        topic: TopicId,
        side: Side,
        number: u64,
        head: u64,
        ingest_head: u64,
    ) {
        let Some(loaded) = self.topics.get_mut(&topic) else { return };
        let Some(fold) = loaded.fold.as_mut() else { return };
        let core = &mut fold.core;
        core.ingest_head = core.ingest_head.min(ingest_head);
        match side {
            Side::Ingest => core.raw_number = core.raw_number.min(number),
            Side::Outgoing => {
                core.number = core.number.min(number);
                core.head = core.head.min(head);
                core.processed_head = core.processed_head.min(ingest_head);
            }
        }
    }

    /// The roster, read when it is first needed.
    fn listed(&mut self) -> &[Listed] {
        let directory = &self.directory;
        self.listed.get_or_insert_with(|| roster::listed(directory).unwrap_or_default())
    }
}

impl TopicsMachine {
    pub(super) fn load_small(&mut self, key: &StateKey, value: &Bytes) -> Result<(), JournalError> {
        if key.owner() == OwnerId::JOURNAL {
            if self.lives.load(key, value)? {
                return Ok(());
            }
            if let (Some(word), Ok(secret)) = (key.as_word(), value[..].try_into()) {
                self.start.secrets.insert(word.to_owned(), secret);
            }
            return Ok(());
        }
        let id = TopicId(key.owner().0);
        let parsed = state::parse(key, value)?;
        let names_max = self.settings.names_max;
        let loaded = self.start.topics.entry(id).or_default();
        match parsed {
            Small::Record(record) => {
                if let Some(ingest) = record.ingest {
                    self.ingest_of.insert(ingest, id);
                }
                let window = window_of(&record.settings);
                loaded.fold.get_or_insert_with(|| Fold::new(window, names_max));
                loaded.record = Some(record);
            }
            Small::Reserved(reserved) => loaded.reserved = reserved,
            Small::Fold(core) => {
                loaded.fold = Some(Fold::cold(core, names_max));
                loaded.core = Some(core);
            }
            Small::Other => {}
        }
        Ok(())
    }

    /// A topic whose record is lost, but not its messages.
    pub(super) fn adopt_stream(&mut self, stream: StreamId, header: &BlockHeader) {
        let id = TopicId(stream.0);
        let listed = self.start.listed().iter().find(|listed| listed.id == id);
        let name = match listed {
            Some(listed) => Ok(listed.name.clone()),
            None => TopicName::new(&format!("recovered-{id}")),
        };
        let Ok(name) = name else { return };
        self.adopt_topic(id, name, header.epoch.max(Epoch::FIRST));
    }

    fn adopt_topic(&mut self, id: TopicId, name: TopicName, epoch: Epoch) {
        tracing::error!(topic = %name, "the record of this topic is lost");
        let settings = TopicSettings::default();
        let first_epoch = Epoch::FIRST;
        let record = TopicRecord { first_epoch, ..TopicRecord::new(id, name, epoch, settings) };
        let fold = self.new_fold(&settings);
        let loaded = self.start.topics.entry(id).or_default();
        loaded.record = Some(record);
        loaded.adopted = true;
        loaded.fold.get_or_insert(fold);
    }

    /// Topics of which only the name on the roster is left.
    fn adopt_listed(&mut self, unit: &mut Unit) {
        let listed = self.start.listed().to_vec();
        let topics = &self.start.topics;
        let mut names: HashSet<_> =
            topics.values().filter_map(|l| Some(l.record.as_ref()?.name.clone())).collect();
        for Listed { id, name, .. } in listed {
            if !self.start.topics.contains_key(&id) && names.insert(name.clone()) {
                unit.reserve_owner(id.into());
                self.adopt_topic(id, name, Epoch::FIRST);
            }
        }
    }

    pub(super) fn finish_start(
        &mut self,
        mut findings: Findings,
        ends: &dyn Fn(StreamId) -> Option<StreamEnd>,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<(), JournalError> {
        self.take_secrets(findings.new, unit)?;
        if findings.damaged {
            self.adopt_listed(unit);
        }
        let loaded = std::mem::take(&mut self.start.topics);
        for (id, Loaded { record, reserved, core, fold, adopted }) in loaded {
            let (Some(record), Some(fold)) = (record, fold) else { continue };
            let mut topic = Topic::new(record, fold);
            topic.reserved = reserved;
            topic.fold.core.epoch = topic.record.epoch;
            let mut changed = adopted;
            let known_head = core.map_or(0, |core| core.head).max(topic.fold.core.head);
            match ends(id.outgoing()) {
                Some(end) => changed |= topic.follow(&end, known_head),
                None => unit.open_stream(id.outgoing(), Log::Blocks),
            }
            for gap in findings.missing.remove(&id.outgoing()).unwrap_or_default() {
                changed |= topic.damaged(gap);
            }
            let streams = [Some(id.outgoing()), topic.record.ingest];
            for (stream, suspect) in streams.into_iter().zip(&findings.suspect) {
                if let (Some(stream), Some(suspect)) = (stream, suspect)
                    && suspect.suspects(stream)
                {
                    topic.suspect(suspect.sequences, suspect.messages_max);
                    changed = true;
                }
            }
            if !findings.complete {
                topic.begin_epoch(self.lives.next_epoch(topic.record.epoch), now, unit);
            }
            if changed {
                state::put_record(&topic, unit);
            }
            topic.remember(window_of(&topic.record.settings), now, unit);
            unit.limit(id.outgoing(), retention::limits(&topic.record.settings));
            if let Some(ingest) = topic.record.ingest {
                unit.limit(ingest, StreamLimits::NONE);
            }
            self.views.show(&topic.record, false);
            self.catalogue.enter(topic);
        }
        if findings.copied {
            self.begin_life(now, unit)?;
        }
        unit.need(SyncNeed::Now);
        let records = self.catalogue.iter().map(|topic| &topic.record);
        let roster = Roster::create(&self.start.directory, records)?;
        self.set_roster(roster);
        Ok(())
    }

    /// Every topic continues apart from those of the source.
    fn begin_life(&mut self, now: &Now, unit: &mut Unit) -> Result<(), JournalError> {
        let cores = || self.catalogue.iter().map(|topic| &topic.fold.core);
        let sequence = cores().map(|core| core.ingest_head.max(core.head)).max().unwrap_or(0);
        let epoch = self.catalogue.iter().map(|topic| topic.record.epoch).max();
        let highest = (sequence, epoch.unwrap_or_default());
        let next_topic = unit.new_owner().0;
        let life = self.lives.begin(highest, next_topic, now, unit)?;
        for topic in self.catalogue.iter_mut() {
            let next_epoch = self.lives.next_epoch(topic.record.epoch);
            topic.begin_life(next_epoch, life.from_sequence, now, unit);
            self.views.show(&topic.record, false);
        }
        tracing::info!(from = life.from_sequence, "this is a copy: topics go on in new epochs");
        Ok(())
    }

    fn take_secrets(&mut self, new: bool, unit: &mut Unit) -> Result<(), JournalError> {
        for word in [state::RECEIPTS, state::MESSAGE_IDS] {
            let secret = match self.start.secrets.get(word) {
                Some(secret) => *secret,
                None if new => {
                    let secret = random::<16>()?;
                    unit.put(StateKey::word(word), secret.to_vec());
                    secret
                }
                None => {
                    let what = format!("`{word}` is missing or has a wrong length");
                    return Err(JournalError::Metadata(what));
                }
            };
            match word {
                state::RECEIPTS => self.lives.set_first_secret(secret),
                _ => self.message_id_secret = secret,
            }
        }
        Ok(())
    }
}

impl Topic {
    /// The fold continues at the stream's end: blocks that are lost may have moved it. If messages
    /// are known to have been beyond the stream's end, they are lost; true then.
    fn follow(&mut self, end: &StreamEnd, known_head: u64) -> bool {
        let lost = Gap::before(end.head, known_head);
        let lost = lost.map_or(Vec::new(), |gap| gap.without(&self.record.holes()));
        let damaged = lost.into_iter().filter(|gap| self.damaged(*gap)).count() > 0;
        let core = &mut self.fold.core;
        let moved = end.head.saturating_sub(core.head);
        core.head += moved;
        core.ingest_head += moved;
        core.processed_head = core.processed_head.max(core.ingest_head);
        core.number = core.number.max(end.number);
        core.last_time = core.last_time.max(end.last_time);
        damaged
    }
}
