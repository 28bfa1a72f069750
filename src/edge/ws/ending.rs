//! How a session ends, and with which close code (API.md, RFC 6455 §7.4.1).

use actix_web_actors::ws::{CloseCode, CloseReason, ProtocolError};

use super::header::Refusal;
use crate::edge::error::{Code, Problem};

/// How a session ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// The client sent Close, and is to be answered.
    Goodbye(Option<CloseReason>),
    /// The client will send no more; pending output is written, then the connection ends.
    Gone,
    /// The broker closes it.
    Close(CloseCode, &'static str),
}

impl Ending {
    /// The broker stops.
    pub(super) const DRAINING: Self = Self::Close(CloseCode::Away, "draining");

    /// Another socket took the producer's name.
    pub(super) const FENCED: Self = Self::Close(CloseCode::Policy, "producer-fenced");

    /// The client breaks the subprotocol.
    pub(super) const TOO_MANY_ERRORS: Self = Self::Close(CloseCode::Policy, "too many errors");

    /// This error ends the session.
    pub(super) fn because(problem: &Problem) -> Self {
        let code = match problem.code() {
            _ if problem.is_temporary() => CloseCode::Again,
            Code::TopicNotFound | Code::ProducerFenced => CloseCode::Policy,
            _ => CloseCode::Error,
        };
        Self::Close(code, problem.code().as_str())
    }

    const PROTOCOL: Self = Self::Close(CloseCode::Protocol, "the frame breaks RFC 6455");
    const TOO_LARGE: Self = Self::Close(CloseCode::Size, "the frame is larger than is allowed");
    /// Text that is not UTF-8.
    pub(super) const NOT_UTF8: Self = Self::Close(CloseCode::Invalid, "text is not UTF-8");
    /// There is no room for a message that is arriving.
    pub(super) const OVERLOADED: Self = Self::Close(CloseCode::Again, "overloaded");
    /// A message took too long to be complete.
    pub(super) const UNFINISHED: Self = Self::Close(CloseCode::Policy, "a message came too slowly");
    /// A message has too many fragments or bytes.
    pub(super) const FRAGMENTS_TOO_LARGE: Self =
        Self::Close(CloseCode::Size, "fragments are more than is allowed");

    /// A frame was refused before it was read.
    pub(super) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge => Self::TOO_LARGE,
            Refusal::Protocol => Self::PROTOCOL,
            Refusal::NotUtf8 => Self::NOT_UTF8,
        }
    }

    /// How a broken protocol is answered (RFC 6455 §7.4.1).
    pub(super) fn broken(error: &ProtocolError) -> Self {
        match error {
            ProtocolError::Overflow => Self::TOO_LARGE,
            // actix-web-actors shows text that isn't UTF-8 only by the text of the error.
            ProtocolError::Io(io) if io.to_string().contains("utf-8") => Self::NOT_UTF8,
            _ => Self::PROTOCOL,
        }
    }
}
