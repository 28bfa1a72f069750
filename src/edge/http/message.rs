//! `GET /v1/topics/{topic}/messages/{offset}`: one message, its payload as it was sent.

use std::ops::Range;
use std::sync::{Arc, Weak};

use actix_web::body::SizedStream;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, Header, HeaderName, HeaderValue, IfNoneMatch,
};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream;

use super::message_headers::{encoded, encoded_id, of_attribute};
use super::parameters::NoQuery;
use super::topic_name;
use crate::edge::Edge;
use crate::edge::admission::{Line, Permit};
use crate::edge::connections::Connection;
use crate::edge::error::{Code, Problem};
use crate::edge::outgoing::{Taker, UNCHARGED_BYTES};
use crate::model::{Receipt, Record, RecordError, TopicId};
use crate::queue::{ReadBlock, ReadError, ReadLimits};

/// The payload with its content type; the rest is in `Weir-*` headers. A message never changes, so
/// its receipt is its `ETag`: a cache has only to ask whether it is still kept.
pub(super) async fn message(
    edge: Data<Edge>,
    path: Path<(String, String)>,
    request: HttpRequest,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let (name, offset) = path.into_inner();
    let name = topic_name(&name)?;
    let digits = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
    let offset: u64 = offset.parse().ok().filter(|_| digits).ok_or_else(|| {
        Problem::invalid("offset", "must be a whole number, as messages are numbered")
    })?;
    let topic = edge.topics.find(&name).ok_or_else(|| Problem::no_topic(&name))?;
    let limits = ReadLimits { messages: 1, bytes: 1 };
    let blocks = match edge.queue.read(topic.id(), offset, limits).await {
        Err(ReadError::Ahead { head }) => return Err(not_yet(head)),
        read => read?,
    };
    let extent = edge.queue.extent(topic.id());
    let (first, head) = extent.map_or((0, 0), |extent| (extent.first, extent.head));
    let Some(block) = blocks.first() else {
        return Err(if offset < head { Problem::offset_gone(first) } else { not_yet(head) });
    };
    let found = block.records_from(offset).next().and_then(|item| match item {
        Ok((at, record)) => (at == offset).then_some(Ok(record)),
        Err(error) => Some(Err(error)),
    });
    let record = match found.transpose()? {
        Some(record) if !record.has_expired(block.age, edge.queue.age()) => record,
        _ => return Err(Problem::offset_gone(first)),
    };
    let receipt = edge.receipts.seal(Receipt { topic: topic.id(), sequence: offset });
    let tag = EntityTag::new_strong(receipt.to_string());
    let known = is_known(&request, &tag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((CACHE_CONTROL, "no-cache"));
    response.insert_header((ETAG, tag));
    if known {
        return Ok(response.finish());
    }
    response.insert_header(("weir-offset", offset));
    response.insert_header(("weir-receipt", receipt.to_string()));
    response.insert_header(("weir-published-at", block.published_at.to_string()));
    describe(&mut response, &record)?;
    if record.payload.len() <= UNCHARGED_BYTES {
        return Ok(response.body(Bytes::copy_from_slice(record.payload)));
    }
    let bytes = record.payload.len();
    let connection = request.conn_data::<Connection>().and_then(Connection::reading_end);
    let taker = edge.outgoing.taker(connection, Line::Requests);
    let payload = Payload {
        edge,
        topic: topic.id(),
        offset,
        left: 0..bytes,
        block: Arc::downgrade(block),
        kept: None,
        taker,
    };
    let pieces = stream::unfold(payload, |mut payload| async move {
        let piece = payload.piece().await.transpose()?;
        Some((piece, payload))
    });
    Ok(response.body(SizedStream::new(bytes as u64, Box::pin(pieces))))
}

/// A long payload, sent piece by piece. Between two pieces it is not held, unless the tail cache
/// holds it, or there is room for all of it.
struct Payload {
    edge: Data<Edge>,
    topic: TopicId,
    offset: u64,
    /// The part of it to send.
    left: Range<usize>,
    block: Weak<ReadBlock>,
    kept: Option<(Bytes, Permit)>,
    taker: Taker,
}

impl Payload {
    async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        let size = self.edge.outgoing.piece_bytes();
        let bit = self.left.start..self.left.end.min(self.left.start + size);
        if bit.is_empty() {
            return Ok(None);
        }
        let piece = match &self.kept {
            // It has room of its own, and holds none that it would wait for.
            Some((payload, _)) => {
                self.taker.took();
                let piece = payload.slice(bit.clone());
                self.taker.gave_charged(piece.len());
                piece
            }
            None => {
                let room = self.taker.room(size).await;
                let piece = self.bit(bit.clone()).await?;
                self.taker.gave(room, piece.len());
                piece
            }
        };
        self.left.start = bit.end;
        Ok(Some(piece))
    }

    async fn bit(&mut self, bit: Range<usize>) -> Result<Bytes, Problem> {
        if let Some(block) = self.block.upgrade() {
            return self.copied(&block, bit);
        }
        let limits = ReadLimits { messages: 1, bytes: 1 };
        let blocks = self.edge.queue.read(self.topic, self.offset, limits).await?;
        let block = blocks.first().ok_or(ReadError::NoSuchTopic(self.topic))?;
        let (outgoing, bytes) = (&self.edge.outgoing, self.left.end);
        if let Some(room) = (!outgoing.is_scarce()).then(|| outgoing.try_room(bytes)).flatten() {
            let payload = self.copied(block, 0..bytes)?;
            self.kept = Some((payload.clone(), room));
            return Ok(payload.slice(bit));
        }
        self.copied(block, bit)
    }

    /// Bytes of the payload.
    fn copied(&self, block: &ReadBlock, bytes: Range<usize>) -> Result<Bytes, Problem> {
        let record = block.records_from(self.offset).next().transpose()?;
        let found = record.and_then(|(_, record)| record.payload.get(bytes));
        Ok(Bytes::copy_from_slice(found.ok_or(RecordError::Malformed)?))
    }
}

/// The client has it: `If-None-Match` names it (RFC 9110 §13.1.2).
fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

fn not_yet(head: u64) -> Problem {
    Problem::new(Code::NotFound, format!("the next message will be {head}"))
}

fn describe(response: &mut HttpResponseBuilder, record: &Record<'_>) -> Result<(), Problem> {
    let content_type =
        HeaderValue::from_str(record.content_type).map_err(|_| RecordError::ContentType)?;
    response.insert_header((CONTENT_TYPE, content_type));
    // A published page must not run as one of the broker's own.
    response.insert_header(("x-content-type-options", "nosniff"));
    response.insert_header(("content-security-policy", "default-src 'none'; sandbox"));
    if let Some(key) = record.key {
        response.insert_header(("weir-key", encoded(key)));
    }
    if let Some(id) = record.message_id {
        response.insert_header(("weir-message-id", encoded_id(id)));
    }
    for (name, value) in &record.attributes {
        // Names that no header can have are no longer accepted.
        if let Ok(name) = HeaderName::try_from(of_attribute(name)) {
            response.append_header((name, encoded(value)));
        }
    }
    if let Some(ttl_ms) = record.ttl_ms {
        response.insert_header(("weir-ttl-ms", ttl_ms));
    }
    Ok(())
}
