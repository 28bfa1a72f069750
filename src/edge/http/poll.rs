//! `GET /v1/topics/{topic}/messages`: reading, where the client keeps its position.
//!
//! An answer that fits one piece is sent whole; a longer one is sent a piece at a time, as the
//! client takes it, so that it is never in memory as a whole. Forms that name the next position at
//! their beginning are planned first, and are one page, however much was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::SizedStream;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream;
use rmp::encode::{write_array_len, write_map_len, write_str, write_uint};
use serde::Deserialize;

use super::pages::{Broken, Pages, Piece};
use super::parameters::{accepted, number, query, start};
use super::topic_name;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::admission::Line;
use crate::edge::connections::{Connection, Link};
use crate::edge::error::{Code, Problem};
use crate::edge::wire::{Form, Gaps, ReadBudget, plan, to_msgpack};
use crate::metrics::Way;
use crate::model::{Gap, Position};
use crate::patterns::publish_subscribe::{self, Beginning, Start};
use crate::queue::{ReadError, ReadLimits};

/// Stored bytes of a planned answer, and of one planning step.
const PLANNED_BYTES: u64 = 1024 * 1024;
const PLANNED_AT_ONCE_BYTES: u64 = 256 * 1024;

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
    let topic = edge.topics.find(&name).ok_or_else(|| Problem::no_topic(&name))?;
    let Beginning { offset: from, gap } = from.resolve(&edge.queue, &topic).await?;
    let wait = Duration::from_millis(wait_ms);
    // A client that has gone is not waited for; a half-closed one gets what is available.
    let waited = await_first(&edge, &topic, from, wait);
    Link::of(&request).unless_ended(waited).await.transpose()?;
    let connection = request.conn_data::<Connection>().and_then(Connection::reading_end);
    let taker = edge.outgoing.taker(connection, Line::Requests);
    let mut pages = Pages::new(&edge, &topic, (form, Gaps::PassOver, Way::Poll), from, taker);
    pages.budget = ReadBudget::new(max, max_bytes);
    let (gaps, extent) = (gap.into_iter().collect(), (from, from));
    let reading = Reading { edge, topic, form, pages, gaps, extent };
    match form {
        Form::MessagePack | Form::Lines => reading.planned().await,
        Form::Json | Form::Events => reading.json().await,
    }
}

/// Waits for the first message that can be sent, if there is none yet.
async fn await_first(
    edge: &Data<Edge>,
    topic: &TopicHandle,
    from: u64,
    wait: Duration,
) -> Result<(), Problem> {
    let deadline = Instant::now() + wait;
    let mut next = from;
    while !wait.is_zero() {
        let left = deadline.saturating_duration_since(Instant::now());
        let draining = edge.draining.clone();
        let blocks =
            publish_subscribe::poll(&edge.queue, topic, next, LOOK_AHEAD, left, draining).await?;
        let mut budget = ReadBudget::new(1, u64::MAX);
        let found = plan(&mut budget, &blocks, next, u64::MAX, edge.queue.age())?;
        match found.next {
            // Messages that have all expired are skipped.
            Some(behind) if found.messages == 0 => next = behind,
            _ => break,
        }
    }
    Ok(())
}

/// The client's most preferred form.
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
        let why = "application/json, application/x-ndjson and application/msgpack are supported";
        Problem::new(Code::NotAcceptable, why)
    })
}

/// How much is read in search of a message that can be sent.
const LOOK_AHEAD: ReadLimits = ReadLimits { messages: 100, bytes: 64 * 1024 };

/// An answer in the making.
struct Reading {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    form: Form,
    pages: Pages,
    gaps: Vec<Gap>,
    /// The topic's first offset and its head, as the answer has them.
    extent: (u64, u64),
}

impl Reading {
    /// The topic's extent now; an answer never continues beyond that.
    fn extent_now(&self) -> (u64, u64) {
        let (extent, next) = (self.edge.queue.extent(self.topic.id()), self.pages.next);
        let (first, head) = extent.map_or((next, 0), |extent| (extent.first, extent.head));
        (first, head.max(next))
    }

