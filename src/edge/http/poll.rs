//! `GET /v1/topics/{topic}/messages`: reading, where the client keeps its place.
//!
//! The first page decides: what fits one is answered whole; a longer JSON answer is streamed a page
//! at a time, as the client takes it, so that it never stands in memory as a whole. The other
//! forms say at their beginning where to go on, so they are one page, however much was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream;
use rmp::encode::{write_array_len, write_map_len, write_str, write_uint};
use serde::Deserialize;

use super::parameters::{accepted, number, query, start};
use super::topic_name;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::connections::Link;
use crate::edge::error::{Code, Problem};
use crate::edge::wire::{Form, Gaps, Page, ReadBudget, Shown, to_msgpack};
use crate::metrics::{self, Way};
use crate::model::{Gap, PlacedBlock};
use crate::patterns::publish_subscribe::{self, Start};
use crate::queue::{ReadError, ReadLimits};

/// Stored bytes of a piece of a JSON answer.
const PIECE_BYTES: u64 = 256 * 1024;
/// Stored bytes of an answer that can't be given piece by piece.
const WHOLE_BYTES: u64 = 1024 * 1024;

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
    let form = accepted_form(&request)?;
    let topic = edge.supervisor.topic(&name).ok_or_else(|| Problem::no_topic(&name))?;
    let from = from.resolve(&edge.queue, &topic).await?;
    let wait = Duration::from_millis(wait_ms);
    let budget = ReadBudget::new(max, max_bytes);
    let (gaps, extent) = (Vec::new(), (from, from));
    let mut reading = Reading { edge, topic, form, next: from, budget, gaps, extent };
    let page = reading.first_page(wait, Link::of(&request)).await?;
    Ok(match form {
        Form::MessagePack => reading.msgpack(page),
        Form::Lines => reading.lines(page),
        Form::Json | Form::Events => reading.json(page),
    })
}

/// The first form that the client likes best.
fn accepted_form(request: &HttpRequest) -> Result<Form, Problem> {
    let form = |range: &str| match range {
        "*/*" | "application/*" | "application/json" => Some(Form::Json),
        "application/x-ndjson" => Some(Form::Lines),
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
            Some(Form::MessagePack)
        }
        _ => None,
    };
    accepted(request, Form::Json, form).ok_or_else(|| {
        let why = "application/json, application/x-ndjson and application/msgpack can be had here";
        Problem::new(Code::NotAcceptable, why)
    })
}

/// An answer in the making.
struct Reading {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    form: Form,
    next: u64,
    budget: ReadBudget,
    gaps: Vec<Gap>,
    /// The topic's first offset and its head, as the answer says them.
    extent: (u64, u64),
}

impl Reading {
    fn page_bytes(&self) -> u64 {
        if self.form == Form::Json { PIECE_BYTES } else { WHOLE_BYTES }
    }

    fn limits(&self) -> ReadLimits {
        let bytes = self.budget.bytes.min(self.page_bytes());
        ReadLimits { messages: self.budget.messages, bytes }
    }

    /// The first messages there are; empty only where there are none up to the head.
    async fn first_page(&mut self, wait: Duration, link: Link) -> Result<Page, Problem> {
        let deadline = Instant::now() + wait;
        loop {
            // Before it is read: an answer without a message must not know of one.
            self.extent = self.extent_now();
            let (queue, draining) = (&self.edge.queue, self.edge.draining.clone());
            let (from, limits) = (self.next, self.limits());
            let left = deadline.saturating_duration_since(Instant::now());
            let read = publish_subscribe::poll(queue, &self.topic, from, limits, left, draining);
            // Who has gone is not waited for; who has only said its last word gets what is there.
            let Some(blocks) = link.unless_ended(read).await else { return Ok(Page::default()) };
            let page = self.take(&blocks?)?;
            if page.messages > 0 {
                self.extent = self.extent_now();
            }
            // Blocks whose messages have all expired are passed over.
            if page.messages > 0 || page.next.is_none() {
                return Ok(page);
            }
        }
    }

