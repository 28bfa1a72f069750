//! MessagePack as clients send it (github.com/msgpack/msgpack/blob/master/spec.md): tokens, and the
//! messages that are made of them.
//!
//! Parsed token by token from the received bytes, so that a declared length costs nothing and deep
//! nesting no stack.

use std::borrow::Cow;

use rmp::Marker;

use super::attributes::Attributes;
use super::incoming::{Data, IncomingMessage};
use super::mark::{Mark, what_an_id_is};
use crate::edge::error::Problem;

/// Bytes that are not MessagePack, or end too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no MessagePack, or ends too early")]
pub struct Malformed;

impl From<Malformed> for Problem {
    fn from(error: Malformed) -> Self {
        Self::invalid("frame", error)
    }
}

/// One value, or the head of one that contains others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(&'a [u8]),
    Bin(&'a [u8]),
    /// N values follow.
    Array(u32),
    /// N pairs of values follow.
    Map(u32),
    Extension,
}

/// Reads tokens off the front of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        self.rest.split_off(..count).ok_or(Malformed)
    }

    /// A big-endian number of N bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.bytes(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<u32, Malformed> {
        self.number(bytes).map(|length| length as u32)
    }

    fn signed(&mut self, bytes: usize) -> Result<Token<'a>, Malformed> {
        let unused = 64 - 8 * bytes as u32;
        let number = (self.number(bytes)? << unused) as i64 >> unused;
        Ok(u64::try_from(number).map_or(Token::Negative(number), Token::Unsigned))
    }

    fn extension(&mut self, bytes: usize) -> Result<Token<'a>, Malformed> {
        self.bytes(1 + bytes)?;
        Ok(Token::Extension)
    }

    fn sized(&mut self, length_bytes: usize) -> Result<&'a [u8], Malformed> {
        let length = self.length(length_bytes)?;
        self.bytes(length as usize)
    }

    pub(super) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let marker = Marker::from_u8(self.bytes(1)?[0]);
        Ok(match marker {
            Marker::Null => Token::Nil,
            Marker::True => Token::Bool(true),
            Marker::False => Token::Bool(false),
            Marker::FixPos(number) => Token::Unsigned(number.into()),
            Marker::FixNeg(number) => Token::Negative(number.into()),
            Marker::U8 => Token::Unsigned(self.number(1)?),
            Marker::U16 => Token::Unsigned(self.number(2)?),
            Marker::U32 => Token::Unsigned(self.number(4)?),
            Marker::U64 => Token::Unsigned(self.number(8)?),
            Marker::I8 => self.signed(1)?,
            Marker::I16 => self.signed(2)?,
            Marker::I32 => self.signed(4)?,
            Marker::I64 => self.signed(8)?,
            Marker::F32 => Token::Float(f32::from_bits(self.number(4)? as u32).into()),
            Marker::F64 => Token::Float(f64::from_bits(self.number(8)?)),
            Marker::FixStr(length) => Token::Text(self.bytes(length.into())?),
            Marker::Str8 => Token::Text(self.sized(1)?),
            Marker::Str16 => Token::Text(self.sized(2)?),
            Marker::Str32 => Token::Text(self.sized(4)?),
            Marker::Bin8 => Token::Bin(self.sized(1)?),
            Marker::Bin16 => Token::Bin(self.sized(2)?),
            Marker::Bin32 => Token::Bin(self.sized(4)?),
            Marker::FixArray(count) => Token::Array(count.into()),
            Marker::Array16 => Token::Array(self.length(2)?),
            Marker::Array32 => Token::Array(self.length(4)?),
            Marker::FixMap(count) => Token::Map(count.into()),
            Marker::Map16 => Token::Map(self.length(2)?),
            Marker::Map32 => Token::Map(self.length(4)?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.length(1).and_then(|n| self.extension(n as usize))?,
            Marker::Ext16 => self.length(2).and_then(|n| self.extension(n as usize))?,
            Marker::Ext32 => self.length(4).and_then(|n| self.extension(n as usize))?,
            Marker::Reserved => return Err(Malformed),
        })
    }

    /// The bytes of the next value with everything in it.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let begun = self.rest;
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            left += match self.token()? {
                Token::Array(count) => u64::from(count),
                Token::Map(count) => 2 * u64::from(count),
                _ => 0,
            };
        }
        Ok(&begun[..begun.len() - self.rest.len()])
    }

    /// Text, for the member `field`.
    pub(super) fn text(&mut self, field: &str) -> Result<&'a str, Problem> {
        let not_text = |_| Problem::invalid(field, "must be UTF-8 text");
        match self.token().map_err(|error| Problem::invalid(field, error))? {
            Token::Text(bytes) => std::str::from_utf8(bytes).map_err(not_text),
            _ => Err(Problem::invalid(field, "must be a string")),
        }
    }
}

