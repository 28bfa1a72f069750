//! Messages as clients send them, in any encoding, and the checks that make them records.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::attributes::Attributes;
use super::mark::Mark;
use super::{json, json_text, msgpack, transcode};
use crate::edge::error::Problem;
use crate::model::{BlockBuilder, PayloadKind, Record};

/// A message as API.md describes it ("Messages, sent").
#[derive(Debug, Default)]
pub struct IncomingMessage<'a> {
    /// The sender's id for the acknowledgement; sockets only.
    pub id: Option<Mark>,
    pub(super) data: Option<Data<'a>>,
    pub(super) data_base64: Option<Cow<'a, str>>,
    pub(super) content_type: Option<Cow<'a, str>>,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) message_id: Option<Cow<'a, str>>,
    /// What the sender attached.
    pub attributes: Attributes<'a>,
    pub(super) ttl_ms: Option<u64>,
}

/// A payload given as a value, not as base64.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data<'a> {
    /// The text of a JSON value.
    Json(&'a str),
    /// The bytes of one MessagePack value.
    MessagePack(&'a [u8]),
}

/// A message's location in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawMessage<'a> {
    /// A JSON value.
    Json(&'a str),
    /// One MessagePack value.
    MessagePack(&'a [u8]),
}

/// The kind of sender, for fields that only one kind may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A socket: `id` asks for an acknowledgement.
    Socket,
    /// A request body: the answer's order is its identification.
    Request,
}

impl<'a> RawMessage<'a> {
    /// Reads the message.
    ///
    /// # Errors
    /// The fault, with the field's name.
    pub fn message(self, sender: Sender) -> Result<IncomingMessage<'a>, Problem> {
        let message = match self {
            Self::Json(raw) => json::message(raw)?,
            Self::MessagePack(raw) => msgpack::message(raw)?,
        };
        match (&message.id, sender) {
            (Some(_), Sender::Request) => Err(Problem::invalid("id", "only sockets take an id")),
            _ => Ok(message),
        }
    }

    /// The id of an invalid message, if it has one.
    pub fn id(self) -> Option<Mark> {
        match self {
            Self::Json(raw) => json::id_of(raw),
            Self::MessagePack(raw) => msgpack::id_of(raw),
        }
    }
}

/// The payload of a message, and its default content type.
struct Payload<'a> {
    bytes: Cow<'a, [u8]>,
    default_type: &'static str,
    /// It is certainly JSON, as a message may hold it.
    is_json: bool,
}

impl<'a> Payload<'a> {
    fn json(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { bytes: bytes.into(), default_type: "application/json", is_json: true }
    }

    fn bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        let default_type = "application/octet-stream";
        Self { bytes: bytes.into(), default_type, is_json: false }
    }
}

