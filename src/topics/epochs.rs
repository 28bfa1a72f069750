//! Epochs: gaps, damage, and how a start handles messages that may be lost.
//!
//! An epoch ends when acknowledged messages may be lost. Their offsets become an announced gap, or,
//! as long as it is not accepted, damage that quarantines the topic. Every such change is a block
//! of the topic's stream and a change of its record, in one unit.

use super::catalogue::Topic;
use super::change::TopicChangeError;
use super::fold::Side;
use super::state;
use crate::journal::{Now, Unit};
use crate::model::{AckLevel, BlockHeader, BlockKind, Damage, Epoch, Gap, HeaderExtras};

/// Offsets a topic that may lose some reserves at a time (DESIGN §1).
const RESERVED_OFFSETS: u64 = 65_536;

impl Topic {
    /// Makes sure that offsets below the head are reserved, if a loss of messages must not lead to
    /// an offset used twice.
    pub(super) fn reserve(&mut self, unit: &mut Unit) -> bool {
        let head = self.fold.core.head;
        if head <= self.reserved {
            return false;
        }
        self.reserved = head + RESERVED_OFFSETS;
        state::put_reserved(self, unit);
        true
    }

    /// Releases what was reserved and not used.
    pub(super) fn give_back(&mut self, unit: &mut Unit) {
        if self.reserved > self.fold.core.head {
            self.reserved = self.fold.core.head;
            state::put_reserved(self, unit);
        }
    }

    /// Acknowledged messages at the topic's end may have been lost: their offsets are never used
    /// again, and readers receive a gap.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch, now: &Now, unit: &mut Unit) {
        if self.record.settings.ack_level != AckLevel::Os {
            return;
        }
        let Some(gap) = Gap::before(self.fold.core.head, self.reserved) else { return };
        self.record.begin_epoch(epoch, gap.from);
        gap.add_to(&mut self.record.gaps);
        self.give_up(BlockKind::Epoch, gap, now, unit);
        let (from, to, epoch) = (gap.from, gap.to, self.record.epoch.0);
        tracing::warn!(topic = %self.record.name, from, to, epoch, "acknowledged messages may be lost");
    }

    /// The topic is a copy: offsets that its source may have used since are never used here.
    pub(super) fn begin_life(
        &mut self,
        epoch: Epoch,
        from_sequence: u64,
        now: &Now,
        unit: &mut Unit,
    ) {
        let core = &self.fold.core;
        let end = core.head + from_sequence.saturating_sub(core.ingest_head.min(core.head));
        let Some(gap) = Gap::before(core.head, end) else { return };
        self.record.begin_epoch(epoch, gap.from);
        gap.add_to(&mut self.record.gaps);
        self.give_up(BlockKind::Epoch, gap, now, unit);
    }

    /// Accepts damage as a gap, in a new epoch.
    pub(super) fn accept(
        &mut self,
        gap: Gap,
        epoch: Epoch,
        now: &Now,
        unit: &mut Unit,
    ) -> Result<(), TopicChangeError> {
        let Some(at) = self.record.damage.iter().position(|damage| damage.gap == gap) else {
            return Err(TopicChangeError::NoSuchDamage(self.record.damage.clone()));
        };
        self.record.damage.remove(at);
        gap.add_to(&mut self.record.gaps);
        // Readers have seen nothing of it, and everything behind it that they have read.
        self.record.begin_epoch(epoch, self.fold.core.head.max(gap.end()));
        self.give_up(BlockKind::Gap, gap, now, unit);
        Ok(())
    }

    /// Notes damage; false when it was known.
    pub(super) fn damaged(&mut self, gap: Gap) -> bool {
        if !self.record.add_damage(gap) {
            return false;
        }
        let (topic, from, to) = (&self.record.name, gap.from, gap.to);
        tracing::error!(%topic, from, to, "messages are damaged; the topic is quarantined");
        true
    }

    /// Chunks are lost that may have held messages of its end.
    pub(super) fn suspect(&mut self, sequences: [u64; 2], messages_max: u64) {
        let head = self.fold.core.head;
        let gap = Gap { from: head, to: head + messages_max - 1 };
        self.record.damage.push(Damage { gap, sequences: Some(sequences) });
        let (topic, [from, to]) = (&self.record.name, sequences);
        tracing::error!(%topic, from, to, "may have lost messages in these sequences");
    }

    /// Appends a block that gives offsets up, and puts the record. A gap at the end moves the end.
    fn give_up(&mut self, kind: BlockKind, gap: Gap, now: &Now, unit: &mut Unit) {
        let core = &self.fold.core;
        // Inputs and offsets are numbered alike as long as no processor has come between them.
        let moved = gap.end().saturating_sub(core.head);
        let header = BlockHeader {
            kind,
            epoch: self.record.epoch,
            base_offset: core.head + moved,
            ingest_base: core.ingest_head + moved,
            published_at: now.time.max(core.last_time),
            age_ms: now.age_ms,
            extras: Some(Box::new(HeaderExtras { gap: Some(gap), ..HeaderExtras::default() })),
            ..BlockHeader::default()
        };
        self.fold.absorb(Side::Outgoing, &header);
        unit.append_header(self.record.id.outgoing(), header);
        state::put_record(self, unit);
    }

    /// Forgets gaps that lie below the low watermark.
    pub(super) fn forget_gaps_before(&mut self, first: u64) {
        self.record.gaps.retain(|gap| gap.to >= first);
    }
}
