//! Appending a block: what is refused, which messages are new, and which numbers they get.

use std::time::Duration;

use tracing::Span;

use super::catalogue::Topic;
use super::deduplicate::{Deduplicated, deduplicate};
use super::fold::Side;
use super::machine::TopicsMachine;
use super::request::{Append, Reply};
use crate::faults::{self, Seam};
use crate::journal::{JournalError, Now, StateReader, SyncNeed, Unit};
use crate::model::{
    AckLevel, AppendError, Appended, BLOCK_BYTES_MAX, Block, BlockHeader, BlockKind, Durability,
};

impl TopicsMachine {
    pub(super) fn append(
        &mut self,
        append: Append,
        now: &Now,
        state: StateReader<'_>,
        unit: &mut Unit,
    ) -> Result<Reply, JournalError> {
        let reply = append.reply;
        let block = append.block;
        let stage = block.trace().map_or_else(Span::none, |trace| {
            tracing::debug_span!("commit", trace_id = trace.trace_id(), topic = append.topic.0)
        });
        let result = match self.refusal(&append.topic, &block, now) {
            Some(refusal) => Err(refusal),
            None => {
                // An unreadable state costs its own topic's producers only.
                let remembers = !block.fingerprints().is_empty() || block.named().is_some();
                match if remembers { self.warm(append.topic, state) } else { Ok(()) } {
                    Err(error) => Err(error.into()),
                    Ok(()) => {
                        let Some(topic) = self.catalogue.get_mut(append.topic) else {
                            return Ok(Reply::Appended(
                                reply,
                                Err(AppendError::TopicDeleted),
                                stage,
                            ));
                        };
                        faults::pass(Seam::MachineAppending);
                        let in_turn = append.incarnation >= topic.incarnation
                            && append.lane.is_none_or(|position| position.take());
                        if in_turn {
                            let before = topic.fold.bytes();
                            let appended = topic.append(block, now, unit);
                            let grown = topic.fold.bytes().saturating_sub(before);
                            self.memory.grown(grown);
                            Ok(appended)
                        } else {
                            Err(AppendError::OutOfTurn)
                        }
                    }
                }
            }
        };
        Ok(Reply::Appended(reply, result, stage))
    }

    fn refusal(
        &self,
        topic: &crate::model::TopicId,
        block: &Block,
        now: &Now,
    ) -> Option<AppendError> {
        if let Some(full) = now.full {
            return Some(full.into());
        }
        let bytes = block.body().len();
        match self.catalogue.get(*topic) {
            None => Some(AppendError::TopicDeleted),
            Some(topic) if topic.is_quarantined() => Some(AppendError::Quarantined),
            Some(topic) if !topic.is_sent_by_holder(block) => Some(AppendError::Fenced),
            Some(_) if bytes > BLOCK_BYTES_MAX && block.count() > 1 => {
                Some(AppendError::TooLarge { bytes, max: BLOCK_BYTES_MAX })
            }
            Some(_) => None,
        }
    }
}

impl Topic {
    /// The block has no producer's name, or comes from the socket that has the name.
    fn is_sent_by_holder(&self, block: &Block) -> bool {
        block.named().is_none_or(|run| self.claims.holds(&run.name, run.claim))
    }

    /// Numbers the new messages of a block and appends it.
    fn append(&mut self, block: Block, now: &Now, unit: &mut Unit) -> Appended {
        let Deduplicated { block, extras, not_stored } = deduplicate(&self.fold, block, now.age_ms);
        let core = &self.fold.core;
        let base_offset = core.head;
        let count = block.as_ref().map_or(0, Block::count);
        if count > 0 || extras.is_some() {
            let header = BlockHeader {
                kind: if count > 0 { BlockKind::Data } else { BlockKind::Outcome },
                epoch: self.record.epoch,
                number: 0,
                base_offset,
                count,
                ingest_base: core.ingest_head,
                ingest_count: count,
                published_at: now.time.max(core.last_time),
                age_ms: now.age_ms,
                extras,
            };
            self.fold.absorb(Side::Outgoing, &header);
            let stream = self.record.id.outgoing();
            match block {
                Some(block) => unit.append(stream, header, block, true),
                None => unit.append_header(stream, header),
            }
        }
        self.secure(unit);
        let durability = Durability::of(&self.record.settings);
        Appended { base_offset, durability, not_stored }
    }

    /// Asks for the durability that the topic's messages are promised, offsets included.
    fn secure(&mut self, unit: &mut Unit) {
        let settings = self.record.settings;
        // Only durably reserved offsets may be used without a sync.
        if settings.ack_level == AckLevel::Sync || self.reserve(unit) {
            unit.need(SyncNeed::Now);
        } else {
            unit.need(SyncNeed::Within(Duration::from_millis(settings.sync_interval_ms)));
        }
    }
}
