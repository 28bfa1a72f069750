//! `GET /v1/topics/{topic}/messages/{offset}`: one message, its payload as it was sent.

use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::parameters::NoQuery;
use super::topic_name;
use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::model::{Receipt, Record, RecordError};
use crate::queue::{ReadError, ReadLimits};

/// The payload with its content type; the rest stands in `Weir-*` headers, as far as headers can
/// hold it.
pub(super) async fn message(
    edge: Data<Edge>,
    path: Path<(String, String)>,
    _: NoQuery,
) -> Result<HttpResponse, Problem> {
    let (name, offset) = path.into_inner();
    let name = topic_name(&name)?;
    let digits = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
    let offset: u64 = offset.parse().ok().filter(|_| digits).ok_or_else(|| {
        Problem::invalid("offset", "must be a whole number, as messages are numbered")
    })?;
    let topic = edge.supervisor.topic(&name).ok_or_else(|| Problem::no_topic(&name))?;
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
    let mut response = HttpResponse::Ok();
    response.insert_header(("weir-offset", offset));
    response.insert_header(("weir-receipt", receipt.to_string()));
    response.insert_header(("weir-published-at", block.published_at.to_string()));
    describe(&mut response, &record)?;
    Ok(response.body(Bytes::copy_from_slice(record.payload)))
}

fn not_yet(head: u64) -> Problem {
    Problem::new(Code::NotFound, format!("the next message will be {head}"))
}

fn describe(response: &mut HttpResponseBuilder, record: &Record<'_>) -> Result<(), Problem> {
    let content_type =
        HeaderValue::from_str(record.content_type).map_err(|_| RecordError::ContentType)?;
    response.insert_header((CONTENT_TYPE, content_type));
    // A page that somebody published must not run as one of the broker's own.
    response.insert_header(("x-content-type-options", "nosniff"));
    response.insert_header(("content-security-policy", "default-src 'none'; sandbox"));
    text(response, "weir-key", record.key);
    text(response, "weir-message-id", record.message_id);
    for (name, value) in &record.attributes {
        text(response, &format!("weir-attr-{name}"), Some(value));
    }
    if let Some(ttl_ms) = record.ttl_ms {
        response.insert_header(("weir-ttl-ms", ttl_ms));
    }
    Ok(())
}

/// Sets a header, where name and value can be one.
fn text(response: &mut HttpResponseBuilder, name: &str, value: Option<&str>) {
    let name = HeaderName::try_from(name).ok();
    let value = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
    if let (Some(name), Some(value)) = (name, value) {
        response.append_header((name, value));
    }
}
