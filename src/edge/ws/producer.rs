//! The producer socket: messages in, acknowledgements out.
//!
//! All messages of one wake-up are sent on as one block; blocks in flight are in a [`SendWindow`],
//! which resends what an actor's death returned. Beyond its credit, or while the broker's byte
//! budget is spent, the socket is not read.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, ActorFutureExt, AsyncContext, Handler, Message, StreamHandler, WrapFuture};
use actix_web::web::Data;
use actix_web_actors::ws::{self, ProtocolError, WebsocketContext};
use tokio::sync::oneshot;

use super::Protocol;
use super::ending::Ending;
use super::session::{self, Door, Session, send};
use crate::actors::directory::{TopicHandle, Unavailable};
use crate::actors::ingest::Ingest;
use crate::actors::supervisor::ProducerHandle;
use crate::edge::Edge;
use crate::edge::admission::Line;
use crate::edge::error::{Code, Problem};
use crate::faults::{self, Seam};
use crate::metrics::{self, Way};
use crate::model::{AppendError, Appended, BLOCK_BYTES_MAX, Block, Durability, Lane, LanePosition};
use crate::patterns::request_acknowledge::{PublishError, Resend, SendWindow};
use crate::topics::Fenced;

mod acks;
mod collect;
mod intake;
mod one_way;
mod welcome;

pub(super) use acks::Acks;
use acks::{AckList, Marks};
use collect::Collector;
use intake::{Intake, Received};
use one_way::OneWay;
pub(super) use welcome::Named;

/// Bytes at which a block is sent on without waiting for the end of the wake-up.
const BLOCK_BYTES: usize = 256 * 1024;

/// The end of a wake-up: send the collected messages on.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// What is remembered of a block until it is answered.
struct Sent {
    marks: Marks,
    bytes: usize,
    at: Instant,
}

/// See the module.
pub(super) struct ProducerSession {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    producer: ProducerHandle,
    door: Door,
    protocol: Protocol,
    intake: Intake,
    /// The guarantee of an acknowledgement that the client was last notified of.
    durability: Durability,
    flush_due: bool,
    /// A block that waits for room in the byte budget; nothing overtakes it.
    waiting: Option<(Block, Marks)>,
    lane: Arc<Lane>,
    window: SendWindow<Sent>,
    one_way: OneWay,
    unacked_messages: usize,
    unacked_bytes: usize,
    /// Set once nothing more is accepted: how to end when all is answered.
    ending: Option<Ending>,
    /// A named producer's last durable id when the socket was opened.
    resume_after: Option<u64>,
    /// Resolves when another socket takes the producer's name.
    fenced: Option<oneshot::Receiver<Fenced>>,
}

impl ProducerSession {
    pub(super) fn new(
        edge: Data<Edge>,
        topic: Arc<TopicHandle>,
        (protocol, acks): (Protocol, Acks),
        named: Option<Named>,
        door: Door,
    ) -> Self {
        let (name, resume_after, fenced) = match named {
            Some(Named { name, claimed }) => {
                (Some((name, claimed.claim)), claimed.last_id, Some(claimed.fenced))
            }
            None => (None, None, None),
        };
        let collected = Collector::new(edge.block_builder(), name);
        let producer = edge.supervisor.start_producer(topic.clone());
        let acks = AckList::new(acks, topic.id(), edge.receipts.clone());
        let batch_messages_max = edge.limits.batch_messages_max;
        let intake = Intake::new(protocol, acks, collected, resume_after, batch_messages_max);
        let durability = Durability::of(&topic.settings());
        Self {
            edge,
            topic,
            producer,
            door,
            protocol,
            intake,
            durability,
            resume_after,
            fenced,
            flush_due: false,
            waiting: None,
            lane: Arc::default(),
            window: SendWindow::default(),
            one_way: OneWay::default(),
            unacked_messages: 0,
            unacked_bytes: 0,
            ending: None,
        }
    }

