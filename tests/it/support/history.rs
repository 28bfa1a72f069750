//! What was sent, what was acknowledged, what was found: and whether that fits together.
//!
//! A history lives through any number of crashes of one topic. It remembers every offset that
//! anybody was ever told of, by an acknowledgement or by a read, and holds each new [`Reading`] of
//! the whole topic against that. A message that was sent and not acknowledged may be there or not;
//! nothing may be there twice, however often it was sent.
//!
//! Where a topic may lose (level `os`, and the power was cut), it may lose a suffix of what it
//! had, no older than its bound, and only if it says so: an announced gap, in a new epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

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
    /// Said to be stored, without an offset, and nowhere.
    LostConfirmed { id: Id },
    /// Acknowledged at an offset that had been announced as lost before.
    AcknowledgedInGap { id: Id, offset: u64 },
    /// There and never sent, or not as it was sent.
    PhantomOrAltered { offset: u64 },
    /// One offset, twice.
    DuplicateOffset { offset: u64 },
    /// An offset that stood for one message before stands for another one.
    OffsetReused { offset: u64, was: Id, is: Id },
    /// Given to a reader before, gone now, and no gap says so.
    ReadThenGone { id: Id, offset: u64 },
    /// Stored twice.
    StoredTwice { id: Id },
    /// Two messages with one `message_id`.
    DuplicateMessageId { first: u64, offset: u64 },
    /// Offsets that are not consecutive, and no gap was announced.
    UnannouncedGap { after: u64, next: u64 },
    /// A gap where nothing may be lost.
    UnexpectedGap { from: u64, to: u64 },
    /// A gap of which polling told nothing when it passed it.
    GapNotPolled { from: u64, to: u64 },
    /// A gap and a message in it.
    MessageInGap { offset: u64 },
    /// What was lost came before what was kept.
    LossNotSuffix { from: u64, kept: u64 },
    /// Lost, and older than anything that may be lost.
    LossBeyondBound { id: Id, offset: u64, age_ms: u64 },
    /// Something was lost in the epoch that goes on.
    EpochNotRaised { epoch: u64 },
    /// A producer's messages in another order than sent.
    Reordered { id: Id, after: u64 },
    /// Messages were trimmed where all are kept, or come back.
    WronglyTrimmed { before: u64, first: u64 },
    /// `published_at` before that of the message before.
    TimeRanBack { offset: u64 },
}

/// An announced hole; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    pub to: u64,
}

impl Gap {
    fn holds(self, offset: u64) -> bool {
        self.from <= offset && offset <= self.to
    }
}

/// One message as a reader was given it.
#[derive(Clone, Debug)]
pub struct Found {
    offset: u64,
    /// Who sent it; `None` if nobody can have sent exactly this.
    id: Option<Id>,
    message_id: Option<String>,
    published_at: Option<String>,
}

impl From<&Value> for Found {
    fn from(message: &Value) -> Self {
        let data = &message["data"];
        let id = data["producer"].as_u64().zip(data["number"].as_u64());
        Self {
            offset: message["offset"].as_u64().unwrap_or(u64::MAX),
            id: id.filter(|id| *data == payload(*id)),
            message_id: message["message_id"].as_str().map(str::to_owned),
            published_at: message["published_at"].as_str().map(str::to_owned),
        }
    }
}

/// All that one reader was given of a topic, from its first message on, in the reader's order.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub epoch: u64,
    /// The first offset that is kept.
    pub first: u64,
    /// The next offset, where the reader asked for it.
    pub head: Option<u64>,
    /// The gaps that the topic announces.
    pub gaps: Vec<Gap>,
    /// The gaps that were shown while reading.
    pub polled_gaps: Vec<Gap>,
    pub messages: Vec<Found>,
}

/// What may be lost by the time of the next reading.
#[derive(Clone, Copy, Debug)]
struct Loss {
    at: Instant,
    /// `None` where nothing acknowledged may be lost.
    bound: Option<Duration>,
}

/// A message that somebody was told of.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: Id,
    since: Instant,
    acknowledged: bool,
}

