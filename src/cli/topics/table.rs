//! Topics as tables.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::HumanBytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::Gap;

/// The most important members first; settings follow in the order of their names.
const FIRST: [&str; 13] = [
    "name",
    "state",
    "damage",
    "epoch",
    "first",
    "head",
    "messages",
    "bytes",
    "gaps",
    "loss_bound_ms",
    "producers",
    "subscriptions",
    "restarts",
];

/// A line of the list.
#[derive(Deserialize)]
pub(super) struct Listed {
    name: String,
    state: String,
    messages: u64,
    bytes: u64,
    first: u64,
    head: u64,
    ack_level: String,
}

/// The table of many topics.
pub(super) fn list(topics: &[Listed]) -> Table {
    let mut table = Table::new();
    let header = ["topic", "state", "ack level", "messages", "size", "first", "head"];
    table.load_preset(NOTHING).set_header(header);
    for Listed { name, state, messages, bytes, first, head, ack_level } in topics {
        table.add_row([
            name.clone(),
            state.clone(),
            ack_level.clone(),
            messages.to_string(),
            HumanBytes(*bytes).to_string(),
            first.to_string(),
            head.to_string(),
        ]);
    }
    for number in 3..header.len() {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table of one topic: a line a member.
pub(super) fn details(topic: &Map<String, Value>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let first = FIRST.iter().filter_map(|name| topic.get_key_value(*name));
    let rest = topic.iter().filter(|(name, _)| !FIRST.contains(&name.as_str()));
    for (name, value) in first.chain(rest) {
        let shown = match (name.as_str(), value) {
            ("loss_bound_ms", Value::Null) => "everything".to_owned(),
            ("bytes", Value::Number(bytes)) => match bytes.as_u64() {
                Some(exact) if exact >= 1_024 => format!("{exact} ({})", HumanBytes(exact)),
                _ => bytes.to_string(),
            },
            _ => cell(value),
        };
        table.add_row([name.as_str(), shown.as_str()]);
    }
    table
}

/// A value without JSON's quotes and brackets, if they carry no meaning.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn item(value: &Value) -> String {
    match serde_json::from_value::<Gap>(value.clone()) {
        Ok(Gap { from, to }) => format!("{from} to {to}"),
        Err(_) => cell(value),
    }
}
