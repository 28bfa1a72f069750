//! The tail socket: a topic's messages pushed as they are committed.
//!
//! It is notified of new messages (or finds them when it starts) and pulls blocks from the queue,
//! one frame at a time; the next frame is pulled only when the connection has taken the one before,
//! so a slow reader costs one frame of memory, which has room in the output budget.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_web::web::Data;
use actix_web_actors::ws::{self, ProtocolError, WebsocketContext};

use super::ending::Ending;
use super::session::{self, Door, Session, send};
use crate::actors::directory::TopicHandle;
use crate::actors::topic::{HeadAdvanced, Pending};
use crate::edge::Edge;
use crate::edge::admission::{Line, Permit};
use crate::edge::error::Problem;
use crate::edge::outgoing::{Taker, UNCHARGED_BYTES};
use crate::edge::readers::Place;
use crate::edge::wire::{Form, Frame, Gaps, Page, ReadBudget, Shown, messages_frame};
use crate::metrics::{self, Way};
use crate::model::Gap;
use crate::patterns::publish_subscribe::{self, Beginning};
use crate::queue::{ReadBlock, ReadError, ReadLimits};

/// How much goes into one frame, if no single message is larger.
pub(crate) const FRAME: ReadLimits = ReadLimits { messages: 1_000, bytes: 64 * 1024 };

/// See the module.
pub(super) struct TailSession {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    door: Door,
    /// What the client has missed before it begins, until that is sent.
    missed: Option<Gap>,
    /// Offset of the next message to send.
    next: u64,
    pending: Pending,
    /// A frame is being read, or waits to be taken by the connection.
    busy: bool,
    frames: u64,
    place: Place,
    taker: Taker,
}

impl TailSession {
    pub(super) fn new(
        edge: Data<Edge>,
        topic: Arc<TopicHandle>,
        Beginning { offset: from, gap: missed }: Beginning,
        door: Door,
    ) -> Self {
        let taker = edge.outgoing.taker(door.reading_end(), Line::Sockets);
        let pending = Pending::default();
        let place = edge.readers.open(topic.id(), from);
        let (busy, frames) = (false, 0);
        Self { edge, topic, door, missed, next: from, pending, busy, frames, place, taker }
    }

    fn attach(&mut self, context: &mut WebsocketContext<Self>) {
        let reader = context.address().recipient();
        let attached = publish_subscribe::attach(self.topic.clone(), reader, self.pending.clone());
        context.spawn(attached.into_actor(self).map(|ended, session, context| match ended {
            Ok(()) => session.attach(context),
            Err(unavailable) => session.end(Problem::from(unavailable), context),
        }));
    }

    /// Sends the next frame, if there is something to send and no frame in flight.
    fn pull(&mut self, context: &mut WebsocketContext<Self>) {
        if self.busy || self.door.ended {
            return;
        }
        self.busy = true;
        let (id, next) = (self.topic.id(), self.next);
        if let Some(blocks) = self.edge.queue.read_cached(id, next, FRAME) {
            let bytes: usize = blocks.iter().map(|block| block.json_bytes_max()).sum();
            // The little that a connection may collect needs no room.
            if bytes <= UNCHARGED_BYTES {
                return self.push(Ok(blocks), None, true, context);
            }
            if let Some(room) = self.taker.try_room(self.edge.outgoing.piece_bytes()) {
                return self.push(Ok(blocks), Some(room), true, context);
            }
        }
        self.pull_with_room(self.edge.outgoing.piece_bytes(), context);
    }

    /// Waits for N bytes of room, then reads and sends. Nothing is held meanwhile.
    fn pull_with_room(&mut self, bytes: usize, context: &mut WebsocketContext<Self>) {
        let (id, next) = (self.topic.id(), self.next);
        let (queue, outgoing) = (self.edge.queue.clone(), self.edge.outgoing.clone());
        let read = async move {
            let room = outgoing.room(Line::Sockets, bytes).await;
            let (blocks, shared) = match queue.read_cached(id, next, FRAME) {
                Some(blocks) => (Ok(blocks), true),
                None => (queue.read(id, next, FRAME).await, false),
            };
            (blocks, room, shared)
        };
        context.spawn(read.into_actor(self).map(|(blocks, room, shared), session, context| {
            session.push(blocks, Some(room), shared, context);
        }));
    }

    fn push(
        &mut self,
        blocks: Result<Vec<Arc<ReadBlock>>, ReadError>,
        mut room: Option<Permit>,
        shared: bool,
        context: &mut WebsocketContext<Self>,
    ) {
        if self.door.ended {
            return;
        }
        let page = match blocks {
            Ok(blocks) if blocks.is_empty() => self.gap_at_head(),
            Ok(blocks) => self.page(&blocks, room.as_ref().map(Permit::bytes), shared),
            Err(ReadError::Gone { first }) => Ok(gap_page(Gap::before(self.next, first))),
            Err(error) => Err(error.into()),
        };
        match page {
            Err(problem) => self.end(problem, context),
            Ok(Page { next: None, .. }) => self.busy = false,
            Ok(page) => {
                let bytes = frame_bytes(&page);
                if let Some(room) = &mut room
                    && bytes > room.bytes()
                {
                    // A message is longer than the piece that there was room for.
                    match self.edge.outgoing.try_room(bytes - room.bytes()) {
                        Some(more) => room.merge(more),
                        None => return self.pull_with_room(bytes, context),
                    }
                }
                self.write(page, room, context);
            }
        }
    }

