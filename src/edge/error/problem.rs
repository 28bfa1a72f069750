//! The problem object: a body of `application/problem+json` (RFC 9457) over HTTP; over a socket it
//! is the member `error`.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;

use super::Code;
use crate::metrics;
use crate::model::TopicName;

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

/// Longest `detail`, in characters: it may repeat what a client sent, which may be long.
const DETAIL_CHARS_MAX: usize = 1_000;

impl Problem {
    /// An answer with this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        metrics::problem(code.as_str());
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.replace_range(end.., "…");
        }
        let (word, status, title, temporary) = code.row();
        let retry_after_ms = temporary.then_some(match code {
            Code::Quarantined | Code::StorageFull => 10_000,
            _ => 1_000,
        });
        Self {
            kind: format!("urn:weir:problem:{word}"),
            title,
            status,
            detail,
            code,
            temporary,
            retry_after_ms,
            first: None,
            limit: None,
        }
    }

    /// An invalid field, and why.
    pub fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidRequest, format!("`{field}`: {why}"))
    }

    /// A payload over its topic's limit.
    pub fn message_too_large(bytes: usize, limit: usize) -> Self {
        let detail = format!("the payload has {bytes} bytes, the topic takes {limit}");
        Self { limit: Some(limit as u64), ..Self::new(Code::MessageTooLarge, detail) }
    }

    /// A message that is not kept any more, of a topic that begins at `first`.
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

    /// The budget of bytes in flight is spent.
    pub fn overloaded() -> Self {
        Self::new(Code::Overloaded, "too many bytes are in flight to the journal")
    }

    /// A message id that belongs to a message with another payload.
    pub fn message_id_conflict() -> Self {
        let detail = "a message with this `message_id` and another payload was taken before";
        Self::new(Code::MessageIdConflict, detail)
    }

    /// The code for programs.
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

    /// When to retry, where that helps.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_ms.map(|ms| ms.div_ceil(1_000))
    }

    /// Says when to retry, where that helps.
    pub fn add_retry_after(&self, response: &mut HttpResponseBuilder) {
        if let Some(seconds) = self.retry_after_seconds() {
            response.insert_header((RETRY_AFTER, seconds));
        }
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
        response.insert_header((CACHE_CONTROL, "no-store"));
        self.add_retry_after(&mut response);
        response.body(self.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_repeats_only_so_much_of_what_was_sent() {
        let problem = Problem::invalid(&"é".repeat(100_000), "unknown");
        assert!(problem.detail.starts_with("`éé") && problem.detail.ends_with("é…"));
        assert_eq!(problem.detail.chars().count(), DETAIL_CHARS_MAX + 1);
        assert_eq!(Problem::invalid("key", "é").detail, "`key`: é");
    }
}
