//! The producer socket: messages in, acknowledgements out.
//!
//! All messages of one wake-up go on as one block; what is under way stands in a
//! [`SendWindow`], which sends again what an actor's death gave back. Beyond its credit, or while
//! the broker's byte budget is spent, the socket is not read.

use std::sync::Arc;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, Message, StreamHandler, WrapFuture,
};
use actix_web::web::Data;
use actix_web_actors::ws::{self, CloseCode, ProtocolError, WebsocketContext};
use serde_json::json;
use tokio::sync::oneshot;

use super::session::{self, Door, Session};
use crate::actors::directory::{TopicHandle, Unavailable};
use crate::actors::ingest::Ingest;
use crate::actors::supervisor::ProducerHandle;
use crate::edge::Edge;
use crate::edge::admission::Permit;
use crate::edge::error::{Code, Problem};
use crate::edge::wire;
use crate::journal::{AppendError, Appended};
use crate::model::{Block, BlockBuilder, Lane, LanePosition};
use crate::patterns::request_acknowledge::{PublishError, Resend, SendWindow};

mod acks;

pub(super) use acks::Acks;
use acks::{AckList, Marks};

/// Bytes at which a block goes on without waiting for the end of the wake-up.
const BLOCK_BYTES: usize = 256 * 1024;

/// The end of a wake-up: hand over what was collected.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// What is remembered of a block until it is answered.
struct Sent {
    marks: Marks,
    bytes: usize,
    _permit: Option<Permit>,
}

/// See the module.
pub(super) struct ProducerSession {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    producer: ProducerHandle,
    door: Door,
    acks: AckList,
    frames: u64,
    collected: BlockBuilder,
    marks: Marks,
    flush_due: bool,
    /// A block that waits for room in the byte budget; nothing overtakes it.
    waiting: Option<(Block, Marks)>,
    lane: Arc<Lane>,
    window: SendWindow<Sent>,
    unacked_messages: usize,
    unacked_bytes: usize,
    draining: bool,
    ended: bool,
}

impl ProducerSession {
    pub(super) fn new(edge: Data<Edge>, topic: Arc<TopicHandle>, acks: Acks, door: Door) -> Self {
        let producer = edge.supervisor.start_producer(topic.clone());
        let acks = AckList::new(acks, topic.id(), edge.receipts.clone());
        Self {
            edge,
            topic,
            producer,
            door,
            acks,
            frames: 0,
            collected: BlockBuilder::default(),
            marks: Marks::default(),
            flush_due: false,
            waiting: None,
            lane: Arc::default(),
            window: SendWindow::default(),
            unacked_messages: 0,
            unacked_bytes: 0,
            draining: false,
            ended: false,
        }
    }

    fn welcome(&self) -> String {
        let settings = self.topic.settings();
        json!({ "welcome": {
            "protocol": super::PROTOCOL,
            "credit": {
                "messages": self.edge.limits.credit_messages,
                "bytes": self.edge.limits.credit_bytes,
            },
            "message_bytes_max": settings.message_bytes_max,
            "mode": settings.mode,
            "ack_level": settings.ack_level,
            "loss_bound_ms": settings.loss_bound_ms(),
        }})
        .to_string()
    }

    /// Takes one message of a frame; `index` where the frame is an array.
    fn take_message(&mut self, raw: &str, index: Option<usize>, out: &mut Vec<String>) {
        let message_bytes_max = self.topic.settings().message_bytes_max;
        let place = (self.frames, index);
        let message = match wire::message_from(raw, wire::Sender::Socket) {
            Ok(message) => message,
            Err(problem) => return out.push(acks::frame_error(&problem, place)),
        };
        let id = message.id.map(|id| id.get());
        let taken = self
            .acks
            .check_id(id)
            .and_then(|()| message.push_to(&mut self.collected, message_bytes_max));
        match (taken, id) {
            (Ok(()), _) => self.marks.push(id),
            (Err(problem), Some(id)) => out.push(acks::message_error(id, &problem)),
            (Err(problem), None) => out.push(acks::frame_error(&problem, place)),
        }
    }

    /// Hands the collected messages over, as far as the byte budget lets them in.
    fn flush(&mut self, context: &mut WebsocketContext<Self>) {
        self.flush_due = false;
        if self.waiting.is_some() {
            return;
        }
        let Some(block) = self.collected.finish() else { return };
        let marks = std::mem::take(&mut self.marks);
        match self.edge.admission.try_admit(block.body().len()) {
            Some(permit) => self.send(block, marks, Some(permit), context),
            None => {
                let admitted = self.edge.admission.admit(block.body().len());
                self.waiting = Some((block, marks));
                self.door.pause(true);
                context.spawn(admitted.into_actor(self).map(|permit, session, context| {
                    if let Some((block, marks)) = session.waiting.take() {
                        session.send(block, marks, Some(permit), context);
                        session.flush(context);
                        session.read_or_pause();
                    }
                }));
            }
        }
    }

    fn send(
        &mut self,
        block: Block,
        marks: Marks,
        permit: Option<Permit>,
        context: &mut WebsocketContext<Self>,
    ) {
        let bytes = block.body().len();
        self.unacked_messages += marks.len();
        self.unacked_bytes += bytes;
        let sent = Sent { marks, bytes, _permit: permit };
        if let Some(place) = self.window.push(block.clone(), sent) {
            self.hand_over(place, block, context);
        }
        self.read_or_pause();
    }

