//! The topics' machine: what the journal's writer thread hosts.
//!
//! One plain state machine for all topics: it numbers and stamps their messages, leaves out known
//! ones, keeps the catalogue, and reports what a start has found. Each request is turned into one
//! unit; the rest of the module's files are its parts. Nothing here does I/O but the roster, and
//! the look-ups of a cold topic's memory.
//!
//! Invariants: only this machine gives offsets, ingest sequences and stamps; the memory of topics
//! is bounded ([`MachineSettings::fold_bytes_max`]); a request that panics costs its own topic.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::catalogue::Catalogue;
use super::change::{CatalogueEvent, TopicChanged};
use super::claims::Claimed;
use super::fold::{self, Fold, Side};
use super::lives::Lives;
use super::memory::FoldMemory;
use super::record::TopicRecord;
use super::request::{Reply, Request};
use super::roster::Roster;
use super::view::Views;
use super::{TopicsObserver, start, state};
use crate::journal::{
    Findings, JournalError, Known, Machine, Now, StateKey, StateReader, StreamEnd, SyncNeed, Turn,
    Unit,
};
use crate::model::{
    AppendError, BlockHeader, Gap, LastId, OwnerId, StreamId, TopicId, TopicSettings,
    WindowSettings,
};

/// Topics looked at with one sweep.
const SWEEP_TOPICS: usize = 10_000;
/// Idle windows removed with one sweep.
const SWEEP_WINDOWS: usize = 64;

/// The machine's parts.
#[derive(Clone, Debug)]
pub(super) struct MachineSettings {
    /// Most producer names one topic remembers.
    pub(super) names_max: usize,
    /// Most bytes of all topics' memory of messages.
    pub(super) fold_bytes_max: usize,
}

/// See the module.
pub(super) struct TopicsMachine {
    pub(super) settings: MachineSettings,
    pub(super) catalogue: Catalogue,
    pub(super) views: Views,
    pub(super) start: start::Start,
    roster: Option<Roster>,
    observer: Arc<dyn TopicsObserver>,
    /// New topics of the commit in the making, and deleted ones, for the roster.
    pub(super) listed: Vec<(TopicRecord, bool)>,
    /// Streams other than a topic's outgoing one, with their topics.
    pub(super) ingest_of: std::collections::HashMap<StreamId, TopicId>,
    pub(super) memory: FoldMemory,
    /// The next sweep's beginning.
    swept: TopicId,
    pub(super) lives: Lives,
    pub(super) message_id_secret: [u8; 16],
}

impl TopicsMachine {
    pub(super) fn new(
        directory: PathBuf,
        settings: MachineSettings,
        views: Views,
        observer: Arc<dyn TopicsObserver>,
    ) -> Self {
        Self {
            settings,
            catalogue: Catalogue::default(),
            views,
            start: start::Start::new(directory),
            roster: None,
            observer,
            listed: Vec::new(),
            ingest_of: std::collections::HashMap::new(),
            memory: FoldMemory::default(),
            swept: TopicId(0),
            lives: Lives::default(),
            message_id_secret: [0; 16],
        }
    }

    pub(super) fn set_roster(&mut self, roster: Roster) {
        self.roster = Some(roster);
    }

    pub(super) fn new_fold(&self, settings: &TopicSettings) -> Fold {
        Fold::new(window_of(settings), self.settings.names_max)
    }

    /// The topic of a stream, and which of its streams that is.
    pub(super) fn topic_of(&self, stream: StreamId) -> (TopicId, Side) {
        match self.ingest_of.get(&stream) {
            Some(topic) => (*topic, Side::Ingest),
            None => (TopicId(stream.0), Side::Outgoing),
        }
    }

    /// The newest claim of a producer's name. The topic must be warm.
    fn claim(&mut self, topic: TopicId, name: &str) -> Result<Claimed, AppendError> {
        let names_max = self.settings.names_max;
        let topic = self.catalogue.get_mut(topic).ok_or(AppendError::TopicDeleted)?;
        if topic.given_up {
            return Err(AppendError::Quarantined);
        }
        let last_id = match topic.fold.last_id(name) {
            Some(LastId::Number(last)) => Some(*last),
            Some(LastId::Position(_)) | None => None,
        };
        let (claim, fenced) = topic.claims.claim(name, names_max);
        Ok(Claimed { last_id, claim, fenced })
    }

    fn damaged(&mut self, id: TopicId, gap: Gap, unit: &mut Unit) {
        let Some(topic) = self.catalogue.get_mut(id) else { return };
        if topic.damaged(gap) {
            state::put_record(topic, unit);
            unit.need(SyncNeed::Now);
            self.views.show(&topic.record, topic.given_up);
            self.catalogue.changed(id, false);
        }
    }
}

/// How much a topic with these settings remembers.
pub(super) fn window_of(settings: &TopicSettings) -> WindowSettings {
    WindowSettings { ms: settings.dedup_window_ms, messages: settings.dedup_window_messages }
}

impl Machine for TopicsMachine {
    type Request = Request;
    type Reply = Reply;

    fn load(&mut self, key: StateKey, value: Bytes) -> Result<(), JournalError> {
        self.load_small(&key, &value)
    }

    fn known(&self, stream: StreamId) -> Known {
        let (topic, side) = self.topic_of(stream);
        let Some(topic) = self.start.record(topic) else { return Known::default() };
        match side {
            Side::Outgoing => Known { owned: true, holes: topic.holes(), head: topic.head_min() },
            Side::Ingest => Known { owned: true, ..Known::default() },
        }
    }