/// Reads one message, which is all of `raw`.
pub(super) fn message(raw: &[u8]) -> Result<IncomingMessage<'_>, Problem> {
    let mut reader = Reader::new(raw);
    let malformed = |error: Malformed| Problem::invalid("message", error);
    let Token::Map(members) = reader.token().map_err(malformed)? else {
        return Err(Problem::invalid("message", "must be a map"));
    };
    let mut message = IncomingMessage::default();
    let mut seen = 0u8;
    for _ in 0..members {
        let name = reader.text("message")?;
        let place = MEMBERS.iter().position(|member| *member == name).ok_or_else(|| {
            let expected = MEMBERS.join("`, `");
            Problem::invalid(name, format!("unknown field, expected one of `{expected}`"))
        })?;
        if seen & 1 << place != 0 {
            return Err(Problem::invalid(name, "duplicate field"));
        }
        seen |= 1 << place;
        let value = reader.value().map_err(|error| Problem::invalid(name, error))?;
        read_member(&mut message, MEMBERS[place], value)?;
    }
    if !reader.is_at_end() {
        return Err(Problem::invalid("message", "something follows the map"));
    }
    Ok(message)
}

const MEMBERS: [&str; 8] =
    ["id", "data", "data_base64", "content_type", "key", "message_id", "attributes", "ttl_ms"];

fn read_member<'a>(
    message: &mut IncomingMessage<'a>,
    name: &'static str,
    value: &'a [u8],
) -> Result<(), Problem> {
    let mut reader = Reader::new(value);
    // As in JSON, where optional members may be null; data may be null itself.
    if reader.token() == Ok(Token::Nil) && !matches!(name, "id" | "data" | "attributes") {
        return Ok(());
    }
    reader = Reader::new(value);
    let mut text = || reader.text(name).map(Cow::Borrowed).map(Some);
    match name {
        "id" => message.id = Some(mark(value)?),
        "data" => message.data = Some(Data::MessagePack(value)),
        "data_base64" => message.data_base64 = text()?,
        "content_type" => message.content_type = text()?,
        "key" => message.key = text()?,
        "message_id" => message.message_id = text()?,
        "attributes" => message.attributes = attributes(value)?,
        _ => match reader.token() {
            Ok(Token::Unsigned(ttl_ms)) => message.ttl_ms = Some(ttl_ms),
            _ => return Err(Problem::invalid(name, "must be a whole number, not below 0")),
        },
    }
    Ok(())
}

fn attributes(value: &[u8]) -> Result<Attributes<'_>, Problem> {
    let mut reader = Reader::new(value);
    let Ok(Token::Map(count)) = reader.token() else {
        return Err(Problem::invalid("attributes", "must be a map of strings"));
    };
    let mut attributes = Attributes::default();
    for _ in 0..count {
        let name = reader.text("attributes")?;
        let value = reader.text(&format!("attributes.{name}"))?;
        attributes.add(name.into(), value.into(), Attributes::member)?;
    }
    Ok(attributes)
}

fn mark(value: &[u8]) -> Result<Mark, Problem> {
    let mark = match Reader::new(value).token() {
        Ok(Token::Unsigned(number)) => Some(Mark::Number(number)),
        Ok(Token::Negative(number)) => Some(Mark::Negative(number)),
        Ok(Token::Float(number)) => Some(Mark::Float(number)),
        Ok(Token::Text(bytes)) => std::str::from_utf8(bytes).ok().and_then(Mark::from_text),
        _ => None,
    };
    mark.ok_or_else(|| Problem::invalid("id", what_an_id_is()))
}

