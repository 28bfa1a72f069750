//! Errors as clients see them: the one table of codes, and the problem object.
//!
//! The same object is a body of `application/problem+json` (RFC 9457) over HTTP and stands under
//! `error` in WebSocket frames.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::{Serialize, Serializer};

use crate::actors::directory::Unavailable;
use crate::journal::{AppendError, JournalError, ReadError, TopicChangeError};
use crate::metrics;
use crate::model::{NameError, RecordError, TopicName};
use crate::patterns::request_acknowledge::PublishError;

/// What went wrong, in a word a program can test for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A name that breaks the rules for names.
    InvalidName,
    /// A field, parameter or frame that can't be taken.
    InvalidRequest,
    /// What was given for a receipt is none.
    InvalidReceipt,
    /// A request for another host than this one.
    Forbidden,
    /// A browser's page from elsewhere.
    OriginNotAllowed,
    /// No such topic.
    TopicNotFound,
    /// No message has this receipt.
    ReceiptNotFound,
    /// No such path.
    NotFound,
    /// The path is there, the method isn't.
    MethodNotAllowed,
    /// The request did not come in time.
    RequestTimeout,
    /// A media type that isn't understood.
    UnsupportedMediaType,
    /// A media type that can't be produced.
    NotAcceptable,
    /// A name that was to be new isn't.
    AlreadyExists,
    /// A message id that belongs to another payload.
    MessageIdConflict,
    /// The offset is no longer kept.
    OffsetGone,
    /// A payload over the topic's limit.
    MessageTooLarge,
    /// A body or frame over the broker's limit.
    BodyTooLarge,
    /// Headers over the broker's limit.
    HeadersTooLarge,
    /// Too many tries in too short a time.
    RateLimited,
    /// No room for another connection.
    TooManyConnections,
    /// No room for another topic.
    TooManyTopics,
    /// The broker's fault.
    Internal,
    /// The topic is being brought back.
    Recovering,
    /// The byte budget is spent.
    Overloaded,
    /// The topic gave up after too many restarts.
    Quarantined,
    /// The broker is stopping.
    Draining,
    /// The disk has no room to spare.
    StorageFull,
}

