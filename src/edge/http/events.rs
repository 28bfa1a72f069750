//! `GET /v1/topics/{topic}/events`: a topic's messages as Server-Sent Events (HTML standard, 9.2).
//!
//! The stream is the response's body: it is polled when the connection has taken the last piece, so
//! a slow reader costs one page.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;

use super::pages::{Broken, Pages};
use super::parameters::{accepted, header, query, start};
use super::topic_name;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::admission::Line;
use crate::edge::connections::{Connection, Link};
use crate::edge::error::{Code, Problem};
use crate::edge::readers::Place;
use crate::edge::wire::{Form, Gaps};
use crate::metrics::Way;
use crate::model::{Gap, NoPosition, Position};
use crate::patterns::publish_subscribe::{self, Start};
use crate::queue::{ReadError, ReadLimits};

/// A comment is sent at least this often (API.md), for intermediaries that close silent
/// connections.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    from: Option<String>,
    /// For clients that can't set the header `Last-Event-ID`.
    #[serde(rename = "lastEventId")]
    last_event_id: Option<String>,
}

pub(super) async fn events(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if edge.is_draining() {
        return Err(Problem::new(Code::Draining, "connect to another node"));
    }
    let name = topic_name(&path)?;
    let query: EventsQuery = query(&request)?;
    let events =
        |range: &str| matches!(range, "*/*" | "text/*" | "text/event-stream").then_some(());
    accepted(&request, (), events)
        .ok_or_else(|| Problem::new(Code::NotAcceptable, "only text/event-stream is supported"))?;
    let start = start(query.from.as_deref(), Start::Latest)?;
    let given = |id: &&str| !id.is_empty();
    let in_header = header(&request, "last-event-id")?.filter(given);
    let in_query = query.last_event_id.as_deref().filter(given);
    let last = in_header.map(|id| ("Last-Event-ID", id));
    let last = last.or(in_query.map(|id| ("lastEventId", id)));
    let last = last.map(|(field, id)| last_seen(field, id)).transpose()?;
    let topic = edge.topics.ensure(&name).await?;
    let beginning = match last {
        None => start.resolve_within(&edge.queue, &topic).await?,
        Some(last) => {
            let next = Start::Position(last.next()).resolve_within(&edge.queue, &topic).await;
            match next {
                // No event has had that id.
                Err(ReadError::Ahead { .. }) => {
                    Start::Earliest.resolve(&edge.queue, &topic).await?
                }
                next => next?,
            }
        }
    };
    let next = beginning.offset;
    let (open, place) = (edge.sessions.subscribe(), edge.readers.open(topic.id(), next));
    let connection = request.conn_data::<Connection>().and_then(Connection::reading_end);
    let taker = edge.outgoing.taker(connection, Line::Requests);
    let pages = Pages::new(&edge, &topic, (Form::Events, Gaps::StopAt, Way::Events), next, taker);
    let link = Link::of(&request);
    let missed = beginning.gap;
    let events = Events { edge, topic, pages, missed, ended: false, place, link, _open: open };
    // The comment shows the client that it is connected.
    let pieces = stream::unfold((events, true), |(mut events, first)| async move {
        let piece = if first { Some(COMMENT) } else { events.piece().await };
        Some((Ok::<_, Problem>(piece?), (events, false)))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Proxies that collect answers (nginx) let this one through.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(pieces)))
}

const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The position of the event that a client saw last.
fn last_seen(field: &str, id: &str) -> Result<Position, Problem> {
    id.parse().map_err(|error: NoPosition| Problem::invalid(field, error))
}

struct Events {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    pages: Pages,
    /// What the client has missed before it begins, until that is sent.
    missed: Option<Gap>,
    ended: bool,
    place: Place,
    link: Link,
    /// Counts the stream as open until it is dropped.
    _open: watch::Receiver<()>,
}

impl Events {
    /// The next piece, once there is one; `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        if self.ended || self.edge.is_draining() {
            return None;
        }
        if let Some(Gap { from, to }) = self.missed.take() {
            return Some(format!("event: gap\ndata: {{\"from\":{from},\"to\":{to}}}\n\n").into());
        }
        if self.pages.is_between_pages() {
            match self.is_more().await {
                Ok(true) => {}
                Ok(false) if self.ended || self.edge.is_draining() => return None,
                Ok(false) => return Some(self.nothing()),
                Err(error) => return Some(self.error(&error.into())),
            }
        }
        let piece = match self.pages.piece().await {
            Ok(piece) => piece,
            Err(Broken::Read(ReadError::Gone { first })) if self.pages.is_between_pages() => {
                return Some(
                    Gap::before(self.pages.next, first).map_or(COMMENT, |gap| self.gap(gap)),
                );
            }
            Err(error) => return Some(self.error(&error.into())),
        };
        if let Some(gap) = piece.gaps.first() {
            return Some(self.gap(*gap));
        }
        self.place.moved(self.pages.next);
        // An empty piece would end the answer.
        Some(if piece.bytes.is_empty() { self.nothing() } else { piece.bytes })
    }

    /// There is something to read, now or after a wait.
    async fn is_more(&mut self) -> Result<bool, ReadError> {
        let extent = self.edge.queue.extent(self.topic.id());
        if extent.is_some_and(|extent| extent.head != self.pages.next) {
            return Ok(true);
        }
        self.pages.idle();
        let (queue, draining) = (&self.edge.queue, self.edge.draining.clone());
        let (next, wait) = (self.pages.next, COMMENT_INTERVAL);
        let limits = ReadLimits { messages: 1, bytes: 1 };
        let read = publish_subscribe::poll(queue, &self.topic, next, limits, wait, draining);
        // A stream whose client has gone releases its connection.
        match self.link.unless_ended(read).await {
            Some(read) => Ok(!read?.is_empty()),
            None => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    /// There is nothing to read: at the head, or before a gap that reaches up to it.
    fn nothing(&mut self) -> Bytes {
        let gaps = self.edge.queue.gaps(self.topic.id());
        let gap = gaps.into_iter().find(|gap| gap.contains(self.pages.next));
        let gap = gap.and_then(|gap| Gap::before(self.pages.next, gap.end()));
        gap.map_or(COMMENT, |gap| self.gap(gap))
    }

    fn gap(&mut self, gap: Gap) -> Bytes {
        self.pages.next = gap.end();
        self.place.moved(self.pages.next);
        let epoch = self.topic.record().epoch.0;
        let Gap { from, to } = gap;
        // With an id, so that a client that reconnects does not receive it again.
        format!("event: gap\nid: {epoch}-{to}\ndata: {{\"from\":{from},\"to\":{to}}}\n\n").into()
    }

    fn error(&mut self, problem: &Problem) -> Bytes {
        self.ended = true;
        format!("event: error\ndata: {}\n\n", problem.to_json()).into()
    }
}
