//! WebSocket: the only place that knows actix-web-actors.
//!
//! That crate is deprecated and has holes (DESIGN §5), which are closed here: `guard` stands
//! before its reader, which would buffer without bound; `fragments` puts messages together within
//! limits; `session` keeps what both kinds of session have in common.
//!
//! Invariants: a session is the connection's response body and so never restarts; it stops
//! reading once its credit is spent (the frames in hand then are the most it keeps beyond that),
//! and nothing is written to it while its client does not read.

mod fragments;
mod guard;
mod producer;
mod session;
mod tail;

use actix_web::http::header::SEC_WEBSOCKET_PROTOCOL;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws;
use serde::Deserialize;

use self::guard::FrameGuard;
use self::producer::{Acks, Named, ProducerSession};
use self::session::{Door, Session};
use self::tail::TailSession;
use super::Edge;
use super::error::{Code, Problem};
use super::http::parameters::{query, start};
use crate::model::TopicName;
use crate::patterns::publish_subscribe::Start;

/// The subprotocol spoken where none is asked for.
const PROTOCOL: &str = "weir.v1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProducerQuery {
    acks: Option<String>,
    producer: Option<String>,
}

/// `GET /v1/topics/{topic}/producer`
pub(super) async fn open_producer(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let query: ProducerQuery = query(&request)?;
    let acks = match query.acks.as_deref() {
        None | Some("each") => Acks::Each,
        Some("range") => Acks::Range,
        Some("none") => Acks::None,
        Some(_) => return Err(Problem::invalid("acks", "must be `each`, `range` or `none`")),
    };
    // Names of producers follow the rules for all names.
    let producer = query.producer.as_deref().map(TopicName::new).transpose()?;
    let name = checked(&edge, &path, &request)?;
    let topic = edge.supervisor.ensure_topic(&name).await?;
    let named = match producer {
        Some(name) => {
            let resume_after = edge.supervisor.last_id(&topic, name.as_str()).await?;
            Some(Named { name: name.as_str().into(), resume_after })
        }
        None => None,
    };
    let session = |door| ProducerSession::new(edge.clone(), topic, acks, named, door);
    upgrade(&edge, session, &request, payload)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TailQuery {
    from: Option<String>,
}

/// `GET /v1/topics/{topic}/tail`
pub(super) async fn open_tail(
    edge: Data<Edge>,
    path: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let query: TailQuery = query(&request)?;
    let from = start(query.from.as_deref(), Start::Latest)?;
    let name = checked(&edge, &path, &request)?;
    let topic = edge.supervisor.ensure_topic(&name).await?;
    // Where "latest" is has to be settled before the client is told that it is connected.
    let from = from.resolve(&edge.queue, &topic).await?;
    let head = edge.queue.extent(topic.id()).map_or(0, |extent| extent.head);
    if from > head {
        return Err(Problem::invalid("from", format!("the next message will be {head}")));
    }
    let session = |door| TailSession::new(edge.clone(), topic, from, door);
    upgrade(&edge, session, &request, payload)
}

/// What both sockets ask before anything is created.
fn checked(edge: &Edge, path: &str, request: &HttpRequest) -> Result<TopicName, Problem> {
    if edge.is_draining() {
        return Err(Problem::new(Code::Draining, "connect to another node"));
    }
    let name = TopicName::new(path)?;
    ws::handshake(request).map_err(|error| Problem::invalid("Upgrade", error))?;
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
    let speaks = |offered: &str| offered.split(',').any(|protocol| protocol.trim() == PROTOCOL);
    if offered.is_some_and(|offered| !offered.to_str().is_ok_and(speaks)) {
        let why = format!("this broker speaks {PROTOCOL}");
        return Err(Problem::invalid("Sec-WebSocket-Protocol", why));
    }
    Ok(name)
}

fn upgrade<S: Session>(
    edge: &Edge,
    session: impl FnOnce(Door) -> S,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let door = Door::new(edge);
    let guarded = FrameGuard::new(payload, door.budget());
    ws::WsResponseBuilder::new(session(door), request, guarded)
        .frame_size(edge.limits.frame_bytes_max)
        .protocols(&[PROTOCOL])
        .start()
        .map_err(|error| Problem::invalid("Upgrade", error))
}