impl IncomingMessage<'_> {
    /// Checks the message and adds it to the block.
    ///
    /// # Errors
    /// The field and its limit; the block is as it was.
    pub fn push_to(
        &self,
        block: &mut BlockBuilder,
        message_bytes_max: usize,
    ) -> Result<(), Problem> {
        let payload = self.payload(message_bytes_max)?;
        let content_type = self.content_type.as_deref().unwrap_or(payload.default_type);
        let bytes = if payload.is_json {
            check_size(payload.bytes.len(), message_bytes_max)?;
            &*payload.bytes
        } else {
            check_payload(content_type, &payload.bytes, message_bytes_max)?
        };
        block.push(&Record {
            content_type,
            key: self.key.as_deref(),
            message_id: self.message_id.as_deref(),
            attributes: self.attributes.pairs(),
            ttl_ms: self.ttl_ms,
            payload: bytes,
        })?;
        Ok(())
    }

    fn payload(&self, bytes_max: usize) -> Result<Payload<'_>, Problem> {
        let declared = self.content_type.as_deref();
        let as_json = PayloadKind::of(declared.unwrap_or("application/json")) == PayloadKind::Json;
        let data = match (self.data, &self.data_base64) {
            (Some(_), Some(_)) => {
                let why = "give either `data` or `data_base64`, not both";
                return Err(Problem::invalid("data", why));
            }
            (None, None) => {
                return Err(Problem::invalid("data", "`data` or `data_base64` is missing"));
            }
            (None, Some(encoded)) => {
                let bytes = STANDARD.decode(encoded.as_bytes());
                let bytes = bytes.map_err(|error| Problem::invalid("data_base64", error))?;
                return Ok(Payload::bytes(bytes));
            }
            (Some(data), None) => data,
        };
        match data {
            Data::Json(json) if as_json => {
                check_size(json.len(), bytes_max)?;
                json_text::check(json.as_bytes()).map_err(|why| Problem::invalid("data", why))?;
                Ok(Payload::json(json.as_bytes()))
            }
            // A string is the text it spells; other values have no bytes but as JSON.
            Data::Json(json) => match serde_json::from_str::<String>(json) {
                Ok(text) => Ok(Payload::bytes(text.into_bytes())),
                Err(_) => {
                    let why = "must be a string where the content type is not JSON (or use \
                               `data_base64`)";
                    Err(Problem::invalid("data", why))
                }
            },
            Data::MessagePack(value) => match msgpack::Reader::new(value).token() {
                Ok(msgpack::Token::Bin(bytes)) => Ok(Payload::bytes(bytes)),
                Ok(_) if as_json => Ok(Payload::json(transcode::to_json(value, bytes_max)?)),
                Ok(msgpack::Token::Text(text)) => Ok(Payload::bytes(text)),
                _ => {
                    let why = "must be bin or a string where the content type is not JSON";
                    Err(Problem::invalid("data", why))
                }
            },
        }
    }
}

/// Checks a payload's size, and that it is JSON if it is declared to be. Returns what is to be
/// stored: the same bytes, but for a byte order mark before JSON.
///
/// # Errors
/// Too large, or not JSON that a message may hold.
pub fn check_payload<'a>(
    content_type: &str,
    payload: &'a [u8],
    message_bytes_max: usize,
) -> Result<&'a [u8], Problem> {
    let declared_json = PayloadKind::of(content_type) == PayloadKind::Json;
    let payload = if declared_json { json_text::without_mark(payload) } else { payload };
    check_size(payload.len(), message_bytes_max)?;
    if declared_json {
        check_json(payload)?;
    }
    Ok(payload)
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), Problem> {
    if bytes > bytes_max {
        return Err(Problem::message_too_large(bytes, bytes_max));
    }
    Ok(())
}

