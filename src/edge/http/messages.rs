//! `/v1/topics/{topic}/messages`: publishing and polling.

use std::time::Duration;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::parameters::{number, query, start};
use super::{body, topic_name};
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::edge::wire;
use crate::model::{BlockBuilder, Receipt, Record};
use crate::patterns::publish_subscribe::{self, Start};
use crate::patterns::request_acknowledge;
use crate::queue::ReadLimits;

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
    let content_type =
        header(&request, CONTENT_TYPE.as_str())?.unwrap_or("application/octet-stream");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if RESERVED_FORMS.contains(&essence.as_str()) {
        let why = format!("`{essence}` is not taken yet; use a raw body or {BATCH_JSON}");
        return Err(Problem::new(Code::UnsupportedMediaType, why));
    }
    // The permit is held until the answer.
    let body = body::read(&edge, &request, payload).await?;
    let topic = edge.supervisor.ensure_topic(&name).await?;
    let answer = if essence == BATCH_JSON {
        publish_batch(&edge, &topic, &body.bytes).await
    } else {
        publish_raw(&edge, &topic, &request, content_type, &body.bytes).await
    };
    drop(body.permit);
    answer
}

async fn publish_raw(
    edge: &Edge,
    topic: &TopicHandle,
    request: &HttpRequest,
    content_type: &str,
    body: &[u8],
) -> Result<HttpResponse, Problem> {
    let settings = topic.settings();
    wire::check_payload(content_type, body, settings.message_bytes_max)?;
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
    let mut builder = BlockBuilder::default();
    builder.push(&Record {
        key: header(request, "weir-key")?,
        message_id: header(request, "idempotency-key")?,
        attributes,
        ttl_ms: ttl_ms.transpose()?,
        ..Record::of(content_type, body)
    })?;
    let Some(block) = builder.finish() else { return Err(internal("an empty block")) };
    let appended = request_acknowledge::publish(topic, block).await?;
    let offset = appended.base_offset;
    let receipt = edge.receipts.seal(Receipt { topic: topic.id(), sequence: offset });
    Ok(HttpResponse::Accepted().insert_header((LOCATION, format!("/v1/receipts/{receipt}"))).json(
        json!({
            "receipt": receipt,
            "topic": topic.name(),
            "stage": "logged",
            "ack_level": settings.ack_level,
            "loss_bound_ms": settings.loss_bound_ms(),
            "offset": offset,
            "duplicate": false,
        }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// All messages that can be taken go into one block; the others are answered one by one.
async fn publish_batch(
    edge: &Edge,
    topic: &TopicHandle,
    body: &[u8],
) -> Result<HttpResponse, Problem> {
    let batch: Batch<'_> =
        serde_json::from_slice(body).map_err(|error| Problem::invalid("messages", error))?;
    if batch.messages.is_empty() {
        return Err(Problem::invalid("messages", "must hold at least one message"));
    }
    let message_bytes_max = topic.settings().message_bytes_max;
    let mut builder = BlockBuilder::default();
    let checked: Vec<Result<(), Problem>> = batch
        .messages
        .iter()
        .map(|raw| {
            wire::message_from(raw.get(), wire::Sender::Request)?
                .push_to(&mut builder, message_bytes_max)
        })
        .collect();
    let stored = match builder.finish() {
        Some(block) => Some(request_acknowledge::publish(topic, block).await),
        None => None,
    };
    let mut offsets = stored.iter().flatten().flat_map(|appended| appended.base_offset..);
    let failed: Option<Problem> = match stored.as_ref() {
        Some(Err(error)) => Some(error.clone().into()),
        _ => None,
    };
    let outcomes: Vec<Result<u64, Problem>> = checked
        .into_iter()
        .map(|checked| {
            checked?;
            match (&failed, offsets.next()) {
                (None, Some(offset)) => Ok(offset),
                (Some(problem), _) => Err(problem.clone()),
                (None, None) => Err(internal("a message without an offset")),
            }
        })
        .collect();
    Ok(batch_answer(edge, topic, outcomes))
}

fn batch_answer(
    edge: &Edge,
    topic: &TopicHandle,
    outcomes: Vec<Result<u64, Problem>>,
) -> HttpResponse {
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let rejected = outcomes.len() - accepted;
    let first_error = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    let mut response = match first_error {
        Some(problem) if accepted == 0 => HttpResponse::build(problem.status()),
        _ => HttpResponse::Accepted(),
    };
    let results: Vec<Value> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(offset) => {
                let receipt = Receipt { topic: topic.id(), sequence: *offset };
                let receipt = edge.receipts.seal(receipt);
                json!({ "receipt": receipt, "offset": offset, "duplicate": false })
            }
            Err(problem) => json!({ "error": problem }),
        })
        .collect();
    response.json(json!({ "accepted": accepted, "rejected": rejected, "results": results }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PollQuery {
    from: Option<String>,
    max: Option<String>,
    max_bytes: Option<String>,
    wait_ms: Option<String>,
}

/// Reads messages, waiting a while where there are none yet.
pub(super) async fn poll(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let name = topic_name(&path)?;
    let query: PollQuery = query(&request)?;
    let from = start(query.from.as_deref(), Start::Earliest)?;
    let max = number("max", query.max.as_deref(), 1..=10_000, 100)?;
    let max_bytes = number("max_bytes", query.max_bytes.as_deref(), 1..=64 << 20, 1 << 20)?;
    let wait_ms = number("wait_ms", query.wait_ms.as_deref(), 0..=30_000, 0)?;
    accepts_json(&request)?;
    let topic = edge
        .supervisor
        .topic(&name)
        .ok_or_else(|| Problem::new(Code::TopicNotFound, format!("there is no topic `{name}`")))?;
    let from = from.resolve(&edge.queue, &topic).await?;
    let blocks = publish_subscribe::poll(
        &edge.queue,
        &topic,
        from,
        ReadLimits { messages: max, bytes: max_bytes },
        Duration::from_millis(wait_ms),
        edge.draining.clone(),
    )
    .await?;
    let gathered = wire::gather(&blocks, from, max, max_bytes, &edge.receipts)?;
    let extent = edge.queue.extent(topic.id());
    let (first, head) = extent.map_or((from, from), |extent| (extent.first, extent.head));
    let body = format!(
        r#"{{"topic":"{name}","epoch":{},"first":{first},"head":{head},"next":{},"messages":[{}]}}"#,
        topic.record().epoch.0,
        gathered.next.unwrap_or(from),
        gathered.json,
    );
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body))
}

fn accepts_json(request: &HttpRequest) -> Result<(), Problem> {
    let Some(accept) = header(request, ACCEPT.as_str())? else { return Ok(()) };
    let wanted = |range: &str| {
        let essence = range.split(';').next().unwrap_or_default().trim();
        matches!(essence, "*/*" | "application/*" | "application/json" | "")
    };
    if accept.split(',').any(wanted) {
        return Ok(());
    }
    Err(Problem::new(Code::NotAcceptable, "only application/json can be had here"))
}

/// A header as text.
fn header<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Problem::invalid(name, "the header must be UTF-8")),
    }
}

fn internal(what: &str) -> Problem {
    Problem::new(Code::Internal, what)
}
