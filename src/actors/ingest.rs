//! The ingest logger: one per topic, the step at which a message becomes the broker's duty.
//!
//! In mode `hml` without processors the outgoing record is the raw one, so it is written once: the
//! logger stamps the block with its incarnation and hands it to the writer, together with the
//! oneshot on which its sender waits. It keeps nothing, so it can lose nothing.
//!
//! Invariants: blocks reach the writer in the order they reached the logger; the factory fences
//! at the writer before an incarnation takes its first block.

use actix::{Actor, Context, Handler, Message};
use tokio::sync::oneshot;

use crate::faults::{self, Seam};
use crate::model::{AppendError, Appended, Block, Incarnation, LanePosition, TopicId};
use crate::topics::{Append, Topics};

/// Store this block.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ingest {
    /// The block's place in its producer's order, where one is promised.
    pub lane: Option<LanePosition>,
    /// The messages.
    pub block: Block,
    /// Answered by the writer; dropped when the block never reached it.
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// See the module.
pub struct IngestLogger {
    topic: TopicId,
    incarnation: Incarnation,
    topics: Topics,
}

impl IngestLogger {
    /// Fences the predecessor and makes the logger; `None` when the topic is deleted or the journal
    /// has stopped.
    pub async fn recover(topic: TopicId, incarnation: Incarnation, topics: Topics) -> Option<Self> {
        match topics.fence(topic, incarnation).await {
            Ok(head) => {
                tracing::debug!(%topic, incarnation = incarnation.0, head, "ingest logger is back");
                Some(Self { topic, incarnation, topics })
            }
            Err(error) => {
                tracing::debug!(%topic, %error, "no ingest logger any more");
                None
            }
        }
    }
}

impl Actor for IngestLogger {
    type Context = Context<Self>;
}

impl Handler<Ingest> for IngestLogger {
    type Result = ();

    fn handle(&mut self, ingest: Ingest, _: &mut Context<Self>) {
        if faults::fails(Seam::IngestReceived) {
            return;
        }
        let Ingest { lane, block, reply } = ingest;
        let _stage = block.trace().map(|trace| {
            let (trace_id, topic) = (trace.trace_id(), self.topic.0);
            tracing::debug_span!("ingest", trace_id, topic, messages = block.count()).entered()
        });
        let (topic, incarnation) = (self.topic, self.incarnation);
        self.topics.append(Append { topic, incarnation, lane, block, reply });
        faults::pass(Seam::IngestForwarded);
    }
}
