//! A request's body, in each of the forms it may have, as a block.

use std::borrow::Cow;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;

use crate::edge::Edge;
use crate::edge::error::{Code, Problem};
use crate::edge::http::message_headers;
use crate::edge::http::parameters::header;
use crate::edge::wire::{
    Attributes, BATCH_JSON, BATCH_MSGPACK, NDJSON, RawMessages, Sender, check_payload, lines,
};
use crate::model::{Block, BlockBuilder, Record, TopicName, TraceParent};

/// What a message takes beside its payload, typically.
const HEADING_BYTES: usize = 256;

/// What a body holds.
pub(super) struct Collected {
    /// The valid messages, if there are any.
    pub(super) block: Option<Block>,
    /// For every message, in order, its error.
    pub(super) checked: Vec<Result<(), Problem>>,
    /// The body is one message, not a list that may hold one.
    pub(super) one: bool,
}

/// A message is missing where one must be.
pub(super) fn nothing() -> Problem {
    Problem::new(Code::Internal, "the message was in no block")
}

/// Reads the body as its content type says.
///
/// # Errors
/// The body as a whole can't be read.
pub(super) fn collect(
    edge: &Edge,
    request: &HttpRequest,
    name: &TopicName,
    bytes: &[u8],
) -> Result<Collected, Problem> {
    let content_type =
        header(request, CONTENT_TYPE.as_str())?.unwrap_or("application/octet-stream");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // An invalid body creates no topic either.
    let settings = match edge.topics.directory().topic(name) {
        Some(topic) => topic.settings(),
        None => edge.topics.policy().defaults,
    };
    let count_max = edge.limits.batch_messages_max;
    let trace = header(request, "traceparent")?.and_then(TraceParent::parse);
    let target = Target {
        bytes_max: edge.message_bytes_max(&settings),
        block_bytes_max: edge.limits.body_bytes_max + HEADING_BYTES,
        trace: trace.as_ref(),
    };
    let mut builder = edge.block_builder();
    // A buffer that doubles would hold up to twice as much for as long as the block lives.
    builder.reserve(bytes.len() + HEADING_BYTES);
    let (one, checked) = match essence.as_str() {
        NDJSON => {
            let described = Described::of(request, target.trace)?.of_many(request)?;
            let taken = lines(bytes, count_max)?.into_iter().map(|payload| {
                target.check_room(&builder)?;
                described.push("application/json", payload, &mut builder, target.bytes_max)
            });
            (false, taken.collect())
        }
        BATCH_JSON => {
            let messages = RawMessages::in_batch(bytes, count_max)?;
            (false, target.messages(request, messages, &mut builder)?)
        }
        BATCH_MSGPACK => {
            let messages = RawMessages::in_msgpack_batch(bytes, count_max)?;
            (false, target.messages(request, messages, &mut builder)?)
        }
        _ => {
            let described = Described::of(request, target.trace)?;
            described.push(content_type, bytes, &mut builder, target.bytes_max)?;
            (true, vec![Ok(())])
        }
    };
    let block = builder.finish().map(|block| block.traced(trace));
    Ok(Collected { block, checked, one })
}

/// The destination of a batch's messages.
struct Target<'a> {
    bytes_max: usize,
    /// The size at which a block is full, however short the body was that it was made of.
    block_bytes_max: usize,
    trace: Option<&'a TraceParent>,
}

impl Target<'_> {
    fn check_room(&self, builder: &BlockBuilder) -> Result<(), Problem> {
        match builder.bytes() > self.block_bytes_max {
            true => Err(Problem::body_too_large(self.block_bytes_max)),
            false => Ok(()),
        }
    }

    /// Each with its own fields; headers about one message can't apply to many.
    fn messages(
        &self,
        request: &HttpRequest,
        RawMessages(messages): RawMessages<'_>,
        builder: &mut BlockBuilder,
    ) -> Result<Vec<Result<(), Problem>>, Problem> {
        if let Some(name) = message_headers::for_one_only(request) {
            return Err(for_many(name));
        }
        let taken = messages.into_iter().map(|raw| {
            self.check_room(builder)?;
            let mut message = raw.message(Sender::Request)?;
            if let Some(trace) = self.trace {
                message.attributes.add_missing("traceparent", trace.as_str());
            }
            message.push_to(builder, self.bytes_max)
        });
        Ok(taken.collect())
    }
}

fn only_one(request: &HttpRequest, name: &str) -> Result<(), Problem> {
    match request.headers().contains_key(name) {
        true => Err(for_many(name)),
        false => Ok(()),
    }
}

fn for_many(name: &str) -> Problem {
    Problem::invalid(name, "names one message, and this body holds a list")
}

/// The headers of a message.
struct Described<'a> {
    key: Option<Cow<'a, str>>,
    message_id: Option<Cow<'a, str>>,
    attributes: Attributes<'a>,
    ttl_ms: Option<u64>,
}

impl<'a> Described<'a> {
    fn of(request: &'a HttpRequest, trace: Option<&'a TraceParent>) -> Result<Self, Problem> {
        let mut attributes = message_headers::attributes(request)?;
        if let Some(trace) = trace {
            attributes.add_missing("traceparent", trace.as_str());
        }
        Ok(Self {
            key: message_headers::key(request)?,
            message_id: message_headers::message_id(request)?,
            attributes,
            ttl_ms: message_headers::ttl_ms(request)?,
        })
    }

    /// The same for headers that apply to every message of a list.
    fn of_many(self, request: &HttpRequest) -> Result<Self, Problem> {
        only_one(request, "idempotency-key")?;
        Ok(self)
    }

    fn push(
        &self,
        content_type: &str,
        payload: &[u8],
        builder: &mut BlockBuilder,
        message_bytes_max: usize,
    ) -> Result<(), Problem> {
        let payload = check_payload(content_type, payload, message_bytes_max)?;
        builder.push(&Record {
            key: self.key.as_deref(),
            message_id: self.message_id.as_deref(),
            attributes: self.attributes.pairs(),
            ttl_ms: self.ttl_ms,
            ..Record::of(content_type, payload)
        })?;
        Ok(())
    }
}
