//! A message in JSON: as an object, on a line, in an event.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::fmt::Hyphenated;

use super::Heading;
use crate::model::{PayloadKind, Record};

/// Appends the message's object, its JSON payload to the letter.
pub(super) fn append(out: &mut Vec<u8>, heading: &Heading<'_>, offset: u64, record: &Record<'_>) {
    head(out, heading, offset, record);
    match (PayloadKind::of(record.content_type), std::str::from_utf8(record.payload)) {
        (PayloadKind::Json, Ok(json)) => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(json.as_bytes());
        }
        (PayloadKind::Text, Ok(text)) => member(out, "data", text),
        _ => {
            out.extend_from_slice(br#","data_base64":""#);
            let begun = out.len();
            out.resize(begun + record.payload.len().div_ceil(3) * 4, 0);
            written(STANDARD.encode_slice(record.payload, &mut out[begun..]).map(drop));
            out.push(b'"');
        }
    }
    out.push(b'}');
}

/// The same on a line of its own. A line end in JSON is white space between tokens, never part of
/// a string, so it may be any other white space.
pub(super) fn append_line(
    out: &mut Vec<u8>,
    heading: &Heading<'_>,
    offset: u64,
    record: &Record<'_>,
) {
    let begun = out.len();
    append(out, heading, offset, record);
    // All else is written without them.
    if record.payload.contains(&b'\n') || record.payload.contains(&b'\r') {
        for byte in &mut out[begun..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    out.push(b'\n');
}

/// The same as a Server-Sent Event (HTML standard, 9.2), whose id is the position to resume at.
pub(super) fn append_event(
    out: &mut Vec<u8>,
    heading: &Heading<'_>,
    offset: u64,
    record: &Record<'_>,
) {
    written(write!(out, "id: {}-{offset}\ndata: ", heading.block.epoch.0));
    append_line(out, heading, offset, record);
    out.push(b'\n');
}

fn head(out: &mut Vec<u8>, heading: &Heading<'_>, offset: u64, record: &Record<'_>) {
    let (receipt, published_at) = (heading.receipt(offset), &heading.published_at);
    out.extend_from_slice(br#"{"offset":"#);
    written(serde_json::to_writer(&mut *out, &offset));
    out.extend_from_slice(br#","receipt":""#);
    let mut text = [0; Hyphenated::LENGTH];
    out.extend_from_slice(receipt.hyphenated().encode_lower(&mut text).as_bytes());
    out.extend_from_slice(br#"","published_at":""#);
    out.extend_from_slice(published_at.as_bytes());
    out.push(b'"');
    member(out, "content_type", record.content_type);
    if let Some(key) = record.key {
        member(out, "key", key);
    }
    if let Some(message_id) = record.message_id {
        member(out, "message_id", message_id);
    }
    if !record.attributes.is_empty() {
        out.extend_from_slice(br#","attributes":{"#);
        for (n, (name, value)) in record.attributes.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            string(out, name);
            out.push(b':');
            string(out, value);
        }
        out.push(b'}');
    }
    if let Some(ttl_ms) = record.ttl_ms {
        written(write!(out, r#","ttl_ms":{ttl_ms}"#));
    }
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    string(out, value);
}

fn string(out: &mut Vec<u8>, value: &str) {
    written(serde_json::to_writer(out, value));
}

fn written<E: std::fmt::Debug>(result: Result<(), E>) {
    result.expect("a Vec takes everything");
}
