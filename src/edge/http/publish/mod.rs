//! Publishing over HTTP: `POST /v1/topics/{topic}/messages`, and in `one_way` `…/oneway`.
//!
//! `collect` makes a block of a body in any of its forms, `answer` writes the results.

mod answer;
mod collect;
mod one_way;

use std::sync::Arc;
use std::time::Instant;

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use tracing::{Instrument, Span};

use super::body::{self, Wait};
use super::parameters::query;
use super::topic_name;
use super::waiting::{Preference, until};
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::connections::Link;
use crate::edge::error::{Code, Problem};
use crate::faults::{self, Seam};
use crate::metrics::{self, Way};
use crate::model::{Appended, BLOCK_BYTES_MAX, Block, TopicName};
use crate::patterns::request_acknowledge;
use collect::{Collected, collect};
pub(super) use one_way::one_way;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishQuery {
    until: Option<String>,
}

/// Publishes one message, or many, and answers when they are safe.
pub(super) async fn publish(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let begun = Instant::now();
    // A stop waits until every accepted message is answered.
    let _open = edge.publishing.subscribe();
    check_running(&edge)?;
    let name = topic_name(&path)?;
    let query: PublishQuery = query(&request)?;
    let until = until(query.until.as_deref())?;
    let preference = Preference::of(&request)?;
    if faults::fails(Seam::HandlerPublishing) {
        return Err(Problem::new(Code::Internal, "planned fault"));
    }
    let body = body::read(&edge, &request, payload, Wait::of(&edge)).await?;
    let Collected { block, checked, one } = collect(&edge, &request, &name, &body.bytes)?;
    let stored = match body.admit(block).await? {
        Some(block) => {
            let span = block.trace().map_or_else(
                Span::none,
                |trace| tracing::debug_span!("publish", trace_id = trace.trace_id(), topic = %name),
            );
            Some(store(&edge, &name, block, begun).instrument(span).await)
        }
        None => None,
    };
    if !one {
        return Ok(answer::many(&edge, checked, stored));
    }
    let stored = stored.transpose()?.ok_or_else(collect::nothing)?;
    let part = stored.parts.first().ok_or_else(collect::nothing)?;
    answer::one(&edge, part, until, (preference, Link::of(&request))).await
}

fn check_running(edge: &Edge) -> Result<(), Problem> {
    match edge.is_draining() {
        true => Err(Problem::new(Code::Draining, "take your message to another node")),
        false => Ok(()),
    }
}

/// The results of a request's messages. They are one block, unless that is too large to be stored
/// as a whole.
struct Stored {
    /// The parts that are stored.
    parts: Vec<Part>,
    /// Why the messages behind them are not, if so.
    refused: Option<Problem>,
}

struct Part {
    /// Another one than the part's before it, if that was deleted meanwhile.
    topic: Arc<TopicHandle>,
    /// How many messages it had.
    count: u32,
    appended: Appended,
}

async fn store(
    edge: &Edge,
    name: &TopicName,
    block: Block,
    begun: Instant,
) -> Result<Stored, Problem> {
    let (mut parts, mut refused) = (Vec::new(), None);
    for part in block.split(BLOCK_BYTES_MAX) {
        let (count, bytes) = (part.count(), part.body().len() as u64);
        match request_acknowledge::publish_to(&edge.topics, name, part).await {
            Ok((topic, appended)) => parts.push(Part { topic, count, appended }),
            Err(error) if parts.is_empty() => return Err(error.into()),
            Err(error) => {
                refused = Some(error.into());
                break;
            }
        }
        metrics::passed(Way::Http, count.into(), bytes);
    }
    metrics::acknowledged(Way::Http, begun.elapsed());
    Ok(Stored { parts, refused })
}