    fn write(&mut self, page: Page, room: Option<Permit>, context: &mut WebsocketContext<Self>) {
        self.next = page.next.unwrap_or(self.next);
        self.place.moved(self.next);
        for gap in page.gaps {
            context.text(gap_frame(gap));
        }
        let mut bytes = 0;
        if page.messages > 0 {
            let frame = match page.block.as_ref().and_then(|block| block.json()) {
                Some(json) => json.frame().clone(),
                None => messages_frame(&page.body),
            };
            bytes = frame.len();
            metrics::passed(Way::Tail, page.messages, bytes as u64);
            context.text(frame);
        }
        if let Some(room) = room {
            self.taker.gave(room, bytes);
            self.pull_when_taken(context);
        } else if self.is_at_head() {
            // There is nothing to pull; a notification comes when there is.
            self.busy = false;
        } else {
            self.pull_when_taken(context);
        }
    }

    fn page(
        &self,
        blocks: &[Arc<ReadBlock>],
        room_bytes: Option<usize>,
        shared: bool,
    ) -> Result<Page, Problem> {
        let outgoing = &self.edge.outgoing;
        let body_bytes = room_bytes.unwrap_or(UNCHARGED_BYTES);
        let shown = Shown {
            form: Form::Json,
            gaps: Gaps::StopAt,
            page_bytes: FRAME.bytes,
            body_bytes,
            until: u64::MAX,
            frames: true,
            shared: shared && !outgoing.is_scarce(),
            receipts: &self.edge.receipts,
            now: self.edge.queue.age(),
        };
        let mut budget = ReadBudget::new(FRAME.messages, u64::MAX);
        Ok(shown.page(&mut budget, blocks, self.next, None)?)
    }

    /// The gap that reaches up to the head, if that is what comes next.
    fn gap_at_head(&self) -> Result<Page, Problem> {
        let gaps = self.edge.queue.gaps(self.topic.id());
        let gap = gaps.into_iter().find(|gap| gap.contains(self.next));
        Ok(gap_page(gap.and_then(|gap| Gap::before(self.next, gap.end()))))
    }

    fn is_at_head(&self) -> bool {
        self.edge.queue.extent(self.topic.id()).is_some_and(|extent| extent.head == self.next)
    }

    /// Continues when the connection polls us again, which it does when it has room to write.
    fn pull_when_taken(&mut self, context: &mut WebsocketContext<Self>) {
        let taken = tokio::task::yield_now();
        context.spawn(taken.into_actor(self).map(|(), session, context| {
            session.busy = false;
            session.taker.took();
            if session.is_at_head() {
                session.taker.idle();
            }
            session.pull(context);
        }));
    }

    fn end(&mut self, problem: Problem, context: &mut WebsocketContext<Self>) {
        context.text(format!(r#"{{"error":{}}}"#, problem.to_json()));
        self.on_end(Ending::because(&problem), context);
    }

    fn refuse_frame(&mut self, context: &mut WebsocketContext<Self>) {
        self.frames += 1;
        let problem = Problem::invalid("frame", "a tail takes no messages");
        let frame = self.frames;
        let answer = format!(r#"{{"error":{},"frame":{frame}}}"#, problem.to_json());
        send(self, context, Frame::Text(answer));
    }
}

fn gap_frame(Gap { from, to }: Gap) -> String {
    format!(r#"{{"gap":{{"from":{from},"to":{to}}}}}"#)
}

/// The approximate size of a page's frame.
fn frame_bytes(page: &Page) -> usize {
    let block = page.block.as_ref().and_then(|block| block.json());
    block.map_or(page.body.len(), |json| json.frame().len())
}

fn gap_page(gap: Option<Gap>) -> Page {
    let next = gap.map(|gap| gap.end());
    Page { gaps: gap.into_iter().collect(), next, ..Page::default() }
}

impl Actor for TailSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        session::started(self, context);
        if let Some(gap) = self.missed.take() {
            context.text(gap_frame(gap));
        }
        self.attach(context);
    }
}

impl StreamHandler<Result<ws::Message, ProtocolError>> for TailSession {
    fn handle(&mut self, frame: Result<ws::Message, ProtocolError>, context: &mut Self::Context) {
        session::take_frame(self, frame, context);
    }

    fn finished(&mut self, context: &mut Self::Context) {
        session::no_more_frames(self, context);
    }
}

impl Session for TailSession {
    fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    fn on_text(&mut self, _: &str, context: &mut Self::Context) {
        self.refuse_frame(context);
    }

    fn on_binary(&mut self, _: &[u8], context: &mut Self::Context) {
        self.refuse_frame(context);
    }

    fn on_end(&mut self, ending: Ending, context: &mut Self::Context) {
        ending.carry_out(self, context);
    }
}

impl Handler<HeadAdvanced> for TailSession {
    type Result = ();

    fn handle(&mut self, _: HeadAdvanced, context: &mut Self::Context) {
        self.pending.take();
        self.pull(context);
    }
}