    fn hand_over(&mut self, place: u64, block: Block, context: &mut WebsocketContext<Self>) {
        let (reply, answer) = oneshot::channel();
        let lane = Some(LanePosition::new(self.lane.clone(), place));
        self.producer.publish(Ingest { lane, block, reply });
        context.spawn(answer.into_actor(self).map(move |answer, session, context| {
            match answer {
                Ok(Ok(appended)) => session.on_stored(place, appended, context),
                // Never handed over, or overtaken by nothing: the window knows what to do.
                Err(_) | Ok(Err(AppendError::OutOfTurn)) => {
                    let resend = session.window.came_back(place);
                    session.resend(resend, context);
                }
                Ok(Err(error)) => session.on_refused(place, error.into(), context),
            }
        }));
    }

    fn on_stored(&mut self, place: u64, appended: Appended, context: &mut WebsocketContext<Self>) {
        let (answered, resend) = self.window.stored(place, appended);
        for (sent, appended) in answered {
            self.unacked_messages -= sent.marks.len();
            self.unacked_bytes -= sent.bytes;
            if let Some(frame) = self.acks.stored(&sent.marks, appended.base_offset) {
                context.text(frame);
            }
        }
        self.resend(resend, context);
        self.read_or_pause();
        self.close_when_drained(context);
    }

    /// Sends again once there is a producer to send to.
    fn resend(&mut self, resend: Resend, context: &mut WebsocketContext<Self>) {
        let Some(first) = resend.first().map(|(place, _)| *place) else { return };
        let ready = self.producer.ready();
        context.spawn(ready.into_actor(self).map(move |ready, session, context| match ready {
            Ok(()) => {
                for (place, block) in resend {
                    session.hand_over(place, block, context);
                }
            }
            Err(unavailable) => session.on_refused(first, unavailable.into(), context),
        }));
    }

    /// Nothing from this block on will be stored on this socket.
    fn on_refused(
        &mut self,
        place: u64,
        error: PublishError,
        context: &mut WebsocketContext<Self>,
    ) {
        let problem = Problem::from(error);
        let refused = self.window.refused(place);
        let waiting = self.waiting.take().map(|(_, marks)| marks);
        let collected = std::mem::take(&mut self.marks);
        let after = waiting.into_iter().chain([collected]);
        for marks in refused.into_iter().map(|sent| sent.marks).chain(after) {
            if let Some(frame) = acks::refused(&marks, &problem) {
                context.text(frame);
            }
        }
        let code = match problem.code() {
            _ if problem.is_temporary() => CloseCode::Again,
            Code::TopicNotFound => CloseCode::Policy,
            _ => CloseCode::Error,
        };
        session::close(context, code, problem.code().as_str());
    }

    /// Reads the socket while there is credit and room.
    fn read_or_pause(&mut self) {
        let limits = &self.edge.limits;
        let spent = self.unacked_messages >= limits.credit_messages
            || self.unacked_bytes >= limits.credit_bytes;
        let paused = spent || self.waiting.is_some() || self.draining;
        if paused != self.door.budget().is_paused() {
            self.door.pause(paused);
        }
    }

    fn close_when_drained(&mut self, context: &mut WebsocketContext<Self>) {
        let empty = self.window.is_empty() && self.waiting.is_none() && self.collected.count() == 0;
        if self.draining && empty {
            session::close(context, CloseCode::Away, "draining");
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        PublishError::from(unavailable).into()
    }
}

impl Actor for ProducerSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        session::started(self, context);
        context.text(self.welcome());
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for ProducerSession {
    fn handle(&mut self, frame: Result<ws::Message, ProtocolError>, context: &mut Self::Context) {
        session::take_frame(self, frame, context);
    }

    fn finished(&mut self, context: &mut Self::Context) {
        self.on_end(context);
        context.stop();
    }
}

impl Session for ProducerSession {
    fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    fn door_ref(&self) -> &Door {
        &self.door
    }

    fn on_text(&mut self, text: &str, context: &mut Self::Context) {
        self.frames += 1;
        let mut answers = Vec::new();
        match wire::messages_in_frame(text) {
            Err(problem) => answers.push(acks::frame_error(&problem, (self.frames, None))),
            Ok(messages) => {
                let array = text.trim_ascii_start().starts_with('[');
                for (n, raw) in messages.into_iter().enumerate() {
                    self.take_message(raw, array.then_some(n), &mut answers);
                }
            }
        }
        for answer in answers {
            context.text(answer);
        }
        if self.collected.bytes() >= BLOCK_BYTES {
            self.flush(context);
        } else if self.collected.count() > 0 && !self.flush_due {
            self.flush_due = true;
            context.notify(Flush);
        }
    }

    fn on_binary(&mut self, _: &[u8], context: &mut Self::Context) {
        self.frames += 1;
        let problem = Problem::invalid("frame", "this broker takes JSON in text frames only");
        context.text(acks::frame_error(&problem, (self.frames, None)));
    }

    /// What came before the end is on its way, whether somebody waits for the answer or not.
    fn on_end(&mut self, context: &mut Self::Context) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some((block, marks)) = self.waiting.take() {
            // It is in memory already and nothing comes after it.
            self.send(block, marks, None, context);
        }
        if let Some(block) = self.collected.finish() {
            let marks = std::mem::take(&mut self.marks);
            self.send(block, marks, None, context);
        }
    }

    fn on_drain(&mut self, context: &mut Self::Context) {
        self.draining = true;
        self.flush(context);
        self.read_or_pause();
        self.close_when_drained(context);
    }
}

impl Handler<Flush> for ProducerSession {
    type Result = ();

    fn handle(&mut self, Flush: Flush, context: &mut Self::Context) {
        self.flush(context);
    }
}