    /// Continues behind a gap that follows, if it ends at the head or before.
    fn behind_gap(&mut self, next: u64) -> u64 {
        let follows = |gap: &Gap| gap.contains(next) && gap.end() <= self.extent.1;
        let Some(gap) = self.edge.queue.gaps(self.topic.id()).into_iter().find(follows) else {
            return next;
        };
        self.note(Gap::before(next, gap.end()));
        gap.end()
    }

    /// The position that the client keeps, to continue there.
    fn position(&self, next: u64) -> Position {
        Position { epoch: self.topic.record().epoch, offset: next }
    }

    /// Notes gaps; one that goes on from one page to the next is one.
    fn note(&mut self, gaps: impl IntoIterator<Item = Gap>) {
        for gap in gaps {
            match self.gaps.last_mut() {
                Some(last) if last.end() == gap.from => last.to = gap.to,
                _ => self.gaps.push(gap),
            }
        }
    }

    /// The object, its messages last but for what is known only after them.
    async fn json(mut self) -> Result<HttpResponse, Problem> {
        self.extent = self.extent_now();
        let (first, head) = self.extent;
        self.pages.until = head;
        let (name, epoch) = (self.topic.name(), self.topic.record().epoch.0);
        let begun = format!(
            r#"{{"topic":"{name}","epoch":{epoch},"first":{first},"head":{head},"messages":["#
        );
        let mut response = HttpResponse::Ok();
        response.insert_header((CONTENT_TYPE, "application/json"));
        let piece = self.pages.piece().await?;
        Ok(self.answer(response, begun.into_bytes(), piece))
    }

    /// What is known before the messages, then the messages.
    async fn planned(mut self) -> Result<HttpResponse, Problem> {
        let from = self.pages.next;
        // Before the read: an answer without a message must not know of one.
        self.extent = self.extent_now();
        let (messages, next) = self.plan().await?;
        if messages > 0 {
            self.extent = self.extent_now();
        }
        let next = self.behind_gap(next);
        let (first, head) = self.extent;
        let head = head.max(next);
        let mut response = HttpResponse::Ok();
        let begun = if self.form == Form::Lines {
            positions(&mut response, first, head, self.position(next));
            response.insert_header((CONTENT_TYPE, "application/x-ndjson"));
            Vec::new()
        } else {
            response.insert_header((CONTENT_TYPE, "application/msgpack"));
            self.msgpack_head(&[("first", first), ("head", head), ("next", next)], messages)
        };
        self.pages.next = from;
        self.pages.until = next;
        self.pages.budget = ReadBudget::new(messages, u64::MAX);
        let piece = match messages {
            0 => Piece { last: true, ..Piece::default() },
            _ => self.pages.piece().await?,
        };
        Ok(self.answer(response, begun, piece))
    }

    /// How many messages there will be, and the position after them.
    async fn plan(&mut self) -> Result<(u64, u64), Problem> {
        let now = self.edge.queue.age();
        self.pages.now = Some(now);
        let mut budget = self.pages.budget;
        budget.bytes = budget.bytes.min(PLANNED_BYTES);
        let mut messages = 0;
        loop {
            let bytes = budget.bytes.min(PLANNED_AT_ONCE_BYTES);
            let limits = ReadLimits { messages: budget.messages, bytes };
            let blocks = match self.pages.planned_blocks(limits).await {
                // The planned part can be sent and names the next position: the next poll gets the
                // error.
                Err(_) if messages > 0 => break,
                read => read?,
            };
            let planned = plan(&mut budget, &blocks, self.pages.next, u64::MAX, now)?;
            messages += planned.messages;
            self.note(planned.gaps);
            self.pages.next = planned.next.unwrap_or(self.pages.next);
            if planned.last || planned.next.is_none() {
                break;
            }
        }
        Ok((messages, self.pages.next))
    }

