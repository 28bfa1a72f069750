//! How a producer socket's messages are answered: each, by range, or not at all.

use std::cell::LazyCell;

use serde::Serialize;

use crate::edge::error::Problem;
use crate::edge::wire::{Encoding, Frame, Mark, ReceiptToken};
use crate::model::{Appended, NotStored, Outcome, Receipt, ReceiptKey, TopicId};

/// `?acks=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::ws) enum Acks {
    /// Every message by its id, with its receipt.
    Each,
    /// Runs of consecutive integer ids.
    Range,
    /// Nothing but errors.
    None,
}

/// The ids of a block's messages, in order; none for a one-way message.
#[derive(Debug, Default)]
pub(super) struct Marks(Vec<Option<Mark>>);

impl Marks {
    pub(super) fn push(&mut self, id: Option<Mark>) {
        self.0.push(id);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the first ones off.
    pub(super) fn take(&mut self, count: usize) -> Self {
        let after = self.0.split_off(count.min(self.0.len()));
        Self(std::mem::replace(&mut self.0, after))
    }

    /// Memory that the ids take.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().flatten().map(Mark::bytes).sum()
    }

    /// The indices of messages that need no answer.
    pub(super) fn one_way_places(&self) -> Vec<u32> {
        let places = (0u32..).zip(&self.0).filter(|(_, mark)| mark.is_none());
        places.map(|(place, _)| place).collect()
    }
}

#[derive(Serialize)]
struct AcksFrame<'a> {
    acks: Vec<Ack<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Ack<'a> {
    Stored { id: &'a Mark, receipt: Option<ReceiptToken>, offset: Option<u64>, duplicate: bool },
    Refused { id: &'a Mark, error: &'a Problem },
}

#[derive(Serialize)]
struct RangeFrame {
    acked: Run,
}

/// Ids, both ends included.
#[derive(Serialize)]
struct Run {
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    error: &'a Problem,
    frame: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

/// Answers in the form the client chose.
#[derive(Debug)]
pub(super) struct AckList {
    form: Acks,
    topic: TopicId,
    receipts: ReceiptKey,
    /// The encoding of the client's last frame, used for answers.
    pub(super) encoding: Encoding,
    /// With ranges: the id that must come next, once one has come.
    next_id: Option<u64>,
}

impl AckList {
    pub(super) fn new(form: Acks, topic: TopicId, receipts: ReceiptKey) -> Self {
        Self { form, topic, receipts, encoding: Encoding::Json, next_id: None }
    }

    /// Checks an id against what ranges promise: consecutive whole numbers.
    pub(super) fn check_id(&mut self, id: Option<&Mark>) -> Result<(), Problem> {
        let (Acks::Range, Some(id)) = (self.form, id) else { return Ok(()) };
        let number = id.number().ok_or_else(|| {
            Problem::invalid("id", "with acks=range ids are consecutive whole numbers")
        })?;
        if let Some(expected) = self.next_id.filter(|expected| *expected != number) {
            let why = format!("with acks=range the next id is {expected}, not {number}");
            return Err(Problem::invalid("id", why));
        }
        self.next_id = Some(number.saturating_add(1));
        Ok(())
    }

    /// Input whose id, if it has one, can't be known: any id may be the next.
    pub(super) fn lost_count(&mut self) {
        self.next_id = None;
    }

    /// The frames for a stored block; none if no message asks for one.
    pub(super) fn stored(&self, marks: &Marks, appended: &Appended) -> Vec<Frame> {
        let conflict = LazyCell::new(Problem::message_id_conflict);
        let answered = marks.0.iter().zip(appended.outcomes());
        let answered: Vec<(&Mark, Outcome)> =
            answered.filter_map(|(mark, outcome)| Some((mark.as_ref()?, outcome))).collect();
        if self.form == Acks::Each {
            let ack = |(id, outcome)| {
                let (offset, duplicate) = match outcome {
                    Outcome::Stored(offset) => (Some(offset), false),
                    Outcome::Not(NotStored::Duplicate(offset)) => (offset, true),
                    Outcome::Not(NotStored::Conflict) => {
                        return Ack::Refused { id, error: &conflict };
                    }
                };
                Ack::Stored { id, receipt: offset.map(|at| self.receipt(at)), offset, duplicate }
            };
            return self.acks(answered.into_iter().map(ack).collect()).into_iter().collect();
        }
        let conflicting = answered.iter().filter(|(_, o)| *o == Outcome::Not(NotStored::Conflict));
        let errors = conflicting.map(|(id, _)| Ack::Refused { id, error: &conflict });
        let errors = self.acks(errors.collect());
        let mut frames = Vec::new();
        if self.form == Acks::Range {
            let taken = answered.iter().filter(|(_, o)| *o != Outcome::Not(NotStored::Conflict));
            let runs = runs(taken.filter_map(|(id, _)| id.number()));
            frames.extend(runs.into_iter().map(|acked| self.encoding.frame(&RangeFrame { acked })));
        }
        frames.extend(errors);
        frames
    }

    fn receipt(&self, offset: u64) -> ReceiptToken {
        ReceiptToken(self.receipts.seal(Receipt { topic: self.topic, sequence: offset }))
    }

    fn acks(&self, acks: Vec<Ack<'_>>) -> Option<Frame> {
        (!acks.is_empty()).then(|| self.encoding.frame(&AcksFrame { acks }))
    }

