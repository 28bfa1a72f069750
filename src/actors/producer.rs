//! The producer: one behind each producer socket, between the socket and the ingest logger.
//!
//! It hands blocks to the topic's ingest logger in the order received, holds them while the logger
//! is away, and reports when it will not return. When it panics, the blocks it held return to the
//! session (the oneshots drop), which sends them again to its successor.
//!
//! Invariants: blocks leave in the order received; it holds no more than its session's credit,
//! since the session sends no more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture,
};

use super::directory::{TopicHandle, TopicState, Unavailable};
use super::ingest::Ingest;
use crate::faults::{self, Seam};
use crate::model::AppendError;

/// Publish this block.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Publish(pub Ingest);

/// The session has gone: hand over what is held, then end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

/// See the module.
pub struct Producer {
    topic: Arc<TopicHandle>,
    held: VecDeque<Ingest>,
    waiting: bool,
    closing: bool,
}

impl Producer {
    /// A producer for a topic.
    pub fn new(topic: Arc<TopicHandle>) -> Self {
        topic.producers.fetch_add(1, Ordering::Relaxed);
        Self { topic, held: VecDeque::new(), waiting: false, closing: false }
    }

    fn forward(&mut self, ctx: &mut Context<Self>) {
        if self.topic.state() == TopicState::Quarantined {
            return self.refuse(Unavailable::Quarantined, ctx);
        }
        let Some(ingest) = self.topic.ingest().now() else { return self.wait(ctx) };
        while let Some(held) = self.held.pop_front() {
            // If the logger dies before it takes this, the oneshot drops with its mailbox.
            ingest.do_send(held);
            faults::pass(Seam::ProducerForwarded);
        }
        if self.closing {
            ctx.stop();
        }
    }

    fn wait(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.waiting, true) {
            return;
        }
        let slot = self.topic.ingest().clone();
        let announced = async move { slot.running().await };
        ctx.spawn(announced.into_actor(self).map(|announced, producer, ctx| {
            producer.waiting = false;
            match announced {
                Ok(_) => producer.forward(ctx),
                Err(unavailable) => producer.refuse(unavailable, ctx),
            }
        }));
    }

    fn refuse(&mut self, why: Unavailable, ctx: &mut Context<Self>) {
        for held in self.held.drain(..) {
            let error = match why {
                Unavailable::Quarantined => AppendError::Quarantined,
                Unavailable::Ended => AppendError::TopicDeleted,
            };
            // The session may have gone; then no error has to be reported.
            let _ = held.reply.send(Err(error));
        }
        if self.closing {
            ctx.stop();
        }
    }
}

impl Actor for Producer {
    type Context = Context<Self>;
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.topic.producers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler<Publish> for Producer {
    type Result = ();

    fn handle(&mut self, Publish(ingest): Publish, ctx: &mut Context<Self>) {
        if faults::fails(Seam::ProducerReceived) {
            return;
        }
        self.held.push_back(ingest);
        self.forward(ctx);
    }
}

impl Handler<Close> for Producer {
    type Result = ();

    fn handle(&mut self, Close: Close, ctx: &mut Context<Self>) {
        self.closing = true;
        if self.held.is_empty() {
            ctx.stop();
        }
    }
}
