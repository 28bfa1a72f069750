//! Messages in the producer socket's form.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::input::Payload;
use crate::model::PayloadKind;

/// What all messages have in common.
pub(super) struct Outgoing {
    /// If none is given, each payload determines its own.
    pub(super) content_type: Option<String>,
    pub(super) key: Option<String>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) message_id: Option<String>,
    pub(super) ttl_ms: Option<u64>,
}

#[derive(Serialize)]
struct Frame<'a> {
    id: u64,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(flatten)]
    data: Data<'a>,
}

/// The bytes in a form that preserves each of them.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json { data: &'a RawValue },
    Text { data: &'a str },
    Bytes { data_base64: String },
}

impl Outgoing {
    /// The frame for one message.
    ///
    /// # Errors
    /// Never: everything in it is plain data.
    pub(super) fn frame(&self, id: u64, payload: &Payload) -> serde_json::Result<String> {
        let given = self.content_type.as_deref().or(payload.content_type);
        let content_type = given.unwrap_or_else(|| by_content(&payload.bytes));
        serde_json::to_string(&Frame {
            id,
            content_type,
            key: self.key.as_deref(),
            message_id: self.message_id.as_deref(),
            attributes: &self.attributes,
            ttl_ms: self.ttl_ms,
            data: data(content_type, &payload.bytes),
        })
    }
}

fn by_content(bytes: &[u8]) -> &'static str {
    if serde_json::from_slice::<&RawValue>(bytes).is_ok() {
        "application/json"
    } else if std::str::from_utf8(bytes).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

/// Escapes make it longer than base64 does: a control character takes six bytes.
fn is_long_when_escaped(bytes: &[u8]) -> bool {
    let escaped = bytes.iter().filter(|byte| **byte < 0x20 || matches!(byte, b'"' | b'\\'));
    escaped.count() * 5 > bytes.len() / 3
}

fn data<'a>(content_type: &str, bytes: &'a [u8]) -> Data<'a> {
    match (PayloadKind::of(content_type), std::str::from_utf8(bytes)) {
        // Unchanged, since a re-encoding could change numbers; white space around it would be
        // dropped.
        (PayloadKind::Json, Ok(text)) if text.trim() == text => match serde_json::from_str(text) {
            Ok(data) => Data::Json { data },
            // The broker reports what is wrong with it.
            Err(_) => Data::Bytes { data_base64: STANDARD.encode(bytes) },
        },
        (PayloadKind::Text, Ok(data)) if !is_long_when_escaped(bytes) => Data::Text { data },
        _ => Data::Bytes { data_base64: STANDARD.encode(bytes) },
    }
}