    fn adopt(&mut self, stream: StreamId, header: &BlockHeader) {
        self.adopt_stream(stream, header);
    }

    fn replay(&mut self, stream: StreamId, header: &BlockHeader) -> Result<(), JournalError> {
        let (topic, side) = self.topic_of(stream);
        self.start.replay(topic, side, header);
        Ok(())
    }

    fn rewind(&mut self, stream: StreamId, number: u64, head: u64, ingest_head: u64) {
        let (topic, side) = self.topic_of(stream);
        self.start.rewind(topic, side, number, head, ingest_head);
    }

    fn recovered(
        &mut self,
        findings: Findings,
        ends: &dyn Fn(StreamId) -> Option<StreamEnd>,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<(), JournalError> {
        self.finish_start(findings, ends, now, unit)
    }

    fn turn(&self, request: &Request) -> Turn {
        let topic = match request {
            Request::Append(append) => Some(append.topic),
            Request::Fence(topic, ..) | Request::Claim(topic, ..) => Some(*topic),
            Request::Damaged(topic, _) => Some(*topic),
            Request::Change(change, _) => self.catalogue.id_of(change.name()),
        };
        topic.map_or(Turn::First, |topic| Turn::Owner(topic.into()))
    }

    fn begin(&mut self, last: &dyn Fn(StreamId) -> u64, unit: &mut Unit) {
        self.keep_within_memory(last, unit);
    }

    fn apply(
        &mut self,
        request: Request,
        now: &Now,
        state: StateReader<'_>,
        unit: &mut Unit,
    ) -> Result<Reply, JournalError> {
        Ok(match request {
            Request::Append(append) => self.append(append, now, state, unit)?,
            Request::Change(change, reply) => {
                Reply::Changed(reply, self.change(*change, now, unit))
            }
            Request::Fence(topic, incarnation, reply) => {
                let topic = self.catalogue.get_mut(topic).ok_or(AppendError::TopicDeleted);
                Reply::Fenced(
                    reply,
                    topic.map(|topic| {
                        topic.incarnation = topic.incarnation.max(incarnation);
                        topic.fold.core.head
                    }),
                )
            }
            Request::Claim(topic, name, reply) => {
                let warmed = self.warm(topic, state).map_err(AppendError::from);
                Reply::Claimed(reply, warmed.and_then(|()| self.claim(topic, &name)))
            }
            Request::Damaged(topic, gap) => {
                self.damaged(topic, gap, unit);
                Reply::Noted
            }
        })
    }

    fn panicked(&mut self, turn: Turn) {
        let Turn::Owner(OwnerId(owner)) = turn else { return };
        let Some(topic) = self.catalogue.get_mut(TopicId(owner)) else { return };
        topic.given_up = true;
        let name = &topic.record.name;
        tracing::error!(topic = %name, "the topic is quarantined until the next start");
        self.views.show(&topic.record, true);
    }

    fn cover(
        &mut self,
        stream: StreamId,
        first: u64,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    ) -> bool {
        let (topic, side) = self.topic_of(stream);
        let Some(topic) = self.catalogue.get_mut(topic) else { return true };
        if topic.given_up {
            // Its memory may be of half a request: a start learns it from the blocks again.
            return false;
        }
        if side == Side::Outgoing {
            topic.forget_gaps_before(first);
        }
        state::put_snapshot(topic, last, unit);
        true
    }

    fn prepare(&mut self) -> Result<(), JournalError> {
        let listed = std::mem::take(&mut self.listed);
        match &mut self.roster {
            Some(roster) if !listed.is_empty() => roster.note(&listed),
            _ => Ok(()),
        }
    }

    fn committed(&mut self) {
        self.cool();
        for event in self.catalogue.take_events() {
            match &event {
                CatalogueEvent::Changed(TopicChanged { record, version, .. }) => {
                    tracing::debug!(topic = %record.name, version, "topic changed");
                }
                CatalogueEvent::Deleted(record) => {
                    tracing::debug!(topic = %record.name, "topic deleted");
                }
            }
            self.observer.changed(&event);
        }
    }

    fn sweep(
        &mut self,
        now: &Now,
        state: StateReader<'_>,
        last: &dyn Fn(StreamId) -> u64,
        unit: &mut Unit,
    ) {
        self.count_memory();
        let mut ids: Vec<_> = self.catalogue.iter().map(|topic| topic.record.id).collect();
        ids.sort_unstable();
        let from = ids.partition_point(|id| *id < self.swept);
        let mut windows = 0;
        self.swept = TopicId(0);
        for id in ids.into_iter().skip(from).take(SWEEP_TOPICS) {
            self.swept = TopicId(id.0 + 1);
            let Some(topic) = self.catalogue.get_mut(id) else { continue };
            if topic.given_up || !topic.fold.expire_idle(now.age_ms) {
                continue;
            }
            // Keys that can't be listed stay; they are never used.
            let pieces = state.keys(id.into(), fold::PIECE).unwrap_or_default();
            pieces.into_iter().for_each(|piece| unit.remove(piece));
            state::put_snapshot(topic, last, unit);
            windows += 1;
            if windows == SWEEP_WINDOWS {
                break;
            }
        }
    }

    fn closing(&mut self, unit: &mut Unit) {
        self.catalogue.iter_mut().for_each(|topic| topic.give_back(unit));
    }
}
