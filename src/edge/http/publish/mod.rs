//! Publishing over HTTP: `POST /v1/topics/{topic}/messages` and `…/oneway`.
//!
//! `collect` makes a block of a body in any of its forms, `answer` says what became of it.

mod answer;
mod collect;

use std::sync::Arc;
use std::time::Instant;

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use tracing::{Instrument, Span};

use super::body::{self, Wait};
use super::parameters::{NoQuery, query};
use super::topic_name;
use super::waiting::{Preference, until};
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::faults::{self, Seam};
use crate::metrics::{self, Way};
use crate::model::{BLOCK_BYTES_MAX, Block, TopicName};
use crate::patterns::{one_way, request_acknowledge};
use crate::topics::Appended;
use collect::{Collected, collect};

/// What a one-way block costs the byte budget beside its bytes: a task and a mailbox's entry.
const ONE_WAY_OVERHEAD_BYTES: usize = 1024;

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
    // A stop waits until what was taken is answered.
    let _open = edge.publishing.subscribe();
    let name = accepted(&edge, &path)?;
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
    let Stored { topic, parts, .. } = stored.transpose()?.ok_or_else(collect::nothing)?;
    let (_, appended) = parts.first().ok_or_else(collect::nothing)?;
    answer::one(&edge, &topic, appended, until, preference).await
}

fn accepted(edge: &Edge, path: &str) -> Result<TopicName, Problem> {
    if edge.is_draining() {
        return Err(Problem::new(Code::Draining, "take your message to another node"));
    }
    topic_name(path)
}

/// What became of a request's messages. They are one block, unless that is too large to be stored as
/// a whole.
struct Stored {
    topic: Arc<TopicHandle>,
    /// The parts that are stored, with how many messages each had.
    parts: Vec<(u32, Appended)>,
    /// Why the messages behind them are not, if so.
    refused: Option<Problem>,
}

async fn store(
    edge: &Edge,
    name: &TopicName,
    block: Block,
    begun: Instant,
) -> Result<Stored, Problem> {
    let topic = edge.supervisor.ensure_topic(name).await?;
    let (mut parts, mut refused) = (Vec::new(), None);
    for part in block.split(BLOCK_BYTES_MAX) {
        let (messages, bytes) = (part.count(), part.body().len() as u64);
        match request_acknowledge::publish(&topic, part).await {
            Ok(appended) => parts.push((messages, appended)),
            Err(error) if parts.is_empty() => return Err(error.into()),
            Err(error) => {
                refused = Some(error.into());
                break;
            }
        }
        metrics::passed(Way::Http, messages.into(), bytes);
    }
    metrics::acknowledged(Way::Http, begun.elapsed());
    Ok(Stored { topic, parts, refused })
}

/// Takes messages that nobody waits for: answered when they have been read, whatever becomes of
/// them.
pub(super) async fn one_way(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let name = accepted(&edge, &path)?;
    let policy = edge.supervisor.topic_policy();
    if !policy.auto_create && edge.supervisor.directory().topic(&name).is_none() {
        return Err(Problem::no_topic(&name));
    }
    let body = match body::read(&edge, &request, payload, Wait::none(&edge)).await {
        // The budget is spent: this is loss that was allowed.
        Err(problem) if problem.code() == Code::Overloaded => {
            metrics::one_way_dropped(1);
            return Ok(HttpResponse::NoContent().finish());
        }
        body => body?,
    };
    let Collected { block, checked, one } = collect(&edge, &request, &name, &body.bytes)?;
    drop(body);
    let refused = checked.iter().filter(|checked| checked.is_err()).count() as u64;
    if let (true, Some(Err(problem))) = (one || block.is_none(), checked.into_iter().next()) {
        return Err(problem);
    }
    metrics::one_way_dropped(refused);
    let Some(block) = block else { return Err(collect::nothing()) };
    let messages = u64::from(block.count());
    let bytes = block.body().len() + ONE_WAY_OVERHEAD_BYTES;
    match edge.admission.try_admit(bytes) {
        None => metrics::one_way_dropped(messages),
        Some(permit) => {
            let sent = async move {
                let Ok(topic) = edge.supervisor.ensure_topic(&name).await else {
                    return metrics::one_way_dropped(messages);
                };
                let (stored, bytes) = one_way::send(&topic, block).await;
                metrics::passed(Way::OneWay, stored, bytes);
                metrics::one_way_dropped(messages - stored);
                drop(permit);
            };
            actix_web::rt::spawn(sent);
        }
    }
    Ok(HttpResponse::NoContent().finish())
}
