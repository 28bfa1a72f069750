//! What was sent, what was acknowledged, what was found: and whether that fits together.
//!
//! Every message is sent once only, so nothing may be stored twice. A message that was sent and
//! not acknowledged may be there or not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A producer's number, and the message's number with it.
pub type Id = (u64, u64);

/// The payload of a message: says who sent it and proves that nothing changed it.
pub fn payload((producer, number): Id) -> Value {
    let mut state = (producer << 32) ^ number ^ 0x9e37_79b9_7f4a_7c15;
    let filling: String = (0..number % 200)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + (state >> 60) as u8)
        })
        .collect();
    json!({ "producer": producer, "number": number, "filling": filling })
}

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Acknowledged and not there, or not where the acknowledgement said.
    LostAcknowledged { id: Id, offset: u64 },
    /// There and never sent, or not as it was sent.
    PhantomOrAltered { offset: u64 },
    /// One offset, twice.
    DuplicateOffset { offset: u64 },
    /// Sent once, stored twice.
    StoredTwice { id: Id },
    /// Offsets that are not consecutive, and no gap was announced.
    UnannouncedGap { after: u64, next: u64 },
    /// A producer's messages in another order than sent.
    Reordered { id: Id, after: u64 },
}

/// One topic's history.
#[derive(Clone, Debug, Default)]
pub struct History {
    sent: BTreeSet<Id>,
    acknowledged: BTreeMap<Id, u64>,
    found: Vec<Value>,
}

impl History {
    pub fn sent(&mut self, id: Id) {
        self.sent.insert(id);
    }

    pub fn acknowledged(&mut self, id: Id, offset: u64) {
        self.acknowledged.insert(id, offset);
    }

    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// All that one reader was given, in its order.
    pub fn found(&mut self, messages: Vec<Value>) {
        self.found = messages;
    }

    pub fn merge(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.acknowledged.extend(other.acknowledged);
    }

    /// Everything that must never happen and did.
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut at_offset: BTreeMap<u64, Option<Id>> = BTreeMap::new();
        let mut stored = BTreeSet::new();
        let mut last_of: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last_offset = None;
        for message in &self.found {
            let offset = message["offset"].as_u64().unwrap_or(u64::MAX);
            let id = self.genuine(&message["data"]);
            if at_offset.insert(offset, id).is_some() {
                violations.push(Violation::DuplicateOffset { offset });
            } else if let Some(after) = last_offset.filter(|last| last + 1 != offset) {
                violations.push(Violation::UnannouncedGap { after, next: offset });
            }
            last_offset = Some(offset);
            let Some(id) = id else {
                violations.push(Violation::PhantomOrAltered { offset });
                continue;
            };
            if !stored.insert(id) {
                violations.push(Violation::StoredTwice { id });
            } else if let Some(after) = last_of.insert(id.0, id.1).filter(|last| *last > id.1) {
                violations.push(Violation::Reordered { id, after });
            }
        }
        for (id, offset) in &self.acknowledged {
            if at_offset.get(offset).copied().flatten() != Some(*id) {
                violations.push(Violation::LostAcknowledged { id: *id, offset: *offset });
            }
        }
        violations
    }

    /// Who sent this payload; `None` if nobody sent exactly this.
    fn genuine(&self, data: &Value) -> Option<Id> {
        let id = (data["producer"].as_u64()?, data["number"].as_u64()?);
        (self.sent.contains(&id) && *data == payload(id)).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> History {
        let mut history = History::default();
        let mut found = Vec::new();
        for (offset, id) in [(1, 1), (2, 1), (1, 2), (2, 2)].into_iter().enumerate() {
            history.sent(id);
            history.acknowledged(id, offset as u64);
            found.push(json!({ "offset": offset, "data": payload(id) }));
        }
        history.sent((1, 3));
        history.found(found);
        history
    }

    fn with(plant: impl FnOnce(&mut History)) -> Vec<Violation> {
        let mut history = good();
        plant(&mut history);
        history.violations()
    }

    #[test]
    fn a_good_history_has_no_violations() {
        assert_eq!(good().violations(), []);
    }

    #[test]
    fn a_lost_acknowledged_message_is_noticed() {
        let lost = with(|h| drop(h.found.pop()));
        assert_eq!(lost, [Violation::LostAcknowledged { id: (2, 2), offset: 3 }]);
    }

    #[test]
    fn an_acknowledgement_with_another_offset_is_noticed() {
        let moved = with(|h| h.acknowledged((2, 2), 7));
        assert_eq!(moved, [Violation::LostAcknowledged { id: (2, 2), offset: 7 }]);
    }

    #[test]
    fn phantoms_and_altered_messages_are_noticed() {
        let phantom = with(|h| h.found.push(json!({ "offset": 4, "data": payload((9, 9)) })));
        assert_eq!(phantom, [Violation::PhantomOrAltered { offset: 4 }]);
        let altered = with(|h| h.found[1]["data"]["filling"] = json!("zzz"));
        assert!(altered.contains(&Violation::PhantomOrAltered { offset: 1 }));
    }

    #[test]
    fn one_offset_twice_is_noticed() {
        let twice = with(|h| {
            let data = payload((1, 3));
            h.found.push(json!({ "offset": 3, "data": data }));
        });
        assert!(twice.contains(&Violation::DuplicateOffset { offset: 3 }), "{twice:?}");
    }

    #[test]
    fn a_message_stored_twice_is_noticed() {
        let twice = with(|h| h.found.push(json!({ "offset": 4, "data": payload((1, 1)) })));
        assert_eq!(twice, [Violation::StoredTwice { id: (1, 1) }]);
    }

    #[test]
    fn a_gap_nobody_announced_is_noticed() {
        let gap = with(|h| h.found.push(json!({ "offset": 6, "data": payload((1, 3)) })));
        assert_eq!(gap, [Violation::UnannouncedGap { after: 3, next: 6 }]);
    }

    #[test]
    fn a_producers_messages_in_another_order_are_noticed() {
        let reordered = with(|h| {
            h.acknowledged.clear();
            h.found[0]["data"] = payload((1, 3));
        });
        assert_eq!(reordered, [Violation::Reordered { id: (1, 2), after: 3 }]);
    }
}
