//! Changes of the catalogue: requests, results and errors.

use super::catalogue::Topic;
use super::fold::Side;
use super::machine::{TopicsMachine, window_of};
use super::record::TopicRecord;
use super::{retention, state};
use crate::faults::{self, Seam};
use crate::journal::{JournalError, Now, SyncNeed, Unit};
use crate::model::{
    BlockHeader, BlockKind, Damage, Gap, HeaderExtras, Log, TopicId, TopicName, TopicSettings,
    TopicSettingsChange, WindowSettings,
};

/// A change of the catalogue.
#[derive(Clone, Debug)]
pub enum TopicChange {
    /// Creates the topic unless it exists.
    Ensure {
        /// Its name.
        name: TopicName,
        /// Its settings, if it is created.
        settings: TopicSettings,
        /// Most topics after this.
        topics_max: usize,
    },
    /// Creates the topic or replaces its settings.
    Replace {
        /// Its name.
        name: TopicName,
        /// Its settings.
        settings: TopicSettings,
        /// Most topics after this.
        topics_max: usize,
        /// Only if no topic has that name.
        must_be_new: bool,
    },
    /// Changes some settings of a topic.
    Merge {
        /// Its name.
        name: TopicName,
        /// The changes; each value is within its bounds.
        change: TopicSettingsChange,
        /// The defaults, for settings that are reset.
        defaults: TopicSettings,
    },
    /// Deletes the topic.
    Delete {
        /// Its name.
        name: TopicName,
    },
    /// Accepts that messages are lost: their offsets become an announced gap.
    AcceptGap {
        /// The topic's name.
        name: TopicName,
        /// Exactly the damage that is shown.
        gap: Gap,
    },
}

impl TopicChange {
    /// The name of the topic it is about.
    pub(super) fn name(&self) -> &TopicName {
        match self {
            Self::Ensure { name, .. }
            | Self::Replace { name, .. }
            | Self::Merge { name, .. }
            | Self::Delete { name }
            | Self::AcceptGap { name, .. } => name,
        }
    }

    /// It may create a topic.
    pub(super) fn may_create(&self) -> bool {
        matches!(self, Self::Ensure { .. } | Self::Replace { .. })
    }
}

/// What a [`TopicChange`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChanged {
    /// The topic as it is now, or was last.
    pub record: TopicRecord,
    /// It did not exist before.
    pub created: bool,
    /// Rises with every change, so that a late answer can be distinguished from a newer one.
    pub version: u64,
}

/// Why a [`TopicChange`] did nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicChangeError {
    /// No topic of that name.
    #[error("there is no such topic")]
    NotFound,
    /// A topic to be created exists already.
    #[error("there is a topic of that name")]
    AlreadyExists,
    /// The most topics exist already.
    #[error("there are {max} topics already, which is all that `topics_max` allows")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A request for the topic panicked; its memory is not relied on until the next start.
    #[error("the topic is quarantined until the next start")]
    GivenUp,
    /// The range to accept is not a damaged one.
    #[error("`accept_gap` must be one of the topic's damaged ranges: {}", ranges(.0))]
    NoSuchDamage(Vec<Damage>),
    /// The disk has no room to spare.
    #[error("the disk is full; topics can be deleted, not made")]
    StorageFull,
    /// The journal stores nothing any more.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn ranges(damage: &[Damage]) -> String {
    if damage.is_empty() {
        return "it has none".into();
    }
    let range = |damage: &Damage| format!("{} to {}", damage.gap.from, damage.gap.to);
    damage.iter().map(range).collect::<Vec<_>>().join(", ")
}

/// An event of the catalogue, sent once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueEvent {
    /// A topic was created, or changed: settings, epoch, gaps or damage.
    Changed(TopicChanged),
    /// A topic was deleted.
    Deleted(TopicRecord),
}

