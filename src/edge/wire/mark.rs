//! A client's own id for a message, which its acknowledgement repeats.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A number or a string; most clients count.
#[derive(Clone, Debug)]
pub enum Mark {
    /// A whole number.
    Number(u64),
    /// A whole number below zero.
    Negative(i64),
    /// Any other number that came in MessagePack.
    Float(f64),
    /// Any other number that came in JSON; repeated to the letter there.
    Decimal(Box<RawValue>),
    /// A string.
    Text(Box<str>),
}

/// Longest id of a message on a socket, in bytes.
const ID_BYTES_MAX: usize = 128;

/// The rule for an id.
pub(super) fn what_an_id_is() -> String {
    format!("must be a number or a string of at most {ID_BYTES_MAX} bytes")
}

impl Mark {
    /// The id in a JSON message, if it is valid.
    pub(super) fn from_json(id: &RawValue) -> Option<Self> {
        let json = id.get();
        match json.as_bytes().first() {
            Some(b'"') => Self::from_text(&serde_json::from_str::<String>(json).ok()?),
            Some(b'-' | b'0'..=b'9') => {
                let number = json.parse().map(Self::Number);
                let number = number.or_else(|_| json.parse().map(Self::Negative));
                let fits = json.len() <= ID_BYTES_MAX;
                number.ok().or_else(|| fits.then(|| Self::Decimal(id.to_owned())))
            }
            _ => None,
        }
    }

    /// A string as an id, if it is short enough.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        (text.len() <= ID_BYTES_MAX).then(|| Self::Text(text.into()))
    }

    /// The number, if it is whole.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Number(_) | Self::Negative(_) | Self::Float(_) => 8,
            Self::Text(text) => text.len(),
            Self::Decimal(json) => json.get().len(),
        }
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Negative(number) => number.serialize(serializer),
            Self::Float(number) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Decimal(json) if serializer.is_human_readable() => json.serialize(serializer),
            Self::Decimal(json) => {
                json.get().parse::<f64>().unwrap_or(f64::NAN).serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::wire::{Encoding, Frame, to_msgpack};

    fn mark(json: &str) -> Option<Mark> {
        Mark::from_json(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn json_ids_are_said_again() {
        for id in [
            "0",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
            "1.50",
            "1e3",
            "\"\u{e9}\\n\"",
        ] {
            assert_eq!(Encoding::Json.frame(&mark(id)), Frame::Text(id.to_owned()));
        }
        let long = format!("\"{}\"", "x".repeat(ID_BYTES_MAX + 1));
        for id in ["null", "true", "[1]", "{}", &long] {
            assert!(mark(id).is_none(), "{id}");
        }
    }

    #[test]
    fn an_id_that_came_in_json_can_be_said_in_messagepack() {
        assert_eq!(to_msgpack(&mark("7")), to_msgpack(&7));
        assert_eq!(to_msgpack(&mark("\"a\"")), to_msgpack(&"a"));
        assert_eq!(to_msgpack(&mark("1.50")), to_msgpack(&1.5));
    }
}
