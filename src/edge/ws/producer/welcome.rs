//! What a producer socket says first: the terms it works on.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::ws::Protocol;
use crate::topics::{Claimed, Durability};

/// A producer that numbers its messages under a name.
pub(in crate::edge::ws) struct Named {
    pub(in crate::edge::ws) name: Arc<str>,
    /// Its claim on the name.
    pub(in crate::edge::ws) claimed: Claimed,
}

/// Said at the start, and again when what an acknowledgement is worth has changed.
pub(super) fn welcome(
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
