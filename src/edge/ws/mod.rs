//! WebSocket: the only module that uses actix-web-actors.
//!
//! That crate is deprecated and has holes (DESIGN §5), which are closed here: `guard` precedes its
//! reader, which would buffer without bound; `fragments` assembles messages within limits;
//! `session` has what both kinds of session have in common.
//!
//! Invariants: a session is the connection's response body and so never restarts; it stops reading
//! once its credit is spent (the frames in hand then are the most it keeps beyond that), and
//! nothing is written to it while its client does not read.

#[cfg(feature = "faults")]
mod echo;
mod ending;
mod fragments;
pub(crate) mod guard;
mod header;
mod producer;
mod pulse;
pub(crate) mod session;
pub(crate) mod tail;
mod unfinished;

use std::sync::Arc;

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
use super::connections::Connection;
use super::error::{Code, Problem};
use super::http::parameters::{list_header, query, start};
use crate::actors::directory::TopicHandle;
use crate::model::{AppendError, TopicName};
use crate::patterns::publish_subscribe::Start;
use crate::topics::Claimed;

/// A socket's subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Objects and arrays, in JSON or MessagePack; the default.
    V1,
    /// Each frame is one payload.
    RawV1,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::V1 => "weir.v1",
            Self::RawV1 => "weir.raw.v1",
        }
    }

    /// The first one of the client's that is supported.
    fn offered(request: &HttpRequest, spoken: &[Self]) -> Result<Self, Problem> {
        let Some(offered) = list_header(request, SEC_WEBSOCKET_PROTOCOL.as_str())? else {
            return Ok(Self::V1);
        };
        let known = |offered: &str| spoken.iter().find(|spoken| spoken.name() == offered.trim());
        offered.split(',').find_map(known).copied().ok_or_else(|| {
            let names: Vec<_> = spoken.iter().map(|spoken| spoken.name()).collect();
            let why = format!("supported: {}", names.join(", "));
            Problem::invalid("Sec-WebSocket-Protocol", why)
        })
    }
}

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
    let protocol = Protocol::offered(&request, &[Protocol::V1, Protocol::RawV1])?;
    let acks = match query.acks.as_deref() {
        None if protocol == Protocol::RawV1 => Acks::Range,
        None | Some("each") => Acks::Each,
        Some("range") => Acks::Range,
        Some("none") => Acks::None,
        Some(_) => return Err(Problem::invalid("acks", "must be `each`, `range` or `none`")),
    };
    // Names of producers follow the rules for all names.
    let producer = query.producer.as_deref().map(TopicName::new).transpose()?;
    let name = checked(&edge, &path, &request)?;
    let (topic, named) = match producer {
        Some(producer) => {
            let (topic, claimed) = claim(&edge, &name, producer.as_str()).await?;
            (topic, Some(Named { name: producer.as_str().into(), claimed }))
        }
        None => (edge.topics.ensure(&name).await?, None),
    };
    let session = |door| ProducerSession::new(edge.clone(), topic, (protocol, acks), named, door);
    upgrade(&edge, session, protocol, &request, payload)
}

/// The topic, created anew if a deletion was in flight, and a claim on the producer's name in it.
async fn claim(
    edge: &Edge,
    name: &TopicName,
    producer: &str,
) -> Result<(Arc<TopicHandle>, Claimed), Problem> {
    loop {
        let topic = edge.topics.ensure(name).await?;
        match edge.topics.claim(&topic, producer).await {
            Err(AppendError::TopicDeleted) if edge.topics.policy().auto_create => {
                tokio::task::yield_now().await;
            }
            claimed => return Ok((topic, claimed?)),
        }
    }
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
    let protocol = Protocol::offered(&request, &[Protocol::V1])?;
    let from = start(query.from.as_deref(), Start::Latest)?;
    let name = checked(&edge, &path, &request)?;
    let topic = edge.topics.ensure(&name).await?;
    // "latest" has to be resolved before the client sees that it is connected.
    let from = from.resolve_within(&edge.queue, &topic).await?;
    let session = |door| TailSession::new(edge.clone(), topic, from, door);
    upgrade(&edge, session, protocol, &request, payload)
}

/// `GET /v1/debug/echo`
#[cfg(feature = "faults")]
pub(super) async fn open_echo(
    edge: Data<Edge>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    ws::handshake(&request).map_err(|error| Problem::invalid("Upgrade", error))?;
    let protocol = Protocol::offered(&request, &[Protocol::V1])?;
    upgrade(&edge, |door| echo::EchoSession { door }, protocol, &request, payload)
}

/// The checks of both sockets before anything is created.
fn checked(edge: &Edge, path: &str, request: &HttpRequest) -> Result<TopicName, Problem> {
    if edge.is_draining() {
        return Err(Problem::new(Code::Draining, "connect to another node"));
    }
    let name = TopicName::new(path)?;
    ws::handshake(request).map_err(|error| Problem::invalid("Upgrade", error))?;
    Ok(name)
}

fn upgrade<S: Session>(
    edge: &Edge,
    session: impl FnOnce(Door) -> S,
    protocol: Protocol,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let reading_end = request.conn_data::<Connection>().and_then(Connection::reading_end);
    let door = Door::new(edge, reading_end);
    let guarded = FrameGuard::new(payload, door.budget());
    ws::WsResponseBuilder::new(session(door), request, guarded)
        .frame_size(edge.limits.frame_bytes_max)
        .protocols(&[protocol.name()])
        .start()
        .map_err(|error| Problem::invalid("Upgrade", error))
}
