//! Frames into messages: what a producer socket's client may send, in each of its subprotocols.

use super::acks::{AckList, Marks};
use super::collect::Collector;
use crate::edge::error::Problem;
use crate::edge::wire::{BYTE_ORDER_MARK, Encoding, Frame, Mark, RawMessage, RawMessages, Sender};
use crate::edge::ws::Protocol;
use crate::metrics;
use crate::model::Block;

/// See the module.
pub(super) struct Intake {
    protocol: Protocol,
    /// Encodes the answers.
    pub(super) acks: AckList,
    collected: Collector,
    frames: u64,
    /// The number of the next payload, where each frame is one.
    next_number: u64,
    batch_messages_max: usize,
    gave_up: bool,
}

/// Messages of one frame that may be refused one by one. A few bytes each, they cause answers of
/// hundreds; a client that sends more of them does not speak the subprotocol.
const ERRORS_MAX: usize = 256;

/// A frame as received.
#[derive(Clone, Copy)]
pub(super) enum Received<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Intake {
    /// Accepts frames of this subprotocol; bare payloads are numbered on after `resume_after`.
    pub(super) fn new(
        protocol: Protocol,
        acks: AckList,
        collected: Collector,
        resume_after: Option<u64>,
        batch_messages_max: usize,
    ) -> Self {
        // A client that has used all numbers up was refused before.
        let next_number = resume_after.unwrap_or(0).saturating_add(1);
        let (frames, gave_up) = (0, false);
        Self { protocol, acks, collected, frames, next_number, batch_messages_max, gave_up }
    }

    /// Takes a frame's messages, and answers the invalid ones.
    pub(super) fn take(&mut self, frame: Received<'_>, message_bytes_max: usize) -> Vec<Frame> {
        self.frames += 1;
        let mut answers = Vec::new();
        if self.protocol == Protocol::RawV1 {
            let payload = match frame {
                Received::Text(text) => text.as_bytes(),
                Received::Binary(bytes) => bytes,
            };
            self.take_payload(payload, message_bytes_max, &mut answers);
            return answers;
        }
        let (found, array) = match frame {
            Received::Text(text) => {
                self.acks.encoding = Encoding::Json;
                let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
                let found = RawMessages::in_frame(text, self.batch_messages_max);
                (found, text.trim_ascii_start().starts_with('['))
            }
            Received::Binary(bytes) => {
                self.acks.encoding = Encoding::MessagePack;
                let found = RawMessages::in_binary_frame(bytes, self.batch_messages_max);
                let alone = matches!(&found, Ok(RawMessages(found))
                    if *found == [RawMessage::MessagePack(bytes)]);
                (found, !alone)
            }
        };
        match found {
            Err(problem) => {
                answers.push(self.refuse_unread(&problem));
            }
            Ok(RawMessages(messages)) => {
                for (n, raw) in messages.iter().copied().enumerate() {
                    if answers.len() == ERRORS_MAX {
                        self.gave_up = true;
                        let why = format!("{ERRORS_MAX} messages of this frame can't be taken");
                        let unread = messages[n..].iter().filter(|raw| raw.id().is_none()).count();
                        let problem = Problem::invalid("frame", why);
                        metrics::one_way_dropped(problem.code().as_str(), unread as u64);
                        answers.push(self.acks.frame_error(&problem, self.frames, Some(n)));
                        break;
                    }
                    self.take_message(raw, array.then_some(n), message_bytes_max, &mut answers);
                }
            }
        }
        answers
    }

    /// Takes one message of a frame; `index` where the frame is an array.
    fn take_message(
        &mut self,
        raw: RawMessage<'_>,
        index: Option<usize>,
        message_bytes_max: usize,
        answers: &mut Vec<Frame>,
    ) {
        let message = raw.message(Sender::Socket);
        let unread = if message.is_err() { raw.id() } else { None };
        let id = message.as_ref().map_or(unread.as_ref(), |message| message.id.as_ref());
        // The id counts even if the message is refused for something else.
        let counted = self.acks.check_id(id);
        let id = id.cloned();
        let taken = message
            .and_then(|message| counted.map(|()| message))
            .and_then(|message| self.collected.take(message, message_bytes_max));
        match (taken, id) {
            (Ok(()), _) => {}
            (Err(problem), Some(id)) => answers.push(self.acks.message_error(&id, &problem)),
            (Err(problem), None) => {
                self.acks.lost_count();
                metrics::one_way_dropped(problem.code().as_str(), 1);
                answers.push(self.acks.frame_error(&problem, self.frames, index));
            }
        }
    }

    fn take_payload(&mut self, payload: &[u8], message_bytes_max: usize, out: &mut Vec<Frame>) {
        let id = Mark::Number(self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        if let Err(problem) = self.collected.take_payload(payload, id.clone(), message_bytes_max) {
            out.push(self.acks.message_error(&id, &problem));
        }
    }

    /// The client's input is malformed, and is not read any more.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Refuses a frame unread.
    pub(super) fn refuse(&mut self, problem: &Problem) -> Frame {
        self.frames += 1;
        self.refuse_unread(problem)
    }

    /// The ids in the frame, if any, are unknown: it counts as one message that needs no answer.
    fn refuse_unread(&mut self, problem: &Problem) -> Frame {
        self.acks.lost_count();
        metrics::one_way_dropped(problem.code().as_str(), 1);
        self.acks.frame_error(problem, self.frames, None)
    }

    /// Takes what was collected; `None` if that is nothing.
    pub(super) fn finish(&mut self) -> Option<(Block, Marks)> {
        self.collected.finish()
    }

    /// Encoded bytes collected so far.
    pub(super) fn bytes(&self) -> usize {
        self.collected.bytes()
    }

    /// Nothing is collected.
    pub(super) fn is_empty(&self) -> bool {
        self.collected.is_empty()
    }
}