    /// The same of what follows, up to `head` and no further; none at the end.
    async fn next_page(&mut self, head: u64) -> Result<Option<Page>, Problem> {
        while self.next < head {
            let read = self.edge.queue.read(self.topic.id(), self.next, self.limits()).await;
            let mut blocks = match read {
                // What was given so far is right, and says where to go on: that will tell.
                Err(ReadError::Gone { .. } | ReadError::NoSuchTopic(_) | ReadError::Damaged(_)) => {
                    return Ok(None);
                }
                other => other?,
            };
            // The answer has said already where the topic ends.
            blocks.retain(|block| block.end_offset() <= head);
            let page = self.take(&blocks)?;
            if page.messages > 0 {
                return Ok(Some(page));
            }
            if page.last || page.next.is_none() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn take(&mut self, blocks: &[Arc<PlacedBlock>]) -> Result<Page, Problem> {
        let shown = Shown {
            form: self.form,
            gaps: Gaps::PassOver,
            page_bytes: self.page_bytes(),
            receipts: &self.edge.receipts,
            now: self.edge.queue.age(),
        };
        let mut page = shown.page(&mut self.budget, blocks, self.next)?;
        self.next = page.next.unwrap_or(self.next);
        for gap in page.gaps.drain(..) {
            match self.gaps.last_mut() {
                // A gap that goes on from one page to the next is one.
                Some(last) if last.end() == gap.from => last.to = gap.to,
                _ => self.gaps.push(gap),
            }
        }
        metrics::passed(Way::Poll, page.messages, page.body.len() as u64);
        Ok(page)
    }

    /// Where the topic begins and ends now; an answer never goes on beyond that.
    fn extent_now(&self) -> (u64, u64) {
        let extent = self.edge.queue.extent(self.topic.id());
        let (first, head) = extent.map_or((self.next, 0), |extent| (extent.first, extent.head));
        (first, head.max(self.next))
    }

    /// Goes on behind a gap that follows, if it ends at `head` or before.
    fn finish(&mut self, head: u64) {
        let follows = |gap: &Gap| gap.contains(self.next) && gap.end() <= head;
        if let Some(gap) = self.edge.queue.gaps(self.topic.id()).into_iter().find(follows) {
            self.gaps.extend(Gap::before(self.next, gap.end()));
            self.next = gap.end();
        }
    }

    /// The object, its messages last but for what is known only behind them.
    fn json(mut self, page: Page) -> HttpResponse {
        let (first, head) = self.extent;
        let (name, epoch) = (self.topic.name(), self.topic.record().epoch.0);
        let mut begun = format!(
            r#"{{"topic":"{name}","epoch":{epoch},"first":{first},"head":{head},"messages":["#
        )
        .into_bytes();
        begun.extend_from_slice(&page.body);
        let mut response = HttpResponse::Ok();
        response.insert_header((CONTENT_TYPE, "application/json"));
        if page.last || page.next.is_none() || self.next >= head {
            begun.extend_from_slice(self.closing(head).as_bytes());
            return response.body(begun);
        }
        let state = (Some(begun), Some(self));
        let pieces = stream::unfold(state, move |(begun, reading)| async move {
            match (begun, reading) {
                (Some(begun), reading) => Some((Ok(Bytes::from(begun)), (None, reading))),
                (None, Some(reading)) => {
                    let (piece, reading) = reading.piece(head).await;
                    Some((piece, (None, reading)))
                }
                (None, None) => None,
            }
        });
        response.streaming(Box::pin(pieces))
    }

    /// The next piece of a JSON answer, which is never empty, and what is left.
    async fn piece(mut self, head: u64) -> (Result<Bytes, Problem>, Option<Self>) {
        let page = match self.next_page(head).await {
            Ok(page) => page,
            // The connection breaks off, since the status has been sent already.
            Err(problem) => return (Err(problem), None),
        };
        let Some(page) = page else { return (Ok(self.closing(head).into()), None) };
        let mut piece = Vec::with_capacity(page.body.len() + 64);
        // A page before it had messages, else it would not have been answered piece by piece.
        piece.push(b',');
        piece.extend_from_slice(&page.body);
        if page.last || self.next >= head {
            piece.extend_from_slice(self.closing(head).as_bytes());
            return (Ok(piece.into()), None);
        }
        (Ok(piece.into()), Some(self))
    }

    fn closing(&mut self, head: u64) -> String {
        self.finish(head);
        let next = self.next;
        if self.gaps.is_empty() {
            return format!(r#"],"next":{next}}}"#);
        }
        let gaps = serde_json::to_string(&self.gaps).expect("gaps are plain data");
        format!(r#"],"gaps":{gaps},"next":{next}}}"#)
    }

    /// The messages alone; where they stand is said in headers.
    fn lines(mut self, page: Page) -> HttpResponse {
        let (first, head) = self.extent;
        self.finish(head);
        let mut response = HttpResponse::Ok();
        positions(&mut response, first, head, self.next);
        response.insert_header((CONTENT_TYPE, "application/x-ndjson")).body(page.body)
    }

    /// The same object as in JSON.
    fn msgpack(mut self, page: Page) -> HttpResponse {
        let (first, head) = self.extent;
        self.finish(head);
        let numbers = [
            ("epoch", u64::from(self.topic.record().epoch.0)),
            ("first", first),
            ("head", head),
            ("next", self.next),
        ];
        let mut body = Vec::with_capacity(page.body.len() + 256);
        let gaps = u32::from(!self.gaps.is_empty());
        let mut write = || {
            write_map_len(&mut body, 2 + numbers.len() as u32 + gaps)?;
            write_str(&mut body, "topic")?;
            write_str(&mut body, self.topic.name().as_str())?;
            for (name, number) in numbers {
                write_str(&mut body, name)?;
                write_uint(&mut body, number)?;
            }
            if gaps > 0 {
                write_str(&mut body, "gaps")?;
                body.extend(to_msgpack(&self.gaps));
            }
            write_str(&mut body, "messages")?;
            write_array_len(&mut body, page.messages as u32).map(|_| ())
        };
        write().expect("a Vec takes everything");
        body.extend_from_slice(&page.body);
        HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/msgpack")).body(body)
    }
}

fn positions(response: &mut HttpResponseBuilder, first: u64, head: u64, next: u64) {
    for (name, value) in [("weir-first", first), ("weir-head", head), ("weir-next", next)] {
        response.insert_header((name, value));
    }
}
