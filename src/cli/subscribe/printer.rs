//! Received messages on standard output, gaps on standard error.
//!
//! Invariant: a file or a program gets exactly the bytes that were sent, whatever their declared
//! type; a terminal gets nothing that it would take for a command.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::filter::Filter;
use crate::cli::output::{note, one_line, print};
use crate::cli::terminal;
use crate::model::{Gap, PayloadKind};

/// A message, as far as it is used here.
#[derive(Deserialize)]
pub(super) struct Received<'a> {
    offset: u64,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) key: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

/// A member that exists and is null is a value too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// See the module.
pub(super) struct Printer {
    filter: Filter,
    json: bool,
    /// Standard output is a terminal.
    terminal: bool,
    /// Messages still to be printed.
    left: u64,
}

impl Printer {
    /// Prints messages that pass, whole or their payloads alone, at most N.
    pub(super) fn new(filter: Filter, json: bool, count: Option<u64>) -> Self {
        let terminal = stdout().is_terminal();
        Self { filter, json, terminal, left: count.unwrap_or(u64::MAX) }
    }

    /// It has printed as many as asked for.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Prints the matching messages below the offset `end`; returns the offset after the last one
    /// read.
    pub(super) fn messages(&mut self, raw: &[&RawValue], end: u64) -> anyhow::Result<Option<u64>> {
        let mut lines = Vec::new();
        let mut next = None;
        for raw in raw {
            let message: Received<'_> =
                serde_json::from_str(raw.get()).context("a message can't be read")?;
            if self.is_done() || message.offset >= end {
                break;
            }
            next = Some(message.offset + 1);
            if self.filter.passes(&message) {
                self.left -= 1;
                lines.push(self.line(raw, message)?);
            }
        }
        print(lines)?;
        Ok(next)
    }

    fn line<'a>(&self, raw: &'a RawValue, message: Received<'a>) -> anyhow::Result<Cow<'a, [u8]>> {
        let line = match (self.json, one_line(raw.get())) {
            (false, _) => payload(raw, message)?,
            (true, Cow::Borrowed(line)) => Cow::Borrowed(line.as_bytes()),
            (true, Cow::Owned(line)) => Cow::Owned(line.into_bytes()),
        };
        Ok(match self.terminal {
            true if self.json => Cow::Owned(terminal::json(&line)),
            true => Cow::Owned(terminal::payload(&line)),
            false => line,
        })
    }

    /// Reports that these offsets hold no messages any more.
    pub(super) fn gap(&self, gap: Gap) {
        let Gap { from, to } = gap;
        note(&format!("weir: gap: there are no messages from offset {from} to {to}"));
    }
}

/// The payload's bytes as they were sent.
fn payload<'a>(raw: &'a RawValue, message: Received<'a>) -> anyhow::Result<Cow<'a, [u8]>> {
    let Some(data) = message.data else {
        let encoded = message.data_base64.unwrap_or_default();
        let bytes = STANDARD.decode(encoded.as_bytes()).context("`data_base64` is no base64")?;
        return Ok(Cow::Owned(bytes));
    };
    if PayloadKind::of(&message.content_type) == PayloadKind::Text {
        let text: String = serde_json::from_str(data.get()).context("a text that is no string")?;
        return Ok(Cow::Owned(text.into_bytes()));
    }
    Ok(Cow::Borrowed(with_white_space(raw.get(), data.get()).as_bytes()))
}

/// A value within a message, with the white space around it: the broker adds none, so it is the
/// payload's own.
fn with_white_space<'a>(message: &'a str, value: &str) -> &'a str {
    const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];
    let begin = value.as_ptr() as usize - message.as_ptr() as usize;
    let (before, after) = (&message[..begin], &message[begin + value.len()..]);
    let end = message.len() - after.trim_start_matches(WHITE_SPACE).len();
    &message[before.trim_end_matches(WHITE_SPACE).len()..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(message: &str) -> Vec<u8> {
        let raw: &RawValue = serde_json::from_str(message).unwrap();
        payload(raw, serde_json::from_str(raw.get()).unwrap()).unwrap().into_owned()
    }

    #[test]
    fn payloads_are_what_was_sent_white_space_and_all() {
        for json in ["1", " 1", "\r\n{\"a\" : 1.0e0 }\n\t", "null", "\"x\"  "] {
            for rest in ["", ",\"later\":\"member\""] {
                let message = format!(
                    r#"{{"offset":7,"content_type":"application/json","data":{json}{rest}}}"#
                );
                assert_eq!(printed(&message), json.as_bytes(), "{message}");
            }
        }
        let text = r#"{"offset":7,"content_type":"text/csv","data":"a\r\n\u0000"}"#;
        assert_eq!(printed(text), b"a\r\n\0");
        let bytes = r#"{"offset":7,"content_type":"image/png","data_base64":"/wD+"}"#;
        assert_eq!(printed(bytes), b"\xff\0\xfe");
        let empty = r#"{"offset":7,"content_type":"application/octet-stream","data_base64":""}"#;
        assert_eq!(printed(empty), b"");
    }
}