    /// The same object as in JSON.
    fn msgpack_head(&self, places: &[(&str, u64); 3], messages: u64) -> Vec<u8> {
        let mut head = Vec::with_capacity(256);
        let gaps = u32::from(!self.gaps.is_empty());
        let mut write = || {
            write_map_len(&mut head, 4 + places.len() as u32 + gaps)?;
            write_str(&mut head, "topic")?;
            write_str(&mut head, self.topic.name().as_str())?;
            write_str(&mut head, "epoch")?;
            write_uint(&mut head, self.topic.record().epoch.0)?;
            for (name, number) in places {
                write_str(&mut head, name)?;
                write_uint(&mut head, *number)?;
            }
            let [.., (_, next)] = places;
            write_str(&mut head, "position")?;
            write_str(&mut head, &self.position(*next).to_string())?;
            if gaps > 0 {
                write_str(&mut head, "gaps")?;
                head.extend(to_msgpack(&self.gaps));
            }
            write_str(&mut head, "messages")?;
            write_array_len(&mut head, messages as u32).map(|_| ())
        };
        write().expect("a Vec takes everything");
        head
    }

    /// The answer with this beginning: whole if this is all, else piece by piece.
    fn answer(
        mut self,
        mut response: HttpResponseBuilder,
        mut begun: Vec<u8>,
        piece: Piece,
    ) -> HttpResponse {
        let last = piece.last;
        let mut first = self.finished(piece);
        if !begun.is_empty() {
            begun.extend_from_slice(&first);
            first = begun.into();
        }
        if last {
            let bytes = first.len() as u64;
            // The room is held until the connection has taken it.
            let whole = stream::unfold((Some(first), self), |(whole, reading)| async move {
                Some((Ok::<_, Problem>(whole?), (None, reading)))
            });
            return response.body(SizedStream::new(bytes, Box::pin(whole)));
        }
        let pieces = stream::unfold((Some(first), Some(self)), |(first, reading)| async move {
            let mut reading = reading?;
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                return Some((Ok(first), (None, Some(reading))));
            }
            let (piece, last) = reading.next_piece().await;
            // The connection breaks off after an error, since the status has been sent already.
            let last = last || piece.is_err();
            Some((piece, (None, (!last).then_some(reading))))
        });
        response.streaming(Box::pin(pieces))
    }

    /// The next piece that is not empty, and whether it is the last.
    async fn next_piece(&mut self) -> (Result<Bytes, Problem>, bool) {
        loop {
            let piece = match self.pages.piece().await {
                Ok(piece) => piece,
                // The pieces sent are valid and end with `next`: the next poll gets the error.
                Err(Broken::Read(
                    ReadError::Gone { .. } | ReadError::NoSuchTopic(_) | ReadError::Damaged(_),
                )) if self.form == Form::Json && self.pages.is_between_pages() => {
                    Piece { last: true, ..Piece::default() }
                }
                Err(error) => return (Err(error.into()), true),
            };
            let last = piece.last;
            let bytes = self.finished(piece);
            // An empty chunk would be the end.
            if last || !bytes.is_empty() {
                return (Ok(bytes), last);
            }
        }
    }

    /// The piece with what follows the messages, if it is the last one.
    fn finished(&mut self, piece: Piece) -> Bytes {
        self.note(piece.gaps);
        if !piece.last || self.form != Form::Json {
            return piece.bytes;
        }
        [&piece.bytes[..], self.closing().as_bytes()].concat().into()
    }

    fn closing(&mut self) -> String {
        let next = self.behind_gap(self.pages.next);
        let position = self.position(next);
        if self.gaps.is_empty() {
            return format!(r#"],"next":{next},"position":"{position}"}}"#);
        }
        let gaps = serde_json::to_string(&self.gaps).expect("gaps are plain data");
        format!(r#"],"gaps":{gaps},"next":{next},"position":"{position}"}}"#)
    }
}

fn positions(response: &mut HttpResponseBuilder, first: u64, head: u64, next: Position) {
    let numbers = [("weir-first", first), ("weir-head", head), ("weir-next", next.offset)];
    for (name, value) in numbers {
        response.insert_header((name, value));
    }
    response.insert_header(("weir-position", next.to_string()));
}