    fn take(&mut self, frame: Received<'_>, context: &mut WebsocketContext<Self>) {
        if faults::fails(Seam::SessionFrame) {
            let problem = Problem::new(Code::Internal, "planned fault");
            let refusal = self.intake.refuse(&problem);
            return send(self, context, refusal);
        }
        let message_bytes_max = self.edge.message_bytes_max(&self.topic.settings());
        for answer in self.intake.take(frame, message_bytes_max) {
            send(self, context, answer);
        }
        if self.intake.gave_up() {
            self.door.stop_hearing();
            return self.on_end(Ending::TOO_MANY_ERRORS, context);
        }
        if self.intake.bytes() >= BLOCK_BYTES {
            self.flush(context);
        } else if !self.intake.is_empty() && !self.flush_due {
            self.flush_due = true;
            context.notify(Flush);
        }
    }

    /// Sends the collected messages on, as far as the byte budget admits them.
    fn flush(&mut self, context: &mut WebsocketContext<Self>) {
        self.flush_due = false;
        if self.waiting.is_some() {
            return;
        }
        let Some((block, marks)) = self.intake.finish() else { return };
        let bytes = block.body().len();
        match self.edge.admission.try_admit(bytes) {
            Some(permit) => self.send(block.charged(permit), marks, context),
            None => {
                let admitted = self.edge.admission.admit(Line::Sockets, bytes);
                self.waiting = Some((block, marks));
                self.read_or_pause();
                context.spawn(admitted.into_actor(self).map(|permit, session, context| {
                    if let Some((block, marks)) = session.waiting.take() {
                        session.send(block.charged(permit), marks, context);
                        session.flush(context);
                        session.read_or_pause();
                        session.end_when_settled(context);
                    }
                }));
            }
        }
    }

    fn send(&mut self, block: Block, mut marks: Marks, context: &mut WebsocketContext<Self>) {
        for part in block.split(BLOCK_BYTES_MAX) {
            let marks = marks.take(part.count() as usize);
            let bytes = part.body().len() + marks.bytes();
            self.unacked_messages += marks.len();
            self.unacked_bytes += bytes;
            self.one_way.push(self.window.next_place(), &marks);
            let sent = Sent { marks, bytes, at: Instant::now() };
            if let Some(place) = self.window.push(part.clone(), sent) {
                self.hand_over(place, part, context);
            }
        }
        self.read_or_pause();
    }

    fn hand_over(&mut self, place: u64, block: Block, context: &mut WebsocketContext<Self>) {
        let (reply, answer) = oneshot::channel();
        let lane = Some(LanePosition::new(self.lane.clone(), place));
        let answer = self.one_way.relay(place, answer);
        self.producer.publish(Ingest { lane, block, reply });
        context.spawn(answer.into_actor(self).map(move |answer, session, context| {
            match answer {
                Ok(Ok(appended)) => session.on_stored(place, appended, context),
                // Never sent on, or refused because one before it was not.
                Err(_) | Ok(Err(AppendError::OutOfTurn)) => {
                    let resend = session.window.came_back(place);
                    session.resend(resend, context);
                }
                Ok(Err(error)) => session.on_refused(place, error.into(), context),
            }
        }));
    }

    fn on_stored(&mut self, place: u64, appended: Appended, context: &mut WebsocketContext<Self>) {
        self.one_way.stored(place);
        let (answered, resend) = self.window.stored(place, appended);
        for (sent, appended) in answered {
            self.unacked_messages -= sent.marks.len();
            self.unacked_bytes -= sent.bytes;
            metrics::passed(Way::Socket, sent.marks.len() as u64, sent.bytes as u64);
            metrics::acknowledged(Way::Socket, sent.at.elapsed());
            if self.durability != appended.durability {
                self.durability = appended.durability;
                self.welcome(context);
            }
            for frame in self.intake.acks.stored(&sent.marks, &appended) {
                send(self, context, frame);
            }
        }
        self.resend(resend, context);
        self.read_or_pause();
        self.end_when_settled(context);
    }