impl Code {
    /// Code, status, title, and whether trying again may help: API.md's table.
    fn row(self) -> (&'static str, u16, &'static str, bool) {
        match self {
            Self::InvalidName => ("invalid-name", 400, "The name is not valid", false),
            Self::InvalidRequest => ("invalid-request", 400, "The request is not valid", false),
            Self::InvalidReceipt => ("invalid-receipt", 400, "The receipt is not valid", false),
            Self::Forbidden => ("forbidden", 403, "The request is not allowed", false),
            Self::OriginNotAllowed => {
                ("origin-not-allowed", 403, "The page's origin is not allowed", false)
            }
            Self::ReceiptNotFound => {
                ("receipt-not-found", 404, "No message has this receipt", false)
            }
            Self::RequestTimeout => ("request-timeout", 408, "The request came too slowly", true),
            Self::HeadersTooLarge => ("headers-too-large", 431, "The headers are too large", false),
            Self::RateLimited => ("rate-limited", 429, "Too many tries", true),
            Self::TooManyConnections => {
                ("too-many-connections", 429, "There are too many connections", true)
            }
            Self::TopicNotFound => ("topic-not-found", 404, "There is no such topic", false),
            Self::NotFound => ("not-found", 404, "There is nothing here", false),
            Self::MethodNotAllowed => {
                ("method-not-allowed", 405, "The method is not allowed here", false)
            }
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", 415, "The content type is not understood", false)
            }
            Self::NotAcceptable => ("not-acceptable", 406, "No acceptable representation", false),
            Self::AlreadyExists => ("already-exists", 409, "The name is taken", false),
            Self::MessageIdConflict => {
                ("message-id-conflict", 409, "The message id belongs to another message", false)
            }
            Self::OffsetGone => ("offset-gone", 410, "The offset is no longer kept", false),
            Self::MessageTooLarge => ("message-too-large", 413, "The message is too large", false),
            Self::BodyTooLarge => ("body-too-large", 413, "The body is too large", false),
            Self::TooManyTopics => ("too-many-topics", 429, "There are too many topics", false),
            Self::Internal => ("internal", 500, "The broker failed", false),
            Self::Recovering => ("recovering", 503, "The topic is recovering", true),
            Self::Overloaded => ("overloaded", 503, "The broker is overloaded", true),
            Self::Quarantined => ("quarantined", 503, "The topic is quarantined", true),
            Self::Draining => ("draining", 503, "The broker is stopping", true),
            Self::StorageFull => ("storage-full", 507, "The disk is full", true),
        }
    }

    /// The word itself.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An error answer. Cheap to clone; `detail` says which field, what was found, what is allowed.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: Code,
    temporary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The first offset kept, with `offset-gone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    /// The limit that was exceeded, with `…-too-large`.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

/// Longest `detail`, in bytes: it may repeat what a client sent, which may be long.
const DETAIL_BYTES_MAX: usize = 1_000;

fn clipped(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX).rev().find(|end| detail.is_char_boundary(*end));
        detail.truncate(end.unwrap_or(0));
        detail.push('…');
    }
    detail
}

impl Problem {
    /// An answer with this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        metrics::problem(code.as_str());
        let (word, status, title, temporary) = code.row();
        let retry_after_ms = temporary.then_some(match code {
            Code::Quarantined | Code::StorageFull => 10_000,
            _ => 1_000,
        });
        Self {
            kind: format!("urn:weir:problem:{word}"),
            title,
            status,
            detail: clipped(detail.into()),
            code,
            temporary,
            retry_after_ms,
            first: None,
            limit: None,
        }
    }

    /// A field that can't be taken, and why.
    pub fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidRequest, format!("`{field}`: {why}"))
    }

    /// A payload over its topic's limit.
    pub fn message_too_large(bytes: usize, limit: usize) -> Self {
        let detail = format!("the payload has {bytes} bytes, the topic takes {limit}");
        Self { limit: Some(limit as u64), ..Self::new(Code::MessageTooLarge, detail) }
    }

    /// A message that is not kept any more, of a topic that begins here.
    pub fn offset_gone(first: u64) -> Self {
        let detail = format!("the message is not kept; the first one kept is {first}");
        Self { first: Some(first), ..Self::new(Code::OffsetGone, detail) }
    }

    /// A body over the broker's limit.
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body has more than the {limit} bytes that are allowed");
        Self { limit: Some(limit as u64), ..Self::new(Code::BodyTooLarge, detail) }
    }

    /// Headers over the broker's limit.
    pub fn headers_too_large(bytes: usize, limit: usize) -> Self {
        let detail = format!("the headers have {bytes} bytes, {limit} are allowed");
        Self { limit: Some(limit as u64), ..Self::new(Code::HeadersTooLarge, detail) }
    }

    /// A problem that will have passed after this time.
    pub fn retry_after(self, after: std::time::Duration) -> Self {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { retry_after_ms: Some(ms), ..self }
    }

    /// The budget of bytes under way is spent.
    pub fn overloaded() -> Self {
        Self::new(Code::Overloaded, "too many bytes are under way to the journal")
    }

    /// A message id that belongs to a message with another payload.
    pub fn message_id_conflict() -> Self {
        let detail = "a message with this `message_id` and another payload was taken before";
        Self::new(Code::MessageIdConflict, detail)
    }

    /// The word for programs.
    pub fn code(&self) -> Code {
        self.code
    }

    /// There is no topic of this name.
    pub fn no_topic(name: &TopicName) -> Self {
        Self::new(Code::TopicNotFound, format!("there is no topic `{name}`"))
    }

    /// Trying again may help.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The status over HTTP.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a problem is plain data")
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some(ms) = self.retry_after_ms {
            response.insert_header((RETRY_AFTER, ms.div_ceil(1_000)));
        }
        response.body(self.to_json())
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::TooLong { .. } | RecordError::ContentType | RecordError::Empty { .. } => {
                Self::new(Code::InvalidRequest, error.to_string())
            }
            RecordError::Malformed => Self::new(Code::Internal, error.to_string()),
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        let code = match error {
            JournalError::Held => Code::Overloaded,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::TopicDeleted => Code::TopicNotFound,
            AppendError::Quarantined => Code::Quarantined,
            AppendError::OutOfTurn => Code::Recovering,
            AppendError::StorageFull { .. } => Code::StorageFull,
            AppendError::Journal(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Recovering => Self::new(Code::Recovering, error.to_string()),
            PublishError::Append(error) => error.into(),
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        PublishError::from(unavailable).into()
    }
}

impl From<TopicChangeError> for Problem {
    fn from(error: TopicChangeError) -> Self {
        let code = match &error {
            TopicChangeError::NotFound => Code::TopicNotFound,
            TopicChangeError::AlreadyExists => Code::AlreadyExists,
            TopicChangeError::TooMany { .. } => Code::TooManyTopics,
            TopicChangeError::NoSuchDamage(_) => Code::InvalidRequest,
            TopicChangeError::StorageFull => Code::StorageFull,
            TopicChangeError::Journal(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::NoSuchTopic(_) => Self::new(Code::TopicNotFound, "the topic was deleted"),
            ReadError::Gone { first } => Self::offset_gone(first),
            ReadError::Ahead { .. } => Self::invalid("from", detail),
            ReadError::Damaged(_) => Self::new(Code::Quarantined, detail),
            ReadError::Journal(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_repeats_only_so_much_of_what_was_sent() {
        let problem = Problem::invalid(&"é".repeat(100_000), "unknown");
        assert!(problem.detail.starts_with("`éé") && problem.detail.ends_with("é…"));
        assert!(problem.detail.len() <= DETAIL_BYTES_MAX + '…'.len_utf8());
        assert_eq!(Problem::invalid("key", "é").detail, "`key`: é");
    }
}
