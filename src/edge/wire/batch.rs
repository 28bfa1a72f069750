//! Many messages at once: a socket's frame, a request's batch, lines. Split here, parsed one by one
//! later, so that a malformed one never hides the others.

use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::incoming::RawMessage;
use super::json_text;
use super::msgpack::{Reader, Token};
use super::parse_object;
use crate::edge::error::Problem;

/// A body of messages in JSON: `{"messages":[…]}`.
pub const BATCH_JSON: &str = "application/vnd.weir.messages+json";
/// The same in MessagePack.
pub const BATCH_MSGPACK: &str = "application/vnd.weir.messages+msgpack";
/// A body with one JSON payload a line.
pub const NDJSON: &str = "application/x-ndjson";

/// The most messages that are counted together, whatever the settings allow: counting must not cost
/// many times the bytes received.
pub const BATCH_MESSAGES_CEILING: usize = 100_000;

/// The byte order mark that some programs put before text; it is not part of JSON.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// The elements of a JSON array, up to the ceiling.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<'a>(PhantomData<&'a RawValue>);

        impl<'de: 'a, 'a> Visitor<'de> for Collect<'a> {
            type Value = Elements<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "an array of at most {BATCH_MESSAGES_CEILING} messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = array.next_element()? {
                    if elements.len() == BATCH_MESSAGES_CEILING {
                        return Err(A::Error::invalid_length(elements.len() + 1, &self));
                    }
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }

        deserializer.deserialize_seq(Collect(PhantomData))
    }
}

/// At most N raw messages.
pub struct RawMessages<'a>(pub Vec<RawMessage<'a>>);

impl<'a> RawMessages<'a> {
    fn limited(found: Vec<&'a RawValue>, count_max: usize, what: &str) -> Result<Self, Problem> {
        check_count(found.len(), count_max, what)?;
        Ok(Self(found.into_iter().map(|raw| RawMessage::Json(raw.get())).collect()))
    }

    /// The elements of the MessagePack array that is the rest of the input.
    fn in_array(
        mut reader: Reader<'a>,
        count: u32,
        count_max: usize,
        what: &str,
    ) -> Result<Self, Problem> {
        check_count(count as usize, count_max, what)?;
        let mut found = Vec::new();
        for _ in 0..count {
            let raw = reader.value().map_err(|error| Problem::invalid(what, error))?;
            found.push(RawMessage::MessagePack(raw));
        }
        match reader.is_at_end() {
            true => Ok(Self(found)),
            false => Err(Problem::invalid(what, "something follows the messages")),
        }
    }

    /// The messages of a socket's text frame (without a byte order mark): one object, or an array
    /// of them.
    ///
    /// # Errors
    /// The frame is neither, or holds too many.
    pub fn in_frame(text: &'a str, count_max: usize) -> Result<Self, Problem> {
        if !text.trim_ascii_start().starts_with('[') {
            return Ok(Self(vec![RawMessage::Json(text)]));
        }
        let Elements(found) =
            serde_json::from_str(text).map_err(|error| Problem::invalid("frame", error))?;
        Self::limited(found, count_max, "frame")
    }

    /// The messages of a socket's binary frame: one map, or an array of them.
    ///
    /// # Errors
    /// The frame is neither, or holds too many.
    pub fn in_binary_frame(frame: &'a [u8], count_max: usize) -> Result<Self, Problem> {
        let mut reader = Reader::new(frame);
        match reader.token() {
            Ok(Token::Array(count)) => Self::in_array(reader, count, count_max, "frame"),
            Ok(Token::Map(_)) => Ok(Self(vec![RawMessage::MessagePack(frame)])),
            _ => Err(Problem::invalid("frame", "must be a MessagePack map, or an array of maps")),
        }
    }

    /// The messages of a batch in MessagePack: a map with `messages`.
    ///
    /// # Errors
    /// The body is something else, or holds none or too many.
    pub fn in_msgpack_batch(body: &'a [u8], count_max: usize) -> Result<Self, Problem> {
        let mut reader = Reader::new(body);
        let Ok(Token::Map(members)) = reader.token() else {
            return Err(Problem::invalid("body", "must be a map with `messages`, an array"));
        };
        let mut messages = None;
        for _ in 0..members {
            match reader.text("body")? {
                "messages" if messages.is_some() => {
                    return Err(Problem::invalid("messages", "duplicate field"));
                }
                "messages" => {
                    let value = reader.value();
                    messages = Some(value.map_err(|error| Problem::invalid("messages", error))?);
                }
                other => {
                    return Err(Problem::invalid(other, "unknown field, expected `messages`"));
                }
            }
        }
        if !reader.is_at_end() {
            return Err(Problem::invalid("body", "something follows the map"));
        }
        let mut reader = Reader::new(messages.unwrap_or_default());
        match reader.token() {
            Ok(Token::Array(0)) => {
                Err(Problem::invalid("messages", "must hold at least one message"))
            }
            Ok(Token::Array(count)) => Self::in_array(reader, count, count_max, "messages"),
            Ok(_) => Err(Problem::invalid("messages", "must be an array of messages")),
            Err(_) => Err(Problem::invalid("messages", "is missing")),
        }
    }

