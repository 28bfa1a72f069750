//! JSON messages as clients send them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::attributes::Attributes;
use super::incoming::{Data, IncomingMessage};
use super::mark::{Mark, what_an_id_is};
use crate::edge::error::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    /// A member that exists and is null is a value too.
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
    #[serde(borrow, default)]
    attributes: Members<'a>,
    #[serde(default)]
    ttl_ms: Option<u64>,
}

/// The members of an object in the order of the text, repeated ones included.
#[derive(Debug, Default)]
struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(Self)
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one message.
pub(super) fn message(raw: &str) -> Result<IncomingMessage<'_>, Problem> {
    let message: Message<'_> = parse_object("message", raw.as_bytes())?;
    let mut attributes = Attributes::default();
    for (name, value) in message.attributes.0 {
        attributes.add(name, value, Attributes::member)?;
    }
    let id = match message.id {
        Some(id) => {
            Some(Mark::from_json(id).ok_or_else(|| Problem::invalid("id", what_an_id_is()))?)
        }
        None => None,
    };
    Ok(IncomingMessage {
        id,
        data: message.data.map(|data| Data::Json(data.get())),
        data_base64: message.data_base64,
        content_type: message.content_type,
        key: message.key,
        message_id: message.message_id,
        attributes,
        ttl_ms: message.ttl_ms,
    })
}

/// Reads a JSON object into a struct. (By itself serde accepts an array of the fields too.)
///
/// # Errors
/// The fault, with the path to the field below `what`.
pub fn parse_object<'a, T: Deserialize<'a>>(what: &str, json: &'a [u8]) -> Result<T, Problem> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::invalid(what, "must be a JSON object"));
    }
    // The path costs time, so it is looked for only when it is needed.
    serde_json::from_slice(json).map_err(|error| {
        let mut again = serde_json::Deserializer::from_slice(json);
        match serde_path_to_error::deserialize::<_, T>(&mut again) {
            // `?` is a member that can't be determined.
            Err(located) if !matches!(located.path().to_string().as_str(), "." | "?") => {
                Problem::invalid(&located.path().to_string(), located.inner())
            }
            _ => Problem::invalid(what, error),
        }
    })
}

/// The id of an invalid message, if it has one.
pub(super) fn id_of(raw: &str) -> Option<Mark> {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let OnlyId { id } = parse_object("message", raw.as_bytes()).ok()?;
    Mark::from_json(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_message_with_other_faults_is_found() {
        let id_of = |raw| id_of(raw).and_then(|mark| mark.number());
        assert_eq!(id_of(r#"{"colour":1,"id":7}"#), Some(7));
        assert_eq!(id_of(r#"{"colour":1,"id":{}}"#), None);
        assert_eq!(id_of("[7]"), None);
    }
}
