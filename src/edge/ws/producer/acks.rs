//! How a producer socket's messages are answered: each, by range, or not at all.

use std::fmt::Write;

use crate::edge::error::Problem;
use crate::journal::{Appended, Exception, Outcome};
use crate::model::{Receipt, ReceiptKey, TopicId};

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
pub(super) struct Marks(Vec<Option<Box<str>>>);

impl Marks {
    pub(super) fn push(&mut self, id: Option<&str>) {
        self.0.push(id.map(Into::into));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the ids take up.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().flatten().map(|id| id.len()).sum()
    }
}

/// Answers in the form the client chose.
#[derive(Debug)]
pub(super) struct AckList {
    form: Acks,
    topic: TopicId,
    receipts: ReceiptKey,
    /// With ranges: the id that must come next, once one has come.
    next_id: Option<u64>,
}

impl AckList {
    pub(super) fn new(form: Acks, topic: TopicId, receipts: ReceiptKey) -> Self {
        Self { form, topic, receipts, next_id: None }
    }

    /// Checks an id against what ranges promise: consecutive whole numbers.
    pub(super) fn check_id(&mut self, id: Option<&str>) -> Result<(), Problem> {
        let (Acks::Range, Some(id)) = (self.form, id) else { return Ok(()) };
        let number: u64 = id.parse().map_err(|_| {
            Problem::invalid("id", "with acks=range ids are consecutive whole numbers")
        })?;
        if let Some(expected) = self.next_id.filter(|expected| *expected != number) {
            let why = format!("with acks=range the next id is {expected}, not {number}");
            return Err(Problem::invalid("id", why));
        }
        self.next_id = Some(number.saturating_add(1));
        Ok(())
    }

    /// Something came whose id, if it had one, can't be known: any id may be the next.
    pub(super) fn lost_count(&mut self) {
        self.next_id = None;
    }

    /// The frames for a block that was taken; none where nobody asked.
    pub(super) fn stored(&self, marks: &Marks, appended: &Appended) -> Vec<String> {
        if self.form == Acks::Each {
            return self.each(marks, appended).into_iter().collect();
        }
        let conflicts = || appended.exceptions.iter().filter(|(_, e)| *e == Exception::Conflict);
        let problem = Problem::message_id_conflict();
        let conflicting =
            conflicts().filter_map(|(place, _)| marks.0.get(*place as usize)?.as_ref());
        let errors = conflicting.map(|id| message_error(id, &problem)).collect();
        if self.form == Acks::None {
            return errors;
        }
        let mut taken = Marks(marks.0.clone());
        for (place, _) in conflicts() {
            if let Some(mark) = taken.0.get_mut(*place as usize) {
                *mark = None;
            }
        }
        [ranges(&taken), errors].concat()
    }

    fn each(&self, marks: &Marks, appended: &Appended) -> Option<String> {
        let mut out = String::with_capacity(16 + 112 * marks.len());
        for (id, outcome) in marks.0.iter().zip(appended.outcomes()) {
            let Some(id) = id else { continue };
            out.push_str(if out.is_empty() { r#"{"acks":["# } else { "," });
            let (offset, duplicate) = match outcome {
                Outcome::Stored(offset) => (Some(offset), false),
                Outcome::Not(Exception::Duplicate(offset)) => (offset, true),
                Outcome::Not(Exception::Conflict) => {
                    let error = Problem::message_id_conflict().to_json();
                    let _ = write!(out, r#"{{"id":{id},"error":{error}}}"#);
                    continue;
                }
            };
            // Writing to a String does not fail.
            let _ = match offset {
                Some(sequence) => {
                    let receipt = self.receipts.seal(Receipt { topic: self.topic, sequence });
                    write!(
                        out,
                        r#"{{"id":{id},"receipt":"{receipt}","offset":{sequence},"duplicate":{duplicate}}}"#
                    )
                }
                None => write!(
                    out,
                    r#"{{"id":{id},"receipt":null,"offset":null,"duplicate":{duplicate}}}"#
                ),
            };
        }
        if out.is_empty() {
            return None;
        }
        out.push_str("]}");
        Some(out)
    }
}

/// One frame a run of ids: what was refused in between stands in none.
fn ranges(marks: &Marks) -> Vec<String> {
    let ids = marks.0.iter().flatten().filter_map(|id| id.parse::<u64>().ok());
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, to)) if *to + 1 == id => *to = id,
            _ => runs.push((id, id)),
        }
    }
    let frame = |(from, to)| format!(r#"{{"acked":{{"from":{from},"to":{to}}}}}"#);
    runs.into_iter().map(frame).collect()
}

