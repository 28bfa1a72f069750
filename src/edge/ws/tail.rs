//! The tail socket: a topic's messages pushed as they are committed.
//!
//! It is told that there is more (or finds out when it starts) and pulls blocks from the queue,
//! one frame at a time; the next frame is pulled only when the connection has taken the one
//! before, so a slow reader costs one frame of memory.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_web::web::Data;
use actix_web_actors::ws::{self, ProtocolError, WebsocketContext};

use super::session::{self, Door, Ending, Session};
use crate::actors::directory::TopicHandle;
use crate::actors::topic::{HeadAdvanced, Pending};
use crate::edge::Edge;
use crate::edge::error::Problem;
use crate::edge::wire::Budget;
use crate::model::{Gap, PlacedBlock};
use crate::patterns::publish_subscribe;
use crate::queue::{ReadError, ReadLimits};

/// How much goes into one frame, if no single message is larger.
const FRAME: ReadLimits = ReadLimits { messages: 1_000, bytes: 64 * 1024 };

/// See the module.
pub(super) struct TailSession {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    door: Door,
    /// Offset of the next message to send.
    next: u64,
    pending: Pending,
    /// A frame is being read, or waits to be taken by the connection.
    busy: bool,
    frames: u64,
}

impl TailSession {
    pub(super) fn new(edge: Data<Edge>, topic: Arc<TopicHandle>, from: u64, door: Door) -> Self {
        let pending = Pending::default();
        Self { edge, topic, door, next: from, pending, busy: false, frames: 0 }
    }

    fn attach(&mut self, context: &mut WebsocketContext<Self>) {
        let reader = context.address().recipient();
        let attached = publish_subscribe::attach(self.topic.clone(), reader, self.pending.clone());
        context.spawn(attached.into_actor(self).map(|ended, session, context| match ended {
            Ok(()) => session.attach(context),
            Err(unavailable) => session.end(Problem::from(unavailable), context),
        }));
    }

    /// Sends the next frame, if there is something to send and nothing on its way.
    fn pull(&mut self, context: &mut WebsocketContext<Self>) {
        if self.busy {
            return;
        }
        self.busy = true;
        let (id, next) = (self.topic.id(), self.next);
        if let Some(blocks) = self.edge.queue.read_cached(id, next, FRAME) {
            return self.push(Ok(blocks), context);
        }
        let queue = self.edge.queue.clone();
        let read = async move { queue.read(id, next, FRAME).await };
        context.spawn(read.into_actor(self).map(|blocks, session, context| {
            session.push(blocks, context);
        }));
    }

    fn push(
        &mut self,
        blocks: Result<Vec<Arc<PlacedBlock>>, ReadError>,
        context: &mut WebsocketContext<Self>,
    ) {
        let gap = match &blocks {
            Ok(blocks) => self.gap_before(blocks.first()),
            Err(ReadError::Gone { first }) => Gap::before(self.next, *first),
            Err(_) => None,
        };
        if let Some(gap) = gap {
            let Gap { from, to } = gap;
            context.text(format!(r#"{{"gap":{{"from":{from},"to":{to}}}}}"#));
            self.next = gap.end();
            return self.pull_when_taken(context);
        }
        let page = match blocks {
            Ok(blocks) if blocks.is_empty() => {
                self.busy = false;
                return;
            }
            Ok(blocks) => Budget::new(FRAME.messages, u64::MAX).page(
                up_to_gap(&blocks),
                self.next,
                FRAME.bytes,
                &self.edge.receipts,
            ),
            Err(error) => return self.end(error.into(), context),
        };
        match page {
            Ok(page) => {
                self.next = page.next.unwrap_or(self.next);
                context.text(format!(r#"{{"messages":[{}]}}"#, page.json));
                self.pull_when_taken(context);
            }
            Err(error) => self.end(error.into(), context),
        }
    }

    /// The gap between what was sent last and the next block, or the head where there is none.
    fn gap_before(&self, next: Option<&Arc<PlacedBlock>>) -> Option<Gap> {
        if let Some(block) = next {
            return Gap::before(self.next, block.base_offset);
        }
        let gaps = self.edge.queue.gaps(self.topic.id());
        let gap = gaps.into_iter().find(|gap| gap.contains(self.next))?;
        Gap::before(self.next, gap.end())
    }

    /// Goes on when the connection polls us again, which it does when it has room to write.
    fn pull_when_taken(&mut self, context: &mut WebsocketContext<Self>) {
        let taken = tokio::task::yield_now();
        context.spawn(taken.into_actor(self).map(|(), session, context| {
            session.busy = false;
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
        context.text(format!(r#"{{"error":{},"frame":{frame}}}"#, problem.to_json()));
    }
}

/// The blocks that follow each other without a gap.
fn up_to_gap(blocks: &[Arc<PlacedBlock>]) -> &[Arc<PlacedBlock>] {
    let follow = |pair: &[Arc<PlacedBlock>]| pair[0].end_offset() == pair[1].base_offset;
    let jump = blocks.windows(2).position(|pair| !follow(pair));
    &blocks[..jump.map_or(blocks.len(), |before| before + 1)]
}

impl Actor for TailSession {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        session::started(self, context);
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
        self.door.ended = true;
        ending.carry_out(context);
    }
}

impl Handler<HeadAdvanced> for TailSession {
    type Result = ();

    fn handle(&mut self, _: HeadAdvanced, context: &mut Self::Context) {
        self.pending.take();
        self.pull(context);
    }
}
