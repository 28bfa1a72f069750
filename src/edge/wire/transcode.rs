//! From MessagePack to JSON and back, for payloads that are JSON.

use rmp_serde::Serializer;
use serde_json::Deserializer;

use super::json_text::{self, DEPTH_MAX};
use super::msgpack::{Reader, Token};
use crate::edge::error::Problem;

/// A MessagePack value as the equivalent JSON text.
///
/// # Errors
/// It has no JSON form, or one longer than `bytes_max`.
pub(crate) fn to_json(value: &[u8], bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::with_capacity(value.len());
    let mut writer = ToJson { reader: Reader::new(value), bytes_max, out: &mut out };
    writer.value(0)?;
    Ok(out)
}

struct ToJson<'a> {
    reader: Reader<'a>,
    bytes_max: usize,
    out: &'a mut Vec<u8>,
}

fn not_json(why: &str) -> Problem {
    Problem::invalid(
        "data",
        format!("{why} has no JSON form; send bytes as bin, or a content type"),
    )
}

impl ToJson<'_> {
    fn value(&mut self, depth: usize) -> Result<(), Problem> {
        let token = self.reader.token().map_err(|error| Problem::invalid("data", error))?;
        if depth == DEPTH_MAX && matches!(token, Token::Array(_) | Token::Map(_)) {
            return Err(Problem::invalid("data", format!("is nested deeper than {DEPTH_MAX}")));
        }
        match token {
            Token::Nil => self.out.extend_from_slice(b"null"),
            Token::Bool(value) => self.plain(&value),
            Token::Unsigned(number) => self.plain(&number),
            Token::Negative(number) => self.plain(&number),
            Token::Float(number) if number.is_finite() => self.plain(&number),
            Token::Float(_) => return Err(not_json("a number that is not finite")),
            Token::Text(bytes) => self.text(bytes)?,
            Token::Bin(_) => return Err(not_json("bin within a value")),
            Token::Extension => return Err(not_json("an extension type")),
            Token::Array(count) => {
                self.out.push(b'[');
                for n in 0..count {
                    self.comma(n);
                    self.value(depth + 1)?;
                }
                self.out.push(b']');
            }
            Token::Map(count) => {
                self.out.push(b'{');
                for n in 0..count {
                    self.comma(n);
                    match self.reader.token() {
                        Ok(Token::Text(bytes)) => self.text(bytes)?,
                        _ => return Err(not_json("a map with keys that are no strings")),
                    }
                    self.out.push(b':');
                    self.value(depth + 1)?;
                }
                self.out.push(b'}');
            }
        }
        match self.out.len() > self.bytes_max {
            true => Err(Problem::message_too_large(self.out.len(), self.bytes_max)),
            false => Ok(()),
        }
    }

    fn comma(&mut self, n: u32) {
        if n > 0 {
            self.out.push(b',');
        }
    }

    fn plain(&mut self, value: &impl serde::Serialize) {
        serde_json::to_writer(&mut *self.out, value).expect("a Vec takes everything");
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| not_json("text that is not UTF-8"))?;
        self.plain(&text);
        Ok(())
    }
}

/// Appends JSON text as the MessagePack value that is exactly equal; returns `None`, and appends
/// nothing, if MessagePack has no such value (too deep a nesting, or a number that is neither
/// integer nor double).
pub(crate) fn append_json(out: &mut Vec<u8>, json: &[u8]) -> Option<()> {
    if !json_text::fits_messagepack(json) {
        return None;
    }
    let begun = out.len();
    let mut from = Deserializer::from_slice(json);
    let mut into = Serializer::new(&mut *out);
    let done = serde_transcode::transcode(&mut from, &mut into).is_ok() && from.end().is_ok();
    if !done {
        out.truncate(begun);
    }
    done.then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn there_and_back(json: &str) -> Option<String> {
        let mut msgpack = Vec::new();
        append_json(&mut msgpack, json.as_bytes())?;
        Some(String::from_utf8(to_json(&msgpack, 10_000).unwrap()).unwrap())
    }

    #[test]
    fn json_goes_to_messagepack_and_back() {
        for json in [
            "null",
            "-1",
            "18446744073709551615",
            "0.5",
            "\"a\\n\u{e9}\"",
            "[1,[],{\"a\":{},\"b\":true}]",
        ] {
            assert_eq!(there_and_back(json).as_deref(), Some(json));
        }
        assert_eq!(there_and_back(" [ 1 , 2 ] ").as_deref(), Some("[1,2]"));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(there_and_back(&deep), None);
        for inexact in ["1e999", "18446744073709551617", "[0.1000000000000000055]"] {
            assert_eq!(there_and_back(inexact), None, "{inexact}");
        }
        for (json, back) in [("-0", "-0.0"), ("1e2", "100.0"), ("0.10", "0.1"), ("1.0", "1.0")] {
            assert_eq!(there_and_back(json).as_deref(), Some(back));
        }
    }

    #[test]
    fn what_has_no_json_form_is_refused() {
        let mut nan = Vec::new();
        rmp::encode::write_f64(&mut nan, f64::NAN).unwrap();
        for bad in
            [&nan[..], &[0x91, 0xc4, 1, 0], &[0x81, 1, 1], &[0xd4, 0, 0], &[0xa1, 0xff], &[0x92, 1]]
        {
            assert!(to_json(bad, 100).is_err(), "{bad:?}");
        }
        assert!(to_json(&[vec![0x91; 200], vec![1]].concat(), 1_000).is_err(), "too deep");
        let error = to_json(&[vec![0xdc, 0, 50], vec![0xc0; 50]].concat(), 100).unwrap_err();
        assert!(error.to_string().contains("message-too-large"), "{error}");
    }

    #[test]
    fn what_is_written_can_be_read_again_however_deep_it_is() {
        let nested = |depth| [vec![0x91; depth], vec![0xc0]].concat();
        let json = to_json(&nested(DEPTH_MAX), 1_000).unwrap();
        assert_eq!(append_json(&mut Vec::new(), &json), Some(()));
        assert!(to_json(&nested(DEPTH_MAX + 1), 1_000).is_err());
        let empty = [vec![0x91; DEPTH_MAX], vec![0x90]].concat();
        assert!(to_json(&empty, 1_000).is_err(), "an empty array is one too");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(".{0,8}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_value_survives(value in any_json()) {
            let back = there_and_back(&value.to_string()).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&back).unwrap(), value);
        }
    }
}
