//! The table of error codes: API.md's, and HTTP's own beside it.

use serde::{Serialize, Serializer};

/// What went wrong, in a word a program can test for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A name that breaks the rules for names.
    InvalidName,
    /// An invalid field, parameter or frame.
    InvalidRequest,
    /// The receipt is malformed.
    InvalidReceipt,
    /// The request names another host than this one.
    Forbidden,
    /// The page's origin is not allowed.
    OriginNotAllowed,
    /// No such topic.
    TopicNotFound,
    /// No message has this receipt.
    ReceiptNotFound,
    /// No such path.
    NotFound,
    /// The path exists, the method doesn't.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// A media type that isn't supported.
    UnsupportedMediaType,
    /// A media type that can't be produced.
    NotAcceptable,
    /// The name to create exists already.
    AlreadyExists,
    /// A message id that belongs to another payload.
    MessageIdConflict,
    /// Another socket has taken the producer's name.
    ProducerFenced,
    /// The offset is no longer kept.
    OffsetGone,
    /// A payload over the topic's limit.
    MessageTooLarge,
    /// A body or frame over the broker's limit.
    BodyTooLarge,
    /// Headers over the broker's limit.
    HeadersTooLarge,
    /// Too many attempts in too short a time.
    RateLimited,
    /// No room for another connection.
    TooManyConnections,
    /// No room for another topic.
    TooManyTopics,
    /// The broker's fault.
    Internal,
    /// The topic is recovering.
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
    pub(super) fn row(self) -> (&'static str, u16, &'static str, bool) {
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
            Self::ProducerFenced => {
                ("producer-fenced", 409, "Another socket has taken the name", false)
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