/// One topic's history.
#[derive(Clone, Debug, Default)]
pub struct History {
    sent: BTreeSet<Id>,
    known: BTreeMap<u64, Known>,
    confirmed: BTreeSet<Id>,
    /// What acknowledgements alone have shown to be wrong.
    contradictions: Vec<Violation>,
    /// Announced in readings before this one.
    gaps: Vec<Gap>,
    epoch: u64,
    loss: Option<Loss>,
    /// Old messages are trimmed.
    retention: bool,
    /// The first offset that was kept in readings before this one.
    first: u64,
    reading: Reading,
}

impl History {
    /// Of a topic that keeps only so much: what lies below its first offset is gone by right.
    pub fn with_retention() -> Self {
        Self { retention: true, ..Self::default() }
    }

    pub fn sent(&mut self, id: Id) {
        self.sent.insert(id);
    }

    pub fn acknowledged(&mut self, id: Id, offset: u64) {
        self.acknowledged_at(id, offset, Instant::now());
    }

    /// The acknowledgement came at this moment; a repeated one counts from the first on.
    pub fn acknowledged_at(&mut self, id: Id, offset: u64, since: Instant) {
        if self.reading.gaps.iter().any(|gap| gap.holds(offset)) {
            self.contradictions.push(Violation::AcknowledgedInGap { id, offset });
        }
        let known = self.known.entry(offset).or_insert(Known { id, since, acknowledged: true });
        if known.id != id {
            let (was, is) = (known.id, id);
            self.contradictions.push(Violation::OffsetReused { offset, was, is });
        }
        known.acknowledged = true;
        known.since = known.since.min(since);
    }

    /// Said to be stored, but not where.
    pub fn confirmed(&mut self, id: Id) {
        self.confirmed.insert(id);
    }

    pub fn acknowledged_count(&self) -> usize {
        self.known.values().filter(|known| known.acknowledged).count()
    }

    /// The power was cut at this moment. `bound`: how old what is lost may be at most; `None`
    /// where nothing acknowledged may be lost. The next reading is held against it.
    pub fn power_cut(&mut self, at: Instant, bound: Option<Duration>) {
        // Cut again before anything was read: what is lost has been so since the first time.
        self.loss.get_or_insert(Loss { at, bound });
    }

    /// All that one reader was given, in its order, where nothing may ever be lost.
    pub fn found(&mut self, messages: Vec<Value>) {
        let messages = messages.iter().map(Found::from).collect();
        self.read(Reading { messages, ..Reading::default() }, Instant::now());
    }

    /// The whole topic was read, and nothing was published between the last start and this.
    pub fn read(&mut self, reading: Reading, at: Instant) {
        let before = std::mem::replace(&mut self.reading, reading);
        self.gaps = before.gaps;
        self.epoch = self.epoch.max(before.epoch);
        self.first = self.first.max(before.first);
        for found in before.messages {
            let Some(id) = found.id else { continue };
            let known = Known { id, since: at, acknowledged: false };
            self.known.entry(found.offset).or_insert(known);
        }
    }

    /// What was read has been judged: what may be lost from here on is nothing.
    pub fn settle(&mut self) {
        self.loss = None;
        self.confirmed.clear();
    }

    pub fn merge(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.confirmed.extend(other.confirmed);
        self.contradictions.extend(other.contradictions);
        for (offset, known) in other.known {
            self.acknowledged_at(known.id, offset, known.since);
        }
    }

    /// Messages that retention took, by the last reading.
    pub fn trimmed_count(&self) -> u64 {
        self.reading.first
    }

    /// Acknowledged messages that the last reading did not have, allowed or not.
    pub fn lost_count(&self) -> usize {
        let found: BTreeSet<u64> = self.reading.messages.iter().map(|m| m.offset).collect();
        let kept = self.known.range(self.reading.first..);
        kept.filter(|(offset, known)| known.acknowledged && !found.contains(offset)).count()
    }

