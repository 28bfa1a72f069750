//! A producer socket's first frame: the terms it works on. A name among them belongs to the socket
//! until another one takes it.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use actix_web_actors::ws::WebsocketContext;
use serde_json::{Value, json};

use super::ProducerSession;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::ws::Protocol;
use crate::edge::ws::ending::Ending;
use crate::edge::ws::session::{Session, send};
use crate::model::Durability;
use crate::topics::Claimed;

/// A producer that numbers its messages under a name.
pub(in crate::edge::ws) struct Named {
    pub(in crate::edge::ws) name: Arc<str>,
    /// Its claim on the name.
    pub(in crate::edge::ws) claimed: Claimed,
}

/// Sent at the start, and again when the guarantee of an acknowledgement has changed.
fn welcome(
    edge: &Edge,
    topic: &TopicHandle,
    protocol: Protocol,
    durability: Durability,
    resume_after: Option<u64>,
) -> Value {
    let settings = topic.settings();
    let mut welcome = json!({
        "protocol": protocol.name(),
        "credit": {
            "messages": edge.limits.credit_messages,
            "bytes": edge.limits.credit_bytes,
        },
        "message_bytes_max": edge.message_bytes_max(&settings),
        "mode": settings.mode,
        "ack_level": durability.ack_level,
        "loss_bound_ms": durability.loss_bound_ms,
    });
    if let Some(id) = resume_after {
        welcome["resume_after"] = id.into();
    }
    json!({ "welcome": welcome })
}

impl ProducerSession {
    /// Ends when another socket takes the name; what is in flight is answered first.
    pub(super) fn watch_name(&mut self, context: &mut WebsocketContext<Self>) {
        let Some(fenced) = self.fenced.take() else { return };
        context.spawn(fenced.into_actor(self).map(|fenced, session, context| {
            if fenced.is_ok() && !session.door.ended {
                session.on_end(Ending::FENCED, context);
            }
        }));
    }

    /// Sends the terms.
    pub(super) fn welcome(&mut self, context: &mut WebsocketContext<Self>) {
        let welcome =
            welcome(&self.edge, &self.topic, self.protocol, self.durability, self.resume_after);
        let welcome = self.intake.acks.encoding.frame(&welcome);
        send(self, context, welcome);
    }
}