fn check_json(payload: &[u8]) -> Result<(), Problem> {
    // Read as a raw value: checks syntax and UTF-8 without recursion, builds nothing.
    serde_json::from_slice::<&RawValue>(payload).map_err(|error| {
        Problem::invalid("data", format!("is declared JSON but isn't: {error}"))
    })?;
    json_text::check(payload).map_err(|why| Problem::invalid("data", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored_as(raw: RawMessage<'_>) -> Result<(String, Vec<u8>), String> {
        let mut builder = BlockBuilder::default();
        let message = raw.message(Sender::Socket).map_err(|p| p.to_string())?;
        message.push_to(&mut builder, 64).map_err(|p| p.to_string())?;
        let block = builder.finish().unwrap();
        let record = Record::decode(&mut &block.body()[..]).unwrap();
        Ok((record.content_type.to_owned(), record.payload.to_vec()))
    }

    fn stored(raw: &str) -> Result<(String, Vec<u8>), String> {
        stored_as(RawMessage::Json(raw))
    }

    #[test]
    fn json_is_kept_byte_for_byte() {
        for data in ["{\"a\" : 1.0e0,\n \"a\":2}", "null", "\"\\u00e9\"", "12345678901234567890123"]
        {
            let (content_type, payload) = stored(&format!("{{\"data\":{data}}}")).unwrap();
            assert_eq!(content_type, "application/json");
            assert_eq!(payload, data.as_bytes());
        }
    }

    #[test]
    fn text_and_base64_are_kept_as_the_bytes_they_stand_for() {
        let text = stored(r#"{"data":"h\u00e9","content_type":"text/plain"}"#).unwrap();
        assert_eq!(text, ("text/plain".into(), "hé".into()));
        let bytes = stored(r#"{"data_base64":"AAH/"}"#).unwrap();
        assert_eq!(bytes, ("application/octet-stream".into(), vec![0, 1, 255]));
        let json = stored(r#"{"data_base64":"eyJhIjoxfQ==","content_type":"application/json"}"#);
        assert_eq!(json.unwrap().1, br#"{"a":1}"#);
    }

    #[test]
    fn what_cannot_be_taken_names_the_field() {
        for (raw, named) in [
            (r#"{}"#, "`data`"),
            (r#"{"data":1,"data_base64":""}"#, "`data`"),
            (r#"{"data_base64":"%"}"#, "`data_base64`"),
            (r#"{"data":1,"colour":2}"#, "colour"),
            (r#"{"data":1,"id":{}}"#, "`id`"),
            (r#"{"data":1,"id":null}"#, "`id`"),
            (r#"{"data":1,"content_type":"text/plain"}"#, "`data`"),
            (r#"{"data_base64":"eA==","content_type":"application/json"}"#, "`data`"),
            (r#"{"data":1,"ttl_ms":1.5}"#, "`ttl_ms`"),
            (r#"{"data":1,"attributes":{"a":1}}"#, "`attributes.a`"),
            (r#"{"data":"x","content_type":"a\nb"}"#, "`content_type`"),
            (r#"[1,7]"#, "must be a JSON object"),
            (
                r#"{"data":"0123456789012345678901234567890123456789012345678901234567890123"}"#,
                "64",
            ),
            ("{", "EOF"),
        ] {
            let error = stored(raw).unwrap_err();
            assert!(error.contains(named), "{raw}: {error}");
        }
    }

    #[test]
    fn messagepack_data_is_bytes_text_or_a_json_value() {
        use rmp::encode::{write_bin, write_map_len, write_str};

        let of = |data: &[u8], content_type: Option<&str>| {
            let mut message = Vec::new();
            write_map_len(&mut message, 1 + u32::from(content_type.is_some())).unwrap();
            write_str(&mut message, "data").unwrap();
            message.extend_from_slice(data);
            if let Some(content_type) = content_type {
                write_str(&mut message, "content_type").unwrap();
                write_str(&mut message, content_type).unwrap();
            }
            stored_as(RawMessage::MessagePack(&message))
        };
        let is = |content_type: &str, payload: &[u8]| Ok((content_type.into(), payload.into()));
        let mut bin = Vec::new();
        write_bin(&mut bin, b"\0\xff").unwrap();
        assert_eq!(of(&bin, None), is("application/octet-stream", b"\0\xff"));
        assert_eq!(of(&bin, Some("image/png")), is("image/png", b"\0\xff"));
        assert!(of(&bin, Some("application/json")).unwrap_err().contains("declared JSON"));
        let mut json = Vec::new();
        write_bin(&mut json, b"{ \"a\": 1.0 }").unwrap();
        assert_eq!(of(&json, Some("a/b+json")), is("a/b+json", b"{ \"a\": 1.0 }"));
        let mut text = Vec::new();
        write_str(&mut text, "h\"é").unwrap();
        assert_eq!(of(&text, None), is("application/json", "\"h\\\"é\"".as_bytes()));
        assert_eq!(of(&text, Some("text/plain")), is("text/plain", "h\"é".as_bytes()));
        assert_eq!(of(&[0x92, 1, 0xc0], None), is("application/json", b"[1,null]"));
        assert!(of(&[1], Some("text/plain")).unwrap_err().contains("`data`"));
    }
}
