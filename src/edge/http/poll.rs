//! `GET /v1/topics/{topic}/messages`: reading, where the client keeps its place.
//!
//! The first page decides: what fits one is answered whole; a longer answer is streamed a page at
//! a time, as the client takes it, so that it never stands in memory as a whole.

use std::time::Duration;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;

use super::parameters::{header, number, query, start};
use super::topic_name;
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::edge::wire::{Budget, Page};
use crate::model::TopicId;
use crate::patterns::publish_subscribe::{self, Start};
use crate::queue::{ReadError, ReadLimits};

/// Stored bytes of a page.
const PAGE_BYTES: u64 = 256 * 1024;

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
    let topic = edge.supervisor.topic(&name).ok_or_else(|| Problem::no_topic(&name))?;
    let from = from.resolve(&edge.queue, &topic).await?;
    let limits = ReadLimits { messages: max, bytes: max_bytes.min(PAGE_BYTES) };
    let wait = Duration::from_millis(wait_ms);
    let draining = edge.draining.clone();
    let blocks = publish_subscribe::poll(&edge.queue, &topic, from, limits, wait, draining).await?;
    let mut budget = Budget::new(max, max_bytes);
    let page = budget.page(&blocks, from, PAGE_BYTES, &edge.receipts)?;

    let extent = edge.queue.extent(topic.id());
    let (first, head) = extent.map_or((from, from), |extent| (extent.first, extent.head));
    let epoch = topic.record().epoch.0;
    let opening =
        format!(r#"{{"topic":"{name}","epoch":{epoch},"first":{first},"head":{head},"messages":["#);
    let read_to = page.next.unwrap_or(from);
    let whole = page.last || page.next.is_none() || read_to >= head;
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, "application/json"));
    if whole {
        let closing = closing(&edge, topic.id(), from, read_to);
        return Ok(response.body(format!("{opening}{}{closing}", page.json)));
    }
    let begun = format!("{opening}{}", page.json);
    let rest = Rest { edge, topic: topic.id(), from, next: read_to, budget };
    let pieces = stream::unfold((Some(begun), Some(rest)), |(begun, rest)| async {
        match (begun, rest) {
            (Some(begun), rest) => Some((Ok(Bytes::from(begun)), (None, rest))),
            (None, Some(rest)) => {
                let (piece, rest) = rest.piece().await;
                Some((piece, (None, rest)))
            }
            (None, None) => None,
        }
    });
    Ok(response.streaming(Box::pin(pieces)))
}

/// The end of an answer that was read from one offset up to another: the gaps in between, and
/// where to go on, which is behind a gap that follows.
fn closing(edge: &Edge, topic: TopicId, from: u64, read_to: u64) -> String {
    let mut next = read_to;
    let mut passed = Vec::new();
    for gap in edge.queue.gaps(topic) {
        if gap.contains(next) {
            next = gap.end();
        }
        if gap.to >= from && gap.from < next {
            passed.push(gap);
        }
    }
    if passed.is_empty() {
        return format!(r#"],"next":{next}}}"#);
    }
    let gaps = serde_json::to_string(&passed).expect("gaps are plain data");
    format!(r#"],"gaps":{gaps},"next":{next}}}"#)
}

/// What is still to be read and written of an answer.
struct Rest {
    edge: Data<Edge>,
    topic: TopicId,
    from: u64,
    next: u64,
    budget: Budget,
}

impl Rest {
    /// The next piece of the body, and what comes after it.
    async fn piece(mut self) -> (Result<Bytes, Problem>, Option<Self>) {
        match self.page().await {
            Ok(Page { json, next: Some(next), last: false }) => {
                self.next = next;
                (Ok(Bytes::from(format!(",{json}"))), Some(self))
            }
            Ok(page) => {
                let comma = if page.next.is_some() { "," } else { "" };
                let read_to = page.next.unwrap_or(self.next);
                let end = closing(&self.edge, self.topic, self.from, read_to);
                (Ok(Bytes::from(format!("{comma}{}{end}", page.json))), None)
            }
            // The connection breaks off, since the status has been sent already.
            Err(problem) => (Err(problem), None),
        }
    }

    async fn page(&mut self) -> Result<Page, Problem> {
        let limits =
            ReadLimits { messages: self.budget.messages, bytes: self.budget.bytes.min(PAGE_BYTES) };
        let read = self.edge.queue.read(self.topic, self.next, limits).await;
        let blocks = match read {
            // What was given so far is right, and says where to go on: that will tell.
            Err(ReadError::Gone { .. } | ReadError::NoSuchTopic(_) | ReadError::Damaged(_)) => {
                Vec::new()
            }
            other => other?,
        };
        Ok(self.budget.page(&blocks, self.next, PAGE_BYTES, &self.edge.receipts)?)
    }
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