impl TopicsMachine {
    pub(super) fn change(
        &mut self,
        change: TopicChange,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<TopicChanged, TopicChangeError> {
        faults::pass(Seam::MachineChanging);
        let known = self.catalogue.id_of(change.name());
        if known.is_none() && change.may_create() && now.full.is_some() {
            return Err(TopicChangeError::StorageFull);
        }
        match change {
            TopicChange::Ensure { name, settings, topics_max } => match known {
                Some(id) => self.catalogue.unchanged(id).ok_or(TopicChangeError::NotFound),
                None => self.create(name, settings, topics_max, now, unit),
            },
            TopicChange::Replace { must_be_new: true, .. } if known.is_some() => {
                Err(TopicChangeError::AlreadyExists)
            }
            TopicChange::Replace { name, settings, topics_max, .. } => match known {
                Some(id) => self.set(id, settings, now, unit),
                None => self.create(name, settings, topics_max, now, unit),
            },
            TopicChange::Merge { change, defaults, .. } => {
                let id = known.ok_or(TopicChangeError::NotFound)?;
                let before = self.catalogue.get(id).ok_or(TopicChangeError::NotFound)?;
                let settings = change.apply_to(before.record.settings, defaults);
                self.set(id, settings, now, unit)
            }
            TopicChange::Delete { name } => self.delete(&name, unit),
            TopicChange::AcceptGap { name, gap } => {
                let topic = self.catalogue.named(&name).ok_or(TopicChangeError::NotFound)?;
                if topic.given_up {
                    return Err(TopicChangeError::GivenUp);
                }
                topic.accept(gap, self.lives.next_epoch(topic.record.epoch), now, unit)?;
                unit.need(SyncNeed::Now);
                self.views.show(&topic.record, topic.given_up);
                let id = topic.record.id;
                Ok(self.catalogue.changed(id, false))
            }
        }
    }

    fn create(
        &mut self,
        name: TopicName,
        settings: TopicSettings,
        topics_max: usize,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<TopicChanged, TopicChangeError> {
        if self.catalogue.len() >= topics_max {
            return Err(TopicChangeError::TooMany { max: topics_max });
        }
        let id = TopicId(unit.new_owner().0);
        let epoch = self.lives.first_epoch(&name);
        let record = TopicRecord::new(id, name, epoch, settings);
        let mut topic = Topic::new(record.clone(), self.new_fold(&settings));
        topic.fold.core.age_ms = now.age_ms;
        topic.fold.core.epoch = epoch;
        unit.open_stream(id.outgoing(), Log::Blocks);
        unit.limit(id.outgoing(), retention::limits(&settings));
        state::put_record(&topic, unit);
        state::put_snapshot(&mut topic, &|_| 0, unit);
        unit.need(SyncNeed::Now);
        self.listed.push((record, false));
        Ok(self.catalogue.create(topic))
    }

    /// Gives a topic other settings.
    fn set(
        &mut self,
        id: TopicId,
        settings: TopicSettings,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<TopicChanged, TopicChangeError> {
        let topic = self.catalogue.get_mut(id).ok_or(TopicChangeError::NotFound)?;
        topic.record.settings = settings;
        // The next start will find that of a topic that was given up.
        if !topic.given_up {
            topic.remember(window_of(&settings), now, unit);
        }
        unit.limit(id.outgoing(), retention::limits(&settings));
        state::put_record(topic, unit);
        unit.need(SyncNeed::Now);
        Ok(self.catalogue.changed(id, false))
    }

    fn delete(
        &mut self,
        name: &TopicName,
        unit: &mut Unit,
    ) -> Result<TopicChanged, TopicChangeError> {
        let changed = self.catalogue.delete(name).ok_or(TopicChangeError::NotFound)?;
        let record = &changed.record;
        self.lives.forget(&record.name, record.epoch, unit);
        unit.delete(record.id.into());
        if let Some(ingest) = record.ingest {
            unit.delete(ingest.into());
            self.ingest_of.remove(&ingest);
        }
        unit.need(SyncNeed::Now);
        self.memory.forget(record.id);
        self.views.forget(record.id);
        self.listed.push((record.clone(), true));
        Ok(changed)
    }
}

impl Topic {
    /// Remembers this much from now on. What the fold depends on is a block of the topic's stream.
    pub(super) fn remember(&mut self, window: WindowSettings, now: &Now, unit: &mut Unit) {
        let core = &self.fold.core;
        if window == core.window {
            return;
        }
        let extras = HeaderExtras { window: Some(window), ..HeaderExtras::default() };
        let header = BlockHeader {
            kind: BlockKind::Settings,
            epoch: self.record.epoch,
            base_offset: core.head,
            ingest_base: core.ingest_head,
            published_at: now.time.max(core.last_time),
            age_ms: now.age_ms,
            extras: Some(Box::new(extras)),
            ..BlockHeader::default()
        };
        self.fold.absorb(Side::Outgoing, &header);
        unit.append_header(self.record.id.outgoing(), header);
    }
}
