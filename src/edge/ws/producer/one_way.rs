//! The messages of a producer socket without an acknowledgement, until their result is known.
//!
//! A block that was sent on is stored or not whether the session lives or not, so a separate task
//! waits for the answer and counts; messages that the session still holds when it ends are counted
//! by the drop of this value.
//!
//! Invariant: each such message is counted once: as stored, as a duplicate or as dropped.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::acks::Marks;
use crate::edge::error::{Code, Problem};
use crate::metrics;
use crate::model::{AppendError, Appended};
use crate::patterns::one_way::Sent;
use crate::patterns::request_acknowledge::PublishError;

/// Why messages are dropped that a session held when its connection ended.
const DISCONNECTED: &str = "disconnected";

type Answer = Result<Appended, AppendError>;

/// Blocks with such messages, by their place in the lane.
#[derive(Default)]
pub(super) struct OneWay {
    blocks: BTreeMap<u64, Rc<Messages>>,
}

struct Messages {
    /// Their places in the block.
    places: Vec<u32>,
    /// A task waits for the answer.
    handed_over: Cell<bool>,
    counted: Cell<bool>,
}

impl Messages {
    fn drop_all(&self, reason: &'static str) {
        if !self.counted.replace(true) {
            metrics::one_way_dropped(reason, self.places.len() as u64);
        }
    }

    fn answered(&self, appended: &Appended) {
        if self.counted.replace(true) {
            return;
        }
        let mut sent = Sent::default();
        let mut places = self.places.iter().peekable();
        for (place, outcome) in (0u32..).zip(appended.outcomes()) {
            if places.peek().is_none() {
                break;
            }
            if places.next_if(|next| **next == place).is_some() {
                sent.count(outcome);
            }
        }
        metrics::one_way_taken(sent.stored, sent.duplicates);
        metrics::one_way_dropped(Code::MessageIdConflict.as_str(), sent.conflicts);
    }
}

impl OneWay {
    /// A block of these messages takes a place in the lane.
    pub(super) fn push(&mut self, place: u64, marks: &Marks) {
        let places = marks.one_way_places();
        if !places.is_empty() {
            let (handed_over, counted) = (Cell::new(false), Cell::new(false));
            self.blocks.insert(place, Rc::new(Messages { places, handed_over, counted }));
        }
    }

    /// The block is sent on; its answer passes through here.
    pub(super) fn relay(
        &mut self,
        place: u64,
        answer: oneshot::Receiver<Answer>,
    ) -> oneshot::Receiver<Answer> {
        let Some(messages) = self.blocks.get(&place).cloned() else { return answer };
        messages.handed_over.set(true);
        let (relay, relayed) = oneshot::channel();
        actix_web::rt::spawn(async move {
            let answer = answer.await;
            if let Ok(Ok(appended)) = &answer {
                messages.answered(appended);
            }
            // Else the session resends it, or learns that it can't.
            messages.handed_over.set(false);
            let unheard = match answer {
                Ok(answer) => relay.send(answer).err(),
                Err(_) => relay.is_closed().then_some(Err(AppendError::OutOfTurn)),
            };
            match unheard {
                None | Some(Ok(_)) => {}
                Some(Err(AppendError::OutOfTurn)) => messages.drop_all(DISCONNECTED),
                Some(Err(error)) => {
                    messages.drop_all(Problem::from(PublishError::from(error)).code().as_str());
                }
            }
        });
        relayed
    }

    /// The block was stored.
    pub(super) fn stored(&mut self, place: u64) {
        self.blocks.remove(&place);
    }

    /// Nothing from this block on will be stored.
    pub(super) fn refused(&mut self, place: u64, problem: &Problem) {
        for messages in self.blocks.split_off(&place).into_values() {
            messages.drop_all(problem.code().as_str());
        }
    }

    /// Messages that have no place yet will not get one.
    pub(super) fn dropped(marks: &Marks, problem: &Problem) {
        metrics::one_way_dropped(problem.code().as_str(), marks.one_way_places().len() as u64);
    }

    /// The session ends with these in hand.
    pub(super) fn left(marks: &Marks) {
        metrics::one_way_dropped(DISCONNECTED, marks.one_way_places().len() as u64);
    }
}

impl Drop for OneWay {
    fn drop(&mut self) {
        for messages in self.blocks.values().filter(|messages| !messages.handed_over.get()) {
            messages.drop_all(DISCONNECTED);
        }
    }
}