/// The frame for messages that will not be stored; `None` where none of them has an id.
pub(super) fn refused(marks: &Marks, problem: &Problem) -> Option<String> {
    let error = problem.to_json();
    let entries: Vec<String> =
        marks.0.iter().flatten().map(|id| format!(r#"{{"id":{id},"error":{error}}}"#)).collect();
    (!entries.is_empty()).then(|| format!(r#"{{"acks":[{}]}}"#, entries.join(",")))
}

/// The frame for one message that can't be taken.
pub(super) fn message_error(id: &str, problem: &Problem) -> String {
    format!(r#"{{"acks":[{{"id":{id},"error":{}}}]}}"#, problem.to_json())
}

/// The frame for something that can't be read; `place` is the frame, and the index in its array.
pub(super) fn frame_error(problem: &Problem, place: (u64, Option<usize>)) -> String {
    let (frame, index) = place;
    let index = index.map(|n| format!(r#","index":{n}"#)).unwrap_or_default();
    format!(r#"{{"error":{},"frame":{frame}{index}}}"#, problem.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Worth;
    use crate::model::AckLevel;

    fn marks(ids: &[Option<&str>]) -> Marks {
        let mut marks = Marks::default();
        for id in ids {
            marks.push(*id);
        }
        marks
    }

    fn list(form: Acks) -> AckList {
        AckList::new(form, TopicId(1), ReceiptKey::new([0; 16]))
    }

    fn at(base_offset: u64, exceptions: &[(u32, Exception)]) -> Appended {
        let worth = Worth { ack_level: AckLevel::Sync, loss_bound_ms: 0 };
        Appended { base_offset, worth, exceptions: exceptions.into() }
    }

    #[test]
    fn what_was_not_stored_is_answered_one_by_one() {
        let ids = marks(&[Some("1"), Some("2"), Some("3"), Some("4")]);
        let exceptions = [(0, Exception::Duplicate(Some(3))), (2, Exception::Conflict)];
        let frames = list(Acks::Each).stored(&ids, &at(7, &exceptions));
        let frame: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(
            (&frame["acks"][0]["offset"], &frame["acks"][0]["duplicate"]),
            (&3.into(), &true.into())
        );
        assert_eq!(frame["acks"][1]["offset"], 7);
        assert_eq!(frame["acks"][2]["error"]["code"], "message-id-conflict");
        assert_eq!(frame["acks"][3]["offset"], 8);
        let frames = list(Acks::Range).stored(&ids, &at(7, &exceptions));
        assert_eq!(
            frames[..2],
            [r#"{"acked":{"from":1,"to":2}}"#, r#"{"acked":{"from":4,"to":4}}"#]
        );
        assert!(frames[2].contains("message-id-conflict"));
        assert_eq!(list(Acks::None).stored(&ids, &at(7, &exceptions)).len(), 1);
    }

    #[test]
    fn each_message_with_an_id_is_answered_with_its_own_offset() {
        let frames =
            list(Acks::Each).stored(&marks(&[Some("1"), None, Some("\"b\"")]), &at(7, &[]));
        let frame: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(frame["acks"][0]["id"], 1);
        assert_eq!(frame["acks"][0]["offset"], 7);
        assert_eq!(frame["acks"][1]["id"], "b");
        assert_eq!(frame["acks"][1]["offset"], 9);
        assert!(list(Acks::Each).stored(&marks(&[None]), &at(7, &[])).is_empty());
    }

    #[test]
    fn ranges_take_consecutive_ids_and_answer_with_their_ends() {
        let mut list = list(Acks::Range);
        for id in ["5", "6", "7"] {
            list.check_id(Some(id)).unwrap();
        }
        assert!(list.check_id(Some("9")).is_err());
        assert!(list.check_id(Some("\"8\"")).is_err());
        let frames = list.stored(&marks(&[Some("5"), None, Some("6"), Some("7")]), &at(0, &[]));
        assert_eq!(frames, [r#"{"acked":{"from":5,"to":7}}"#]);
        list.lost_count();
        list.check_id(Some("20")).unwrap();
    }

    #[test]
    fn a_range_never_covers_an_id_that_was_refused() {
        let frames =
            list(Acks::Range).stored(&marks(&[Some("1"), Some("2"), Some("4")]), &at(0, &[]));
        assert_eq!(frames, [r#"{"acked":{"from":1,"to":2}}"#, r#"{"acked":{"from":4,"to":4}}"#]);
    }
}