    /// The messages of a batch: `{"messages":[…]}`.
    ///
    /// # Errors
    /// The body is something else, or holds none or too many.
    pub fn in_batch(body: &'a [u8], count_max: usize) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Batch<'a> {
            #[serde(borrow)]
            messages: Elements<'a>,
        }
        let body = json_text::without_mark(body);
        let Batch { messages: Elements(messages) } = parse_object("body", body)?;
        if messages.is_empty() {
            return Err(Problem::invalid("messages", "must hold at least one message"));
        }
        Self::limited(messages, count_max, "messages")
    }
}

fn check_count(count: usize, count_max: usize, what: &str) -> Result<(), Problem> {
    if count > count_max {
        let why = format!("holds {count} messages, at most {count_max} are allowed");
        return Err(Problem::invalid(what, why));
    }
    Ok(())
}

/// The payloads of a body of lines; blank lines are skipped.
///
/// # Errors
/// There are none, or too many.
pub fn lines(body: &[u8], count_max: usize) -> Result<Vec<&[u8]>, Problem> {
    let body = json_text::without_mark(body);
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut found = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if found.len() == count_max {
            return Err(Problem::invalid("body", format!("has more than {count_max} lines")));
        }
        found.push(line);
    }
    match found.is_empty() {
        true => Err(Problem::invalid("body", "must hold at least one line")),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::edge::wire::to_msgpack;

    #[test]
    fn a_frame_is_one_message_or_an_array() {
        let count = |text| RawMessages::in_frame(text, 2).map(|found| found.0.len()).ok();
        assert_eq!(count(r#" {"data":1}"#), Some(1));
        assert_eq!(count(r#" [{"data":1}, {"data":2}]"#), Some(2));
        assert_eq!(count("[1,2,3]"), None, "one more than allowed");
        assert_eq!(count("[1,"), None);
        let many = |count| format!("[{}0]", "0,".repeat(count - 1));
        let limit = BATCH_MESSAGES_CEILING;
        assert!(RawMessages::in_frame(&many(limit), limit).is_ok());
        assert!(RawMessages::in_frame(&many(limit + 1), usize::MAX).is_err());
    }

    #[test]
    fn a_batch_is_an_object_with_messages() {
        let count =
            |body: &'static str| RawMessages::in_batch(body.as_bytes(), 2).map(|f| f.0.len()).ok();
        assert_eq!(count(r#"{"messages":[{},{}]}"#), Some(2));
        let found = lines(b"1\r\n\n {\"a\": 2} \n", 2).unwrap();
        assert_eq!(found, [&b"1"[..], b"{\"a\": 2}"]);
        assert!(lines(b"1\n2\n3", 2).is_err() && lines(b"\n \n", 2).is_err());
        for bad in [r#"{"messages":[]}"#, r#"{"messages":[1,2,3]}"#, "[[1]]", "{}"] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
    #[test]
    fn messagepack_frames_and_batches_are_the_same() {
        let frame = |content| {
            let bytes = to_msgpack(&content);
            RawMessages::in_binary_frame(&bytes, 2).map(|found| found.0.len()).ok()
        };
        assert_eq!(frame(json!({ "data": 1 })), Some(1));
        assert_eq!(frame(json!([{ "data": 1 }, 5])), Some(2), "each is looked at by itself");
        assert_eq!(frame(json!([1, 2, 3])), None);
        assert_eq!(frame(json!(7)), None);
        let batch = |content| {
            let bytes = to_msgpack(&content);
            RawMessages::in_msgpack_batch(&bytes, 2).map(|found| found.0.len()).ok()
        };
        assert_eq!(batch(json!({ "messages": [{}, {}] })), Some(2));
        for bad in
            [json!({ "messages": [] }), json!({ "messages": [1, 2, 3] }), json!([[1]]), json!({})]
        {
            assert_eq!(batch(bad.clone()), None, "{bad}");
        }
        // What is wrong is named.
        let field = |body: &[u8]| match RawMessages::in_msgpack_batch(body, 2) {
            Ok(_) => panic!("taken"),
            Err(problem) => problem.to_string().split('`').nth(1).unwrap_or_default().to_owned(),
        };
        let messages = b"\xa8messages\x91\x01";
        assert_eq!(field(&[&[0x82], &messages[..], b"\xa1x\x01"].concat()), "x");
        assert_eq!(field(&[&[0x82], &messages[..], messages].concat()), "messages");
        assert_eq!(field(&[&[0x81], &messages[..], b"\x01"].concat()), "body", "something follows");
        assert_eq!(field(b"\x81\xa8messages\x80"), "messages", "no array");
        assert_eq!(field(b"\x80"), "messages", "is missing");
        // An array that announces more elements than follow.
        assert!(RawMessages::in_binary_frame(&[0x92, 1], 2).is_err());
        assert!(RawMessages::in_binary_frame(&[0x91, 1, 1], 2).is_err(), "something follows");
    }
}
