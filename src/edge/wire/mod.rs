//! The encodings of messages: JSON and MessagePack, incoming and outgoing.
//!
//! `json` and `msgpack` find messages in the input, `incoming` checks them and makes them records;
//! `outgoing` writes records as clients receive them.
//!
//! Invariants: the payload's bytes are stored, never a re-encoding of them; a payload that is
//! declared JSON is JSON that common readers accept (`json_text`), checked on input, so that it can
//! be embedded unchanged on output; what a client declares (a length, a count) costs nothing before
//! the bytes have arrived.

mod attributes;
mod batch;
mod incoming;
mod json;
mod json_text;
mod mark;
mod msgpack;
mod outgoing;
pub(crate) mod transcode;

use serde::{Serialize, Serializer};
use uuid::Uuid;

pub use attributes::Attributes;
pub use batch::{
    BATCH_JSON, BATCH_MESSAGES_CEILING, BATCH_MSGPACK, BYTE_ORDER_MARK, NDJSON, RawMessages, lines,
};
pub use incoming::{IncomingMessage, RawMessage, Sender, check_payload};
pub use json::parse_object;
pub use mark::Mark;
pub use outgoing::{Form, Gaps, Page, Plan, ReadBudget, Shown, messages_frame, plan};

/// The encoding of a frame of `weir.v1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// A text frame.
    #[default]
    Json,
    /// A binary frame.
    MessagePack,
}

/// A frame to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// JSON.
    Text(String),
    /// MessagePack.
    Binary(Vec<u8>),
}

impl Encoding {
    /// The frame that holds this.
    pub fn frame(self, content: &impl Serialize) -> Frame {
        match self {
            Self::Json => {
                Frame::Text(serde_json::to_string(content).expect("frames are plain data"))
            }
            Self::MessagePack => Frame::Binary(to_msgpack(content)),
        }
    }
}

/// A receipt, which is text in every encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptToken(pub Uuid);

impl Serialize for ReceiptToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut text))
    }
}

/// With the names of members, as in JSON.
pub fn to_msgpack(content: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    content.serialize(&mut serializer).expect("what is sent is plain data");
    out
}
