//! A topic's settings as flags and as a file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::Usage;
use crate::config::units;

/// The names are the settings' own, so that the given ones make the object that is sent. The broker
/// checks bounds and any other settings.
#[derive(Args, Serialize)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// How the topic survives faults
    #[arg(long, value_parser = PossibleValuesParser::new(["none", "checkpoint", "rbml", "sbml", "hml"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// When a message is acknowledged: in memory, with the operating system, or synced to the disk
    #[arg(long, value_parser = PossibleValuesParser::new(["memory", "os", "sync"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_level: Option<String>,
    /// Longest time a message acknowledged at `os` stays unsynced, in milliseconds or as `2s`
    #[arg(long, value_name = "TIME", value_parser = units::milliseconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_interval_ms: Option<u64>,
    /// How long messages are kept, in milliseconds or as `7d`
    #[arg(long, value_name = "TIME", value_parser = units::milliseconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    /// How many bytes of messages are kept, the newest ones: a number, or as `10GiB`
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_bytes: Option<u64>,
    /// Largest payload: bytes, or as `64KiB`
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    #[serde(skip_serializing_if = "Option::is_none")]
    message_bytes_max: Option<u64>,
    /// How long message ids are remembered, in milliseconds or as `10m`
    #[arg(long, value_name = "TIME", value_parser = units::milliseconds)]
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_window_ms: Option<u64>,
    /// How many message ids are remembered
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_window_messages: Option<u64>,
    /// A JSON object of any settings the broker knows, from a file or, with `-`, from standard
    /// input; flags override it
    #[arg(long = "settings", value_name = "FILE")]
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl Settings {
    /// The object to send.
    pub(super) fn together(&self) -> anyhow::Result<Map<String, Value>> {
        let mut settings = match &self.file {
            Some(file) => read(file)?,
            None => Map::new(),
        };
        if let Value::Object(flags) = serde_json::to_value(self)? {
            settings.extend(flags);
        }
        Ok(settings)
    }
}

fn read(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let wrong = |why: String| Usage(format!("--settings {}: {why}", file.display()));
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("standard input")?
    } else {
        std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?
    };
    let object = serde_json::from_str(&text);
    Ok(object.map_err(|error| wrong(format!("must be a JSON object of settings: {error}")))?)
}