    /// Resends once there is a producer to send to.
    fn resend(&mut self, resend: Resend, context: &mut WebsocketContext<Self>) {
        let Some(first) = resend.first().map(|(place, _)| *place) else { return };
        let ready = self.producer.ready();
        context.spawn(ready.into_actor(self).map(move |ready, session, context| match ready {
            Ok(()) => {
                for (place, block) in resend {
                    session.hand_over(place, block, context);
                }
            }
            // This producer gave up, not the topic: a new socket gets a new one.
            Err(Unavailable::Quarantined) => {
                session.on_refused(first, PublishError::Recovering, context);
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
        let deleted = matches!(error, PublishError::Append(AppendError::TopicDeleted));
        let made_anew = deleted && self.edge.topics.policy().auto_create;
        let problem = Problem::from(if made_anew { PublishError::Deleted } else { error });
        self.one_way.refused(place, &problem);
        let refused = self.window.refused(place);
        let waiting = self.waiting.take().map(|(_, marks)| marks);
        let collected = self.intake.finish().map(|(_, marks)| marks);
        let after = waiting.into_iter().chain(collected);
        let after: Vec<Marks> = after.inspect(|marks| OneWay::dropped(marks, &problem)).collect();
        if self.door.is_closing() {
            return;
        }
        for marks in refused.into_iter().map(|sent| sent.marks).chain(after) {
            if let Some(frame) = self.intake.acks.refused(&marks, &problem) {
                send(self, context, frame);
            }
        }
        // Blocks before it are still in flight, and are answered first.
        self.on_end(Ending::because(&problem), context);
    }

    /// Reads the socket while there is credit and room.
    fn read_or_pause(&mut self) {
        let limits = &self.edge.limits;
        let spent = self.unacked_messages >= limits.credit_messages
            || self.unacked_bytes >= limits.credit_bytes;
        let paused = spent || self.waiting.is_some() || self.ending.is_some();
        if paused != self.door.budget().is_paused() {
            self.door.pause(paused);
        }
    }

    /// Ends as decided, once everything accepted has been answered.
    fn end_when_settled(&mut self, context: &mut WebsocketContext<Self>) {
        let settled = self.window.is_empty() && self.waiting.is_none() && self.intake.is_empty();
        if let Some(ending) = self.ending.take_if(|_| settled) {
            ending.carry_out(self, context);
        }
    }
}

impl Drop for ProducerSession {
    fn drop(&mut self) {
        let waiting = self.waiting.take().map(|(_, marks)| marks);
        let collected = self.intake.finish().map(|(_, marks)| marks);
        waiting.into_iter().chain(collected).for_each(|marks| OneWay::left(&marks));
    }
}

impl Actor for ProducerSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        session::started(self, context);
        self.watch_name(context);
        self.welcome(context);
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for ProducerSession {
    fn handle(&mut self, frame: Result<ws::Message, ProtocolError>, context: &mut Self::Context) {
        session::take_frame(self, frame, context);
    }

    fn finished(&mut self, context: &mut Self::Context) {
        session::no_more_frames(self, context);
    }
}

impl Session for ProducerSession {
    fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    fn on_text(&mut self, text: &str, context: &mut Self::Context) {
        self.take(Received::Text(text), context);
    }

    fn on_binary(&mut self, bytes: &[u8], context: &mut Self::Context) {
        self.take(Received::Binary(bytes), context);
    }

    /// Accepted messages are sent on and answered first.
    fn on_end(&mut self, ending: Ending, context: &mut Self::Context) {
        self.door.ended = true;
        // A Close that arrives during the wait is answered by our own close frame.
        self.ending.get_or_insert(ending);
        self.flush(context);
        self.read_or_pause();
        self.end_when_settled(context);
    }
}

impl Handler<Flush> for ProducerSession {
    type Result = ();

    fn handle(&mut self, Flush: Flush, context: &mut Self::Context) {
        self.flush(context);
    }
}
