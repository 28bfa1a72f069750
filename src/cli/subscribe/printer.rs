//! Received messages on standard output, gaps on standard error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::filter::Filter;
use crate::cli::output::{one_line, print};
use crate::model::{Gap, PayloadKind};

/// A message, as far as anything here asks for it.
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

/// A member that is there and null is a value too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// See the module.
pub(super) struct Printer {
    filter: Filter,
    json: bool,
    /// Messages still to be printed.
    left: u64,
}

impl Printer {
    /// Prints messages that pass, whole or their payloads alone, at most so many.
    pub(super) fn new(filter: Filter, json: bool, count: Option<u64>) -> Self {
        Self { filter, json, left: count.unwrap_or(u64::MAX) }
    }

    /// It has printed as many as it was to.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Prints what is wanted of messages below the offset `end`; gives the offset after the last
    /// one that it looked at.
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
                lines.push(if self.json { one_line(raw.get()) } else { payload(message)? });
            }
        }
        print(lines.iter().map(|line| line.as_bytes()))?;
        Ok(next)
    }

    /// Says that these offsets hold no messages any more.
    pub(super) fn gap(&self, gap: Gap) {
        let Gap { from, to } = gap;
        eprintln!("weir: gap: there are no messages from offset {from} to {to}");
    }
}

fn payload(message: Received<'_>) -> anyhow::Result<Cow<'_, str>> {
    let Some(data) = message.data else { return Ok(message.data_base64.unwrap_or_default()) };
    match PayloadKind::of(&message.content_type) {
        PayloadKind::Text => serde_json::from_str(data.get()).context("a text that is no string"),
        _ => Ok(Cow::Borrowed(data.get())),
    }
}
