//! How messages look outside: JSON in, JSON out.
//!
//! Invariants: what is stored is the payload's bytes, never a re-encoding of them; a payload that
//! is declared JSON is JSON, checked when it comes in, so that it can be embedded as it is when it
//! goes out.

mod batch;
mod incoming;
mod outgoing;

pub use batch::{BATCH_MESSAGES_CEILING, RawMessages};
pub use incoming::{IncomingMessage, Sender, check_payload, id_of, message_from, parse_object};
pub use outgoing::{Budget, Page};