/// The id of an invalid message, if it has one.
pub(super) fn id_of(raw: &[u8]) -> Option<Mark> {
    let mut reader = Reader::new(raw);
    let Ok(Token::Map(members)) = reader.token() else { return None };
    for _ in 0..members {
        let name = reader.value().ok()?;
        let value = reader.value().ok()?;
        if Reader::new(name).token() == Ok(Token::Text(b"id")) {
            return mark(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::edge::wire::to_msgpack;

    #[test]
    fn every_kind_of_token_is_read() {
        let mut bytes = Vec::new();
        rmp::encode::write_sint(&mut bytes, -3).unwrap();
        rmp::encode::write_sint(&mut bytes, -70_000).unwrap();
        rmp::encode::write_u64(&mut bytes, u64::MAX).unwrap();
        rmp::encode::write_i64(&mut bytes, 5).unwrap();
        rmp::encode::write_f32(&mut bytes, 0.5).unwrap();
        rmp::encode::write_bin(&mut bytes, &[0; 300]).unwrap();
        rmp::encode::write_ext_meta(&mut bytes, 4, 1).unwrap();
        bytes.extend([1, 2, 3, 4]);
        let mut reader = Reader::new(&bytes);
        let expected = [
            Token::Negative(-3),
            Token::Negative(-70_000),
            Token::Unsigned(u64::MAX),
            Token::Unsigned(5),
            Token::Float(0.5),
            Token::Bin(&[0; 300]),
            Token::Extension,
        ];
        for token in expected {
            assert_eq!(reader.token(), Ok(token));
        }
        assert!(reader.is_at_end());
        assert_eq!(Reader::new(&[0xc1]).token(), Err(Malformed), "reserved");
    }

    #[test]
    fn a_value_of_any_depth_is_passed_over_without_a_stack() {
        let deep = [vec![0x91; 1_000_000], vec![0xc0]].concat();
        assert_eq!(Reader::new(&deep).value().map(<[u8]>::len), Ok(deep.len()));
        // 2^32 values are announced and none follows.
        assert_eq!(Reader::new(&[0xdd, 255, 255, 255, 255]).value(), Err(Malformed));
    }

    #[test]
    fn what_cannot_be_taken_names_the_field() {
        for (content, named) in [
            (json!({ "data": 1, "colour": 2 }), "`colour`"),
            (json!({ "data": 1, "id": {} }), "`id`"),
            (json!({ "data": 1, "id": null }), "`id`"),
            (json!({ "data": 1, "key": 5 }), "`key`"),
            (json!({ "data": 1, "ttl_ms": -1 }), "`ttl_ms`"),
            (json!({ "data": 1, "attributes": { "a": 1 } }), "`attributes.a`"),
            (json!({ "data": 1, "attributes": [] }), "`attributes`"),
            (json!([1]), "must be a map"),
        ] {
            let error = message(&to_msgpack(&content)).unwrap_err().to_string();
            assert!(error.contains(named), "{content}: {error}");
        }
        let twice = [&[0x82][..], &[0xa3], b"key", &[0xa1], b"a", &[0xa3], b"key", &[0xa1], b"b"];
        assert!(message(&twice.concat()).unwrap_err().to_string().contains("duplicate"));
        let trailing = [to_msgpack(&json!({ "data": 1 })), vec![0]].concat();
        assert!(message(&trailing).is_err());
    }

    #[test]
    fn the_id_of_a_message_with_other_faults_is_found() {
        let id = |content: Value| id_of(&to_msgpack(&content)).and_then(|mark| mark.number());
        assert_eq!(id(json!({ "colour": 1, "id": 7 })), Some(7));
        assert_eq!(id(json!({ "id": [] })), None);
        assert_eq!(id(json!([7])), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_message_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = message(&bytes);
            let _ = id_of(&bytes);
        }
    }
}
