//! `POST /v1/topics/{topic}/messages`: publishing one message, or a batch.

use std::fmt::Write;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::body::{self, Body};
use super::parameters::{NoQuery, header, query};
use super::topic_name;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::edge::wire::{self, RawMessages};
use crate::faults::{self, Seam};
use crate::journal::{Appended, Exception, Outcome};
use crate::model::{BlockBuilder, Receipt, Record, TopicName};
use crate::patterns::request_acknowledge;

const BATCH_JSON: &str = "application/vnd.weir.messages+json";
/// Forms of a body that API.md defines and this broker does not take yet; stored as one raw
/// message they would change their meaning later.
const RESERVED_FORMS: [&str; 2] = ["application/x-ndjson", "application/vnd.weir.messages+msgpack"];

/// Publishes one raw message, or a JSON batch.
pub(super) async fn publish(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    if edge.is_draining() {
        return Err(Problem::new(Code::Draining, "take your message to another node"));
    }
    let name = topic_name(&path)?;
    let NoQuery {} = query(&request)?;
    faults::reach(Seam::HandlerPublishing);
    let content_type =
        header(&request, CONTENT_TYPE.as_str())?.unwrap_or("application/octet-stream");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if RESERVED_FORMS.contains(&essence.as_str()) {
        let why = format!("`{essence}` is not taken yet; use a raw body or {BATCH_JSON}");
        return Err(Problem::new(Code::UnsupportedMediaType, why));
    }
    let body = body::read(&edge, &request, payload).await?;
    // What can't be taken creates no topic either.
    let settings = match edge.supervisor.directory().topic(&name) {
        Some(topic) => topic.settings(),
        None => edge.supervisor.topic_policy().defaults,
    };
    let mut builder = edge.block_builder();
    if essence != BATCH_JSON {
        add_raw(&mut builder, &request, content_type, &body.bytes, settings.message_bytes_max)?;
        let (topic, appended) = store(&edge, &name, builder, body).await?;
        return raw_answer(&edge, &topic, &appended);
    }
    let RawMessages(messages) = RawMessages::in_batch(&body.bytes, edge.limits.batch_messages_max)?;
    let checked: Vec<Result<(), Problem>> = messages
        .into_iter()
        .map(|raw| {
            wire::message_from(raw, wire::Sender::Request)?
                .push_to(&mut builder, settings.message_bytes_max)
        })
        .collect();
    let stored = match builder.count() {
        0 => None,
        _ => Some(store(&edge, &name, builder, body).await),
    };
    Ok(batch_answer(&edge, checked, stored))
}

/// Stores what was collected, and holds the body's bytes against the budget until it is.
async fn store(
    edge: &Edge,
    name: &TopicName,
    mut builder: BlockBuilder,
    body: Body,
) -> Result<(Arc<TopicHandle>, Appended), Problem> {
    let block = builder.finish().ok_or_else(|| Problem::new(Code::Internal, "an empty block"))?;
    let topic = edge.supervisor.ensure_topic(name).await?;
    let appended = request_acknowledge::publish(&topic, block.charged(body.permit)).await?;
    Ok((topic, appended))
}

fn add_raw(
    builder: &mut BlockBuilder,
    request: &HttpRequest,
    content_type: &str,
    body: &[u8],
    message_bytes_max: usize,
) -> Result<(), Problem> {
    wire::check_payload(content_type, body, message_bytes_max)?;
    let ttl_ms = header(request, "weir-ttl-ms")?.map(|text| {
        text.parse().map_err(|_| Problem::invalid("Weir-Ttl-Ms", "must be a whole number"))
    });
    let mut attributes = Vec::new();
    for name in request.headers().keys() {
        if let Some(attribute) = name.as_str().strip_prefix("weir-attr-") {
            attributes.extend(header(request, name.as_str())?.map(|value| (attribute, value)));
        }
    }
    attributes.sort_unstable();
    builder.push(&Record {
        key: header(request, "weir-key")?,
        message_id: header(request, "idempotency-key")?,
        attributes,
        ttl_ms: ttl_ms.transpose()?,
        ..Record::of(content_type, body)
    })?;
    Ok(())
}

fn raw_answer(
    edge: &Edge,
    topic: &TopicHandle,
    appended: &Appended,
) -> Result<HttpResponse, Problem> {
    let outcome = appended.outcomes().next();
    let (offset, duplicate) = match outcome {
        Some(Outcome::Stored(offset)) => (offset, false),
        Some(Outcome::Not(Exception::Duplicate(Some(offset)))) => (offset, true),
        _ => return Err(Problem::message_id_conflict()),
    };
    let receipt = edge.receipts.seal(Receipt { topic: topic.id(), sequence: offset });
    let mut response = HttpResponse::Accepted();
    response.insert_header((LOCATION, format!("/v1/receipts/{receipt}")));
    Ok(response.json(json!({
        "receipt": receipt,
        "topic": topic.name(),
        "stage": "logged",
        "ack_level": appended.worth.ack_level,
        "loss_bound_ms": appended.worth.loss_bound_ms,
        "offset": offset,
        "duplicate": duplicate,
    })))
}

/// One result a message, in the order sent: its own fault, or what became of the block that all
/// the others went into.
fn batch_answer(
    edge: &Edge,
    checked: Vec<Result<(), Problem>>,
    stored: Option<Result<(Arc<TopicHandle>, Appended), Problem>>,
) -> HttpResponse {
    let (mut accepted, mut rejected) = (0u64, 0u64);
    let mut first_error = None;
    // Written out at once: a tree of all results would cost many times their text.
    let mut results = String::new();
    let mut outcomes =
        stored.iter().filter_map(|stored| stored.as_ref().ok()).flat_map(|(_, a)| a.outcomes());
    for fault in checked {
        results.push_str(if results.is_empty() { "" } else { "," });
        let problem = match (fault, &stored) {
            (Ok(()), Some(Ok((topic, _)))) => {
                let (offset, duplicate) = match outcomes.next() {
                    Some(Outcome::Stored(offset)) => (Some(offset), false),
                    Some(Outcome::Not(Exception::Duplicate(offset))) => (offset, true),
                    _ => (None, false),
                };
                if let Some(sequence) = offset {
                    let receipt = edge.receipts.seal(Receipt { topic: topic.id(), sequence });
                    accepted += 1;
                    // Writing to a String does not fail.
                    let _ = write!(
                        results,
                        r#"{{"receipt":"{receipt}","offset":{sequence},"duplicate":{duplicate}}}"#
                    );
                    continue;
                }
                Problem::message_id_conflict()
            }
            (Ok(()), Some(Err(problem))) => problem.clone(),
            (Ok(()), None) => Problem::new(Code::Internal, "the message was in no block"),
            (Err(problem), _) => problem,
        };
        rejected += 1;
        let _ = write!(results, r#"{{"error":{}}}"#, problem.to_json());
        first_error.get_or_insert(problem);
    }
    let mut response = match first_error {
        Some(problem) if accepted == 0 => HttpResponse::build(problem.status()),
        _ => HttpResponse::Accepted(),
    };
    response
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(format!(r#"{{"accepted":{accepted},"rejected":{rejected},"results":[{results}]}}"#))
}
