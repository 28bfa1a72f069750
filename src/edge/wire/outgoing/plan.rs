//! What a page will hold, before any of it is written: forms that name the next position at their
//! beginning, or the number of messages, are planned first and then written piece by piece.

use std::sync::Arc;

use super::ReadBudget;
use crate::model::{Gap, JournalAge, RecordError};
use crate::patterns::publish_subscribe::{Found, walk};
use crate::queue::ReadBlock;

/// See the module.
#[derive(Debug, Default)]
pub struct Plan {
    /// How many messages.
    pub messages: u64,
    /// The gaps before, between and behind them, in order.
    pub gaps: Vec<Gap>,
    /// The offset after the last of all that; `None` if there was nothing.
    pub next: Option<u64>,
    /// The budget allows no more.
    pub last: bool,
}

/// Counts the messages from offset `from` on, until the budget is spent.
///
/// # Errors
/// [`RecordError::Malformed`] when a block's bytes are not records.
pub fn plan(
    budget: &mut ReadBudget,
    blocks: &[Arc<ReadBlock>],
    from: u64,
    until: u64,
    now: JournalAge,
) -> Result<Plan, RecordError> {
    let mut plan = Plan::default();
    for found in walk(blocks, from, now)? {
        let (block, offsets) = match found {
            Found::Messages(block, offsets) => (block, offsets.start..offsets.end.min(until)),
            Found::Gap(gap) => {
                plan.gaps.push(gap);
                plan.next = Some(gap.end());
                continue;
            }
        };
        let (count, bytes) = (offsets.end.saturating_sub(offsets.start), block.body.len() as u64);
        if count == u64::from(block.count) && count <= budget.messages && bytes <= budget.bytes {
            plan.add(budget, offsets.end, count, bytes);
            continue;
        }
        let mut records = block.records_from(offsets.start);
        while let Some((offset, bytes)) = records.pass_over().transpose()? {
            if offset >= offsets.end {
                break;
            }
            let bytes = bytes as u64;
            if budget.messages == 0 || (bytes > budget.bytes && !budget.untouched) {
                plan.last = true;
                return Ok(plan);
            }
            plan.add(budget, offset + 1, 1, bytes);
        }
    }
    plan.last = budget.messages == 0 || budget.bytes == 0;
    Ok(plan)
}

impl Plan {
    fn add(&mut self, budget: &mut ReadBudget, next: u64, messages: u64, bytes: u64) {
        self.messages += messages;
        self.next = Some(next);
        budget.spend(messages, bytes);
    }
}
