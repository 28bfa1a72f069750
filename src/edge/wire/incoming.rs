//! Messages as clients send them in JSON, and the checks that make them records.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::edge::error::Problem;
use crate::model::{BlockBuilder, PayloadKind, Record};

/// A message as API.md describes it ("Messages, sent").
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncomingMessage<'a> {
    /// The sender's mark for the acknowledgement; sockets only.
    #[serde(borrow, default, deserialize_with = "present")]
    pub id: Option<&'a RawValue>,
    /// The payload as a JSON value. A member that is there and null is a value too.
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message_id: Option<Cow<'a, str>>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    ttl_ms: Option<u64>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Longest id of a message on a socket, in bytes of its JSON.
const ID_BYTES_MAX: usize = 128;

/// Who sent it, for what only some may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A socket: `id` asks for an acknowledgement.
    Socket,
    /// A request body: the answer's order is its identification.
    Request,
}

/// Reads one message.
///
/// # Errors
/// What is wrong with it, with the field's name.
pub fn message_from<'a>(raw: &'a str, sender: Sender) -> Result<IncomingMessage<'a>, Problem> {
    let message: IncomingMessage<'a> = parse_object("message", raw.as_bytes())?;
    match (message.id, sender) {
        (Some(_), Sender::Request) => Err(Problem::invalid("id", "only sockets take an id")),
        (Some(id), Sender::Socket) if !is_id(id) => {
            let why = format!("must be a number or a string of at most {ID_BYTES_MAX} bytes");
            Err(Problem::invalid("id", why))
        }
        _ => Ok(message),
    }
}

fn is_id(id: &RawValue) -> bool {
    let json = id.get().as_bytes();
    json.len() <= ID_BYTES_MAX && matches!(json.first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

/// Reads a JSON object into a struct. (Left to itself serde takes an array of the fields too.)
///
/// # Errors
/// What is wrong, with the path to the field below `what`.
pub fn parse_object<'a, T: Deserialize<'a>>(what: &str, json: &'a [u8]) -> Result<T, Problem> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid(what, "must be a JSON object"));
    }
    // The path costs time, so it is looked for only when it is needed.
    serde_json::from_slice(json).map_err(|error| {
        let mut again = serde_json::Deserializer::from_slice(json);
        match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(located) if located.path().iter().next().is_some() => {
                Problem::invalid(&located.path().to_string(), located.inner())
            }
            _ => Problem::invalid(what, error),
        }
    })
}

/// The id of a message that can't be taken as it is, if it has one.
pub fn id_of(raw: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let OnlyId { id } = parse_object("message", raw.as_bytes()).ok()?;
    is_id(id).then(|| id.get())
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
        let (payload, default_type) = self.payload()?;
        let content_type = self.content_type.as_deref().unwrap_or(default_type);
        check_payload(content_type, &payload, message_bytes_max)?;
        block.push(&Record {
            content_type,
            key: self.key.as_deref(),
            message_id: self.message_id.as_deref(),
            attributes: self.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
            ttl_ms: self.ttl_ms,
            payload: &payload,
        })?;
        Ok(())
    }

    /// The payload's bytes, and the content type they have if none is given.
    fn payload(&self) -> Result<(Cow<'_, [u8]>, &'static str), Problem> {
        match (self.data, &self.data_base64) {
            (Some(_), Some(_)) => {
                Err(Problem::invalid("data", "give either `data` or `data_base64`, not both"))
            }
            (None, None) => Err(Problem::invalid("data", "`data` or `data_base64` is missing")),
            (None, Some(encoded)) => {
                let bytes = STANDARD
                    .decode(encoded.as_bytes())
                    .map_err(|error| Problem::invalid("data_base64", error))?;
                Ok((Cow::Owned(bytes), "application/octet-stream"))
            }
            (Some(data), None) => {
                let json =
                    PayloadKind::of(self.content_type.as_deref().unwrap_or("application/json"))
                        == PayloadKind::Json;
                if json {
                    return Ok((Cow::Borrowed(data.get().as_bytes()), "application/json"));
                }
                // A string is the text it spells; other values have no bytes but as JSON.
                let text: String = serde_json::from_str(data.get()).map_err(|_| {
                    let why = "must be a string where the content type is not JSON (or use `data_base64`)";
                    Problem::invalid("data", why)
                })?;
                Ok((Cow::Owned(text.into_bytes()), "application/json"))
            }
        }
    }
}

/// Checks a payload's size, and that it is JSON where it is declared to be.
///
/// # Errors
/// Too large, or not JSON.
pub fn check_payload(
    content_type: &str,
    payload: &[u8],
    message_bytes_max: usize,
) -> Result<(), Problem> {
    if payload.len() > message_bytes_max {
        return Err(Problem::message_too_large(payload.len(), message_bytes_max));
    }
    if PayloadKind::of(content_type) == PayloadKind::Json {
        // Read as a raw value: checks syntax and UTF-8 without recursion, builds nothing.
        serde_json::from_slice::<&RawValue>(payload).map_err(|error| {
            Problem::invalid("data", format!("is declared JSON but isn't: {error}"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(raw: &str) -> Result<(String, Vec<u8>), String> {
        let mut builder = BlockBuilder::default();
        let message = message_from(raw, Sender::Socket).map_err(|p| p.to_string())?;
        message.push_to(&mut builder, 64).map_err(|p| p.to_string())?;
        let block = builder.finish().unwrap();
        let record = Record::decode(&mut &block.body()[..]).unwrap();
        Ok((record.content_type.to_owned(), record.payload.to_vec()))
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
    fn the_id_of_a_message_with_other_faults_is_found() {
        assert_eq!(id_of(r#"{"colour":1,"id":7}"#), Some("7"));
        assert_eq!(id_of(r#"{"colour":1,"id":{}}"#), None);
        assert_eq!(id_of("[7]"), None);
    }
}