    /// The frame for messages that will not be stored; `None` where none of them has an id.
    pub(super) fn refused(&self, marks: &Marks, error: &Problem) -> Option<Frame> {
        self.acks(marks.0.iter().flatten().map(|id| Ack::Refused { id, error }).collect())
    }

    /// The frame for one invalid message.
    pub(super) fn message_error(&self, id: &Mark, error: &Problem) -> Frame {
        self.encoding.frame(&AcksFrame { acks: vec![Ack::Refused { id, error }] })
    }

    /// The frame for unreadable input, in the given encoding, at an index of its array.
    pub(super) fn frame_error(&self, error: &Problem, frame: u64, index: Option<usize>) -> Frame {
        self.encoding.frame(&ErrorFrame { error, frame, index })
    }
}

/// Consecutive ids together: a refused message in between is in no run.
fn runs(ids: impl Iterator<Item = u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some(run) if run.to.checked_add(1) == Some(id) => run.to = id,
            _ => runs.push(Run { from: id, to: id }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AckLevel, Durability};

    /// Marks of these numbers; 0 stands for none.
    fn marks(ids: &[u64]) -> Marks {
        Marks(ids.iter().map(|id| (*id > 0).then_some(Mark::Number(*id))).collect())
    }

    fn text(frame: &Frame) -> &str {
        match frame {
            Frame::Text(text) => text,
            Frame::Binary(_) => panic!("JSON was asked for"),
        }
    }

    fn list(form: Acks) -> AckList {
        AckList::new(form, TopicId(1), ReceiptKey::new([0; 16]))
    }

    fn at(base_offset: u64, not_stored: &[(u32, NotStored)]) -> Appended {
        let durability = Durability { ack_level: AckLevel::Sync, loss_bound_ms: 0 };
        Appended { base_offset, durability, not_stored: not_stored.into() }
    }

    #[test]
    fn what_was_not_stored_is_answered_one_by_one() {
        let ids = marks(&[1, 2, 3, 4]);
        let not_stored = [(0, NotStored::Duplicate(Some(3))), (2, NotStored::Conflict)];
        let frames = list(Acks::Each).stored(&ids, &at(7, &not_stored));
        let frame: serde_json::Value = serde_json::from_str(text(&frames[0])).unwrap();
        assert_eq!(
            (&frame["acks"][0]["offset"], &frame["acks"][0]["duplicate"]),
            (&3.into(), &true.into())
        );
        assert_eq!(frame["acks"][1]["offset"], 7);
        assert_eq!(frame["acks"][2]["error"]["code"], "message-id-conflict");
        assert_eq!(frame["acks"][3]["offset"], 8);
        let frames = list(Acks::Range).stored(&ids, &at(7, &not_stored));
        assert_eq!(
            frames[..2].iter().map(text).collect::<Vec<_>>(),
            [r#"{"acked":{"from":1,"to":2}}"#, r#"{"acked":{"from":4,"to":4}}"#]
        );
        assert!(text(&frames[2]).contains("message-id-conflict"));
        assert_eq!(list(Acks::None).stored(&ids, &at(7, &not_stored)).len(), 1);
    }

    #[test]
    fn each_message_with_an_id_is_answered_with_its_own_offset() {
        let frames = list(Acks::Each).stored(&marks(&[1, 0, 5]), &at(7, &[]));
        let frame: serde_json::Value = serde_json::from_str(text(&frames[0])).unwrap();
        assert_eq!(frame["acks"][0]["id"], 1);
        assert_eq!(frame["acks"][0]["offset"], 7);
        assert_eq!(frame["acks"][1]["id"], 5);
        assert_eq!(frame["acks"][1]["offset"], 9);
        assert!(list(Acks::Each).stored(&marks(&[0]), &at(7, &[])).is_empty());
    }

    #[test]
    fn ranges_take_consecutive_ids_and_answer_with_their_ends() {
        let mut list = list(Acks::Range);
        for id in [5, 6, 7] {
            list.check_id(Some(&Mark::Number(id))).unwrap();
        }
        assert!(list.check_id(Some(&Mark::Number(9))).is_err());
        assert!(list.check_id(Some(&Mark::Text("8".into()))).is_err());
        let frames = list.stored(&marks(&[5, 0, 6, 7]), &at(0, &[]));
        assert_eq!(frames, [Frame::Text(r#"{"acked":{"from":5,"to":7}}"#.into())]);
        list.lost_count();
        list.check_id(Some(&Mark::Number(20))).unwrap();
    }

    #[test]
    fn a_range_never_covers_an_id_that_was_refused() {
        let frames = list(Acks::Range).stored(&marks(&[1, 2, 4]), &at(0, &[]));
        let frames: Vec<_> = frames.iter().map(text).collect();
        assert_eq!(frames, [r#"{"acked":{"from":1,"to":2}}"#, r#"{"acked":{"from":4,"to":4}}"#]);
    }

    #[test]
    fn who_speaks_messagepack_is_answered_in_it() {
        let mut list = list(Acks::Range);
        list.encoding = Encoding::MessagePack;
        let frames = list.stored(&marks(&[1]), &at(0, &[]));
        let expected = crate::edge::wire::to_msgpack(&serde_json::json!({
            "acked": { "from": 1, "to": 1 }
        }));
        assert_eq!(frames, [Frame::Binary(expected)]);
    }
}