    /// Everything that must never happen and did.
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = self.contradictions.clone();
        let (before, first) = (self.first, self.reading.first);
        // A trimming that the power cut undid is done again.
        if (first < before && self.loss.is_none()) || (first > before && !self.retention) {
            violations.push(Violation::WronglyTrimmed { before, first });
        }
        let found = self.check_messages(&mut violations);
        self.check_gaps(&found, &mut violations);
        self.check_known(&found, &mut violations);
        violations
    }

    /// Holds the reading against itself and what was sent; gives what stands where.
    fn check_messages(&self, violations: &mut Vec<Violation>) -> BTreeMap<u64, Option<Id>> {
        let mut at_offset: BTreeMap<u64, Option<Id>> = BTreeMap::new();
        let mut stored = BTreeSet::new();
        let mut message_ids: BTreeMap<&str, u64> = BTreeMap::new();
        let mut last_of: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last: Option<&Found> = None;
        for message in &self.reading.messages {
            let offset = message.offset;
            let id = message.id.filter(|id| self.sent.contains(id));
            if at_offset.insert(offset, id).is_some() {
                violations.push(Violation::DuplicateOffset { offset });
            } else if let Some(last) = last {
                self.check_step(last.offset, offset, violations);
            }
            if last.is_some_and(|last| last.published_at > message.published_at) {
                violations.push(Violation::TimeRanBack { offset });
            }
            last = Some(message);
            let Some(id) = id else {
                violations.push(Violation::PhantomOrAltered { offset });
                continue;
            };
            let named = message.message_id.as_deref();
            if let Some(first) = named.and_then(|named| message_ids.insert(named, offset)) {
                violations.push(Violation::DuplicateMessageId { first, offset });
            } else if !stored.insert(id) {
                violations.push(Violation::StoredTwice { id });
            } else if let Some(after) = last_of.insert(id.0, id.1).filter(|last| *last > id.1) {
                violations.push(Violation::Reordered { id, after });
            }
        }
        if let (Some(last), Some(head)) = (last, self.reading.head) {
            self.check_step(last.offset, head, violations);
        }
        let unfounded = self.confirmed.iter().filter(|id| !stored.contains(*id));
        // Where something may be gone, what has no offset can't be told from that.
        if !self.retention && self.loss.is_none_or(|loss| loss.bound.is_none()) {
            violations.extend(unfounded.map(|id| Violation::LostConfirmed { id: *id }));
        }
        at_offset
    }

    /// Between two offsets that follow one another there is nothing but announced gaps.
    fn check_step(&self, after: u64, next: u64, violations: &mut Vec<Violation>) {
        let mut expected = after + 1;
        for &Gap { from, to } in self.reading.gaps.iter().filter(|gap| gap.to < next) {
            if (from..=to).contains(&expected) {
                if !self.reading.polled_gaps.iter().any(|told| told.holds(expected)) {
                    violations.push(Violation::GapNotPolled { from, to });
                }
                expected = to + 1;
            }
        }
        if expected != next {
            violations.push(Violation::UnannouncedGap { after, next });
        }
    }

    /// Holds gaps that are new against what may be lost.
    fn check_gaps(&self, found: &BTreeMap<u64, Option<Id>>, violations: &mut Vec<Violation>) {
        for gap in &self.reading.gaps {
            if let Some((offset, _)) = found.range(gap.from..=gap.to).next() {
                violations.push(Violation::MessageInGap { offset: *offset });
            }
            if self.gaps.iter().any(|old| old.holds(gap.from) && old.holds(gap.to)) {
                continue;
            }
            let Some(loss) = self.loss else {
                violations.push(Violation::UnexpectedGap { from: gap.from, to: gap.to });
                continue;
            };
            if let Some((kept, _)) = found.range(gap.to + 1..).next() {
                violations.push(Violation::LossNotSuffix { from: gap.from, kept: *kept });
            }
            if self.reading.epoch <= self.epoch {
                violations.push(Violation::EpochNotRaised { epoch: self.reading.epoch });
            }
            for (&offset, &Known { id, since, acknowledged }) in self.known.range(gap.from..=gap.to)
            {
                if self.gaps.iter().any(|old| old.holds(offset)) {
                    continue;
                }
                let age = loss.at.saturating_duration_since(since);
                match loss.bound {
                    None if acknowledged => {
                        violations.push(Violation::LostAcknowledged { id, offset });
                    }
                    None => violations.push(Violation::ReadThenGone { id, offset }),
                    Some(bound) if age > bound => {
                        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                        violations.push(Violation::LossBeyondBound { id, offset, age_ms });
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Holds the reading against all that anybody was told before.
    fn check_known(&self, found: &BTreeMap<u64, Option<Id>>, violations: &mut Vec<Violation>) {
        for (&offset, &Known { id, acknowledged, .. }) in self.known.range(self.reading.first..) {
            match found.get(&offset).copied() {
                Some(Some(is)) if is != id => {
                    violations.push(Violation::OffsetReused { offset, was: id, is });
                }
                Some(Some(_)) => {}
                None if self.reading.gaps.iter().any(|gap| gap.holds(offset)) => {}
                None if !acknowledged => violations.push(Violation::ReadThenGone { id, offset }),
                // Something unreadable stands there: that was said already, unless it is promised.
                Some(None) if !acknowledged => {}
                _ => violations.push(Violation::LostAcknowledged { id, offset }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(offset: u64, id: Id) -> Value {
        json!({ "offset": offset, "data": payload(id) })
    }

    fn good_messages() -> Vec<Value> {
        let ids = [(1, 1), (2, 1), (1, 2), (2, 2)];
        (0..).zip(ids).map(|(offset, id)| message(offset, id)).collect()
    }

    fn good() -> History {
        let mut history = History::default();
        for (offset, id) in (0..).zip([(1, 1), (2, 1), (1, 2), (2, 2)]) {
            history.sent(id);
            history.acknowledged(id, offset);
        }
        for number in [3, 4, 5] {
            history.sent((1, number));
        }
        history.found(good_messages());
        history
    }

    /// Plants something in what is found.
    fn found(plant: impl FnOnce(&mut Vec<Value>)) -> Vec<Violation> {
        let mut history = good();
        let mut messages = good_messages();
        plant(&mut messages);
        history.found(messages);
        history.violations()
    }

    fn reading(messages: &[Value], epoch: u64, gaps: &[(u64, u64)], head: u64) -> Reading {
        let gaps: Vec<_> = gaps.iter().map(|&(from, to)| Gap { from, to }).collect();
        let messages = messages.iter().map(Found::from).collect();
        Reading { epoch, first: 0, head: Some(head), polled_gaps: gaps.clone(), gaps, messages }
    }

    /// A topic at level `os` whose last two messages were acknowledged just before the power was
    /// cut, and whose first two were acknowledged ten seconds before.
    fn cut(plant: impl FnOnce(&mut Reading)) -> (History, Instant) {
        let start = Instant::now();
        let cut = start + Duration::from_secs(10);
        let mut history = History::default();
        for (offset, id) in (0..).zip([(1, 1), (2, 1), (1, 2), (2, 2)]) {
            history.sent(id);
            history.acknowledged_at(id, offset, if offset < 2 { start } else { cut });
        }
        history.sent((1, 3));
        history.read(reading(&[], 1, &[], 0), start);
        history.power_cut(cut, Some(Duration::from_secs(1)));
        let mut after = reading(&good_messages()[..2], 2, &[(2, 9)], 10);
        plant(&mut after);
        history.read(after, cut);
        (history, cut)
    }

    fn after_cut(plant: impl FnOnce(&mut Reading)) -> Vec<Violation> {
        cut(plant).0.violations()
    }

    #[test]
    fn a_good_history_has_no_violations() {
        assert_eq!(good().violations(), []);
        assert_eq!(good().lost_count(), 0);
    }

    #[test]
    fn a_lost_acknowledged_message_is_noticed() {
        let lost = found(|messages| drop(messages.pop()));
        assert_eq!(lost, [Violation::LostAcknowledged { id: (2, 2), offset: 3 }]);
    }

    #[test]
    fn an_acknowledgement_with_another_offset_is_noticed() {
        let mut history = good();
        history.acknowledged((2, 2), 7);
        let moved = history.violations();
        assert_eq!(moved, [Violation::LostAcknowledged { id: (2, 2), offset: 7 }]);
    }

    #[test]
    fn a_message_said_to_be_stored_that_is_nowhere_is_noticed() {
        let mut history = good();
        history.confirmed((1, 2));
        assert_eq!(history.violations(), []);
        history.confirmed((1, 3));
        assert_eq!(history.violations(), [Violation::LostConfirmed { id: (1, 3) }]);
    }

    #[test]
    fn phantoms_and_altered_messages_are_noticed() {
        let phantom = found(|messages| messages.push(message(4, (9, 9))));
        assert_eq!(phantom, [Violation::PhantomOrAltered { offset: 4 }]);
        let altered = found(|messages| messages[1]["data"]["filling"] = json!("zzz"));
        assert!(altered.contains(&Violation::PhantomOrAltered { offset: 1 }));
    }

    #[test]
    fn one_offset_twice_is_noticed() {
        let twice = found(|messages| messages.push(message(3, (1, 3))));
        assert!(twice.contains(&Violation::DuplicateOffset { offset: 3 }), "{twice:?}");
    }

    #[test]
    fn a_message_stored_twice_is_noticed() {
        let twice = found(|messages| messages.push(message(4, (1, 1))));
        assert_eq!(twice, [Violation::StoredTwice { id: (1, 1) }]);
    }

    #[test]
    fn a_message_id_stored_twice_is_noticed() {
        let twice = found(|messages| {
            for (offset, number) in [(4, 3), (5, 4)] {
                let mut message = message(offset, (1, number));
                message["message_id"] = json!("m");
                messages.push(message);
            }
        });
        assert_eq!(twice, [Violation::DuplicateMessageId { first: 4, offset: 5 }]);
    }

    #[test]
    fn a_gap_nobody_announced_is_noticed() {
        let gap = found(|messages| messages.push(message(6, (1, 3))));
        assert_eq!(gap, [Violation::UnannouncedGap { after: 3, next: 6 }]);
        let mut history = good();
        history.read(reading(&good_messages(), 1, &[], 6), Instant::now());
        assert_eq!(history.violations(), [Violation::UnannouncedGap { after: 3, next: 6 }]);
    }

    #[test]
    fn a_producers_messages_in_another_order_are_noticed() {
        let reordered = found(|messages| {
            messages.push(message(4, (1, 4)));
            messages.push(message(5, (1, 3)));
        });
        assert_eq!(reordered, [Violation::Reordered { id: (1, 3), after: 4 }]);
    }

    #[test]
    fn time_that_runs_back_is_noticed() {
        let back = found(|messages| {
            for (message, second) in messages.iter_mut().zip([1, 2, 2, 1]) {
                message["published_at"] = json!(format!("2026-01-01T00:00:0{second}.000Z"));
            }
        });
        assert_eq!(back, [Violation::TimeRanBack { offset: 3 }]);
    }

    #[test]
    fn a_message_that_was_read_and_is_gone_is_noticed() {
        let mut history = good();
        let mut messages = good_messages();
        messages.push(message(4, (1, 3)));
        history.found(messages);
        assert_eq!(history.violations(), []);
        history.found(good_messages());
        assert_eq!(history.violations(), [Violation::ReadThenGone { id: (1, 3), offset: 4 }]);
    }

    #[test]
    fn an_announced_suffix_within_the_bound_may_be_lost_when_the_power_was_cut() {
        let (history, _) = cut(|_| {});
        assert_eq!(history.violations(), []);
        assert_eq!(history.lost_count(), 2);
    }

    #[test]
    fn a_gap_without_a_power_cut_is_noticed() {
        let mut history = good();
        history.read(reading(&good_messages(), 2, &[(4, 9)], 10), Instant::now());
        assert_eq!(history.violations(), [Violation::UnexpectedGap { from: 4, to: 9 }]);
    }

    #[test]
    fn a_gap_that_polling_hides_is_noticed() {
        let hidden = after_cut(|reading| reading.polled_gaps.clear());
        assert_eq!(hidden, [Violation::GapNotPolled { from: 2, to: 9 }]);
    }

    #[test]
    fn a_gap_that_is_forgotten_later_is_noticed() {
        let (mut history, cut) = cut(|_| {});
        history.settle();
        history.read(reading(&good_messages()[..2], 2, &[], 10), cut);
        let forgotten = Violation::UnannouncedGap { after: 1, next: 10 };
        assert!(history.violations().contains(&forgotten));
    }

    #[test]
    fn a_message_in_a_gap_is_noticed() {
        let inside = after_cut(|reading| reading.gaps[0].from = 1);
        assert!(inside.contains(&Violation::MessageInGap { offset: 1 }), "{inside:?}");
    }

    #[test]
    fn a_loss_that_is_no_suffix_is_noticed() {
        let hole = after_cut(|reading| {
            reading.gaps[0].to = 2;
            reading.polled_gaps[0].to = 2;
            reading.messages.push(Found::from(&message(3, (2, 2))));
            reading.head = Some(4);
        });
        assert_eq!(hole, [Violation::LossNotSuffix { from: 2, kept: 3 }]);
    }

    #[test]
    fn a_loss_older_than_the_bound_is_noticed() {
        let old = after_cut(|reading| {
            drop(reading.messages.pop());
            reading.gaps[0].from = 1;
            reading.polled_gaps[0].from = 1;
        });
        let id = (2, 1);
        assert_eq!(old, [Violation::LossBeyondBound { id, offset: 1, age_ms: 10_000 }]);
    }

    #[test]
    fn a_loss_at_level_sync_is_noticed_though_it_is_announced() {
        let (mut history, cut) = cut(|_| {});
        history.settle();
        history.power_cut(cut, None);
        let lost = |id, offset| Violation::LostAcknowledged { id, offset };
        assert_eq!(history.violations(), [lost((1, 2), 2), lost((2, 2), 3)]);
    }

    #[test]
    fn a_loss_within_an_epoch_is_noticed() {
        let same = after_cut(|reading| reading.epoch = 1);
        assert_eq!(same, [Violation::EpochNotRaised { epoch: 1 }]);
    }

    #[test]
    fn what_is_trimmed_without_retention_or_comes_back_is_noticed() {
        let trimmed = |first: u64| {
            let messages = &good_messages()[first as usize..];
            Reading { first, ..reading(messages, 1, &[], 4) }
        };
        let mut history = good();
        history.read(trimmed(1), Instant::now());
        assert_eq!(history.violations(), [Violation::WronglyTrimmed { before: 0, first: 1 }]);
        let mut history = History::with_retention();
        history.merge(good());
        history.read(trimmed(1), Instant::now());
        assert_eq!(history.violations(), []);
        assert_eq!(history.trimmed_count(), 1);
        history.read(trimmed(0), Instant::now());
        assert_eq!(history.violations(), [Violation::WronglyTrimmed { before: 1, first: 0 }]);
    }

    #[test]
    fn an_offset_that_is_used_again_is_noticed() {
        let reused = after_cut(|reading| {
            reading.gaps.clear();
            reading.messages.push(Found::from(&message(2, (1, 3))));
            reading.messages.push(Found::from(&message(3, (2, 2))));
            reading.head = Some(4);
        });
        assert_eq!(reused, [Violation::OffsetReused { offset: 2, was: (1, 2), is: (1, 3) }]);
        let mut history = good();
        history.acknowledged((1, 3), 2);
        assert!(history.violations().contains(&Violation::OffsetReused {
            offset: 2,
            was: (1, 2),
            is: (1, 3)
        }));
    }

    #[test]
    fn an_acknowledgement_for_what_was_announced_as_lost_is_noticed() {
        let (mut history, cut) = cut(|_| {});
        history.acknowledged_at((1, 2), 2, cut + Duration::from_secs(1));
        let again = Violation::AcknowledgedInGap { id: (1, 2), offset: 2 };
        assert_eq!(history.violations(), [again]);
    }
}
