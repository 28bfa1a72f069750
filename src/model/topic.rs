//! A topic's identity and its settings.
//!
//! Invariant: a [`TopicName`] holds only names that API.md allows, so no later code has to check
//! whether a name is safe in a path, a log line or a header.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// A topic's number on disk: never reused, not even after the topic is deleted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TopicId(pub u32);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A chunk's position in a log of the journal: one number for all streams, without holes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Counts the histories of a topic. It moves on when acknowledged messages may have been lost.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch every topic begins in.
    pub const FIRST: Self = Self(1);
}

/// Counts the lives of one supervised actor since the process began; the writer fences by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The life after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A checked topic name: 1 to 200 of `[A-Za-z0-9_-]` with dots between non-empty segments.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Why a string is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than [`TopicName::LEN_MAX`] characters.
    #[error("a name has 1 to {max} characters, this one has {len}", max = TopicName::LEN_MAX)]
    Length {
        /// Characters found.
        len: usize,
    },
    /// A character outside `[A-Za-z0-9_.-]`.
    #[error("a name holds only A-Z, a-z, 0-9, '_', '-' and dots between segments, not {found:?}")]
    Character {
        /// The first character that is not allowed.
        found: char,
    },
    /// Two dots in a row, or a dot at an end.
    #[error("a name has no empty segment: no dot at either end and no two dots in a row")]
    EmptySegment,
    /// A name reserved for the broker.
    #[error("names that begin with `_weir.` are the broker's own")]
    Reserved,
}

impl TopicName {
    /// The longest name, in characters (API.md).
    pub const LEN_MAX: usize = 200;

    /// Checks a name a client sent.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let len = name.chars().count();
        if len == 0 || len > Self::LEN_MAX {
            return Err(NameError::Length { len });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some(found) = name.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { found });
        }
        if name.split('.').any(str::is_empty) {
            return Err(NameError::EmptySegment);
        }
        if name.starts_with("_weir.") {
            return Err(NameError::Reserved);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.as_str().to_owned()
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How a topic survives faults (DESIGN §1). Today's broker has the hybrid one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Hybrid message logging: one store, written once when processing has finished by commit time.
    #[default]
    Hml,
}

/// When a stored message may be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckLevel {
    /// write(2) has returned: survives the process, not the machine. Synced at least every
    /// [`TopicSettings::sync_interval_ms`].
    Os,
    /// fdatasync has returned: survives power loss.
    #[default]
    Sync,
}

/// A topic's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// How the topic survives faults.
    pub mode: Mode,
    /// When a message may be acknowledged.
    pub ack_level: AckLevel,
    /// Longest time, in milliseconds, that a message acknowledged at [`AckLevel::Os`] stays
    /// unsynced.
    pub sync_interval_ms: u64,
    /// How long messages are kept, in milliseconds of the broker's running time.
    pub retention_ms: u64,
    /// How many bytes of messages are kept; the oldest go first.
    pub retention_bytes: u64,
    /// Largest payload, in bytes.
    pub message_bytes_max: usize,
    /// How long a message id is remembered, in milliseconds of the broker's running time.
    pub dedup_window_ms: u64,
    /// How many message ids are remembered; the oldest go first.
    pub dedup_window_messages: u64,
}

/// Settings as a client sends them: omitted ones stay unchanged, `null` is the default (RFC 7396).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettingsChange {
    mode: Change<Mode>,
    ack_level: Change<AckLevel>,
    sync_interval_ms: Change<u64>,
    retention_ms: Change<u64>,
    retention_bytes: Change<u64>,
    message_bytes_max: Change<usize>,
    dedup_window_ms: Change<u64>,
    dedup_window_messages: Change<u64>,
}

/// The change of one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change<T> {
    /// It stays unchanged.
    #[default]
    Keep,
    /// It is reset to its default.
    Reset,
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|given| given.map_or(Self::Reset, Self::Set))
    }
}

impl<T: Copy> Change<T> {
    fn apply_to(self, now: T, default: T) -> T {
        match self {
            Self::Keep => now,
            Self::Reset => default,
            Self::Set(value) => value,
        }
    }
}

impl TopicSettingsChange {
    /// The settings with this change; `defaults` are those of a topic without settings.
    pub fn apply_to(self, now: TopicSettings, defaults: TopicSettings) -> TopicSettings {
        TopicSettings {
            mode: self.mode.apply_to(now.mode, defaults.mode),
            ack_level: self.ack_level.apply_to(now.ack_level, defaults.ack_level),
            sync_interval_ms: self
                .sync_interval_ms
                .apply_to(now.sync_interval_ms, defaults.sync_interval_ms),
            retention_ms: self.retention_ms.apply_to(now.retention_ms, defaults.retention_ms),
            retention_bytes: self
                .retention_bytes
                .apply_to(now.retention_bytes, defaults.retention_bytes),
            message_bytes_max: self
                .message_bytes_max
                .apply_to(now.message_bytes_max, defaults.message_bytes_max),
            dedup_window_ms: self
                .dedup_window_ms
                .apply_to(now.dedup_window_ms, defaults.dedup_window_ms),
            dedup_window_messages: self
                .dedup_window_messages
                .apply_to(now.dedup_window_messages, defaults.dedup_window_messages),
        }
    }
}

impl TopicSettings {
    /// Bounds of [`TopicSettings::sync_interval_ms`].
    pub const SYNC_INTERVAL_MS: std::ops::RangeInclusive<u64> = 1..=60_000;
    /// Bounds of [`TopicSettings::retention_ms`]: a second to a hundred years.
    pub const RETENTION_MS: std::ops::RangeInclusive<u64> = 1_000..=100 * 365 * DAY_MS;
    /// Bounds of [`TopicSettings::retention_bytes`]: 64 KiB to an exbibyte.
    pub const RETENTION_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1 << 60;
    /// Bounds of [`TopicSettings::dedup_window_ms`]; 0 remembers nothing.
    pub const DEDUP_WINDOW_MS: std::ops::RangeInclusive<u64> = 0..=7 * DAY_MS;
    /// Bounds of [`TopicSettings::dedup_window_messages`]; 0 remembers nothing. A remembered id
    /// takes about 120 bytes of memory.
    pub const DEDUP_WINDOW_MESSAGES: std::ops::RangeInclusive<u64> = 0..=10_000_000;
    /// Bounds of [`TopicSettings::message_bytes_max`].
    pub const MESSAGE_BYTES_MAX: std::ops::RangeInclusive<usize> = 1..=64 * 1024 * 1024;

    /// Checks the numbers against their bounds.
    ///
    /// # Errors
    /// The name of the setting and its bounds.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, bounds: std::ops::RangeInclusive<u64>| {
            if bounds.contains(&value) {
                return Ok(());
            }
            let (low, high) = bounds.into_inner();
            Err(format!("`{name}` is {value}, it may be {low} to {high}"))
        };
        within("sync_interval_ms", self.sync_interval_ms, Self::SYNC_INTERVAL_MS)?;
        within("retention_ms", self.retention_ms, Self::RETENTION_MS)?;
        within("retention_bytes", self.retention_bytes, Self::RETENTION_BYTES)?;
        within("dedup_window_ms", self.dedup_window_ms, Self::DEDUP_WINDOW_MS)?;
        let messages = self.dedup_window_messages;
        within("dedup_window_messages", messages, Self::DEDUP_WINDOW_MESSAGES)?;
        let (low, high) = Self::MESSAGE_BYTES_MAX.into_inner();
        within("message_bytes_max", self.message_bytes_max as u64, low as u64..=high as u64)
    }

    /// How many milliseconds of acknowledged messages a power loss may take; 0: none.
    pub fn loss_bound_ms(&self) -> u64 {
        match self.ack_level {
            AckLevel::Sync => 0,
            AckLevel::Os => self.sync_interval_ms,
        }
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            ack_level: AckLevel::default(),
            sync_interval_ms: 1_000,
            retention_ms: 7 * DAY_MS,
            retention_bytes: 10 * 1024 * 1024 * 1024,
            message_bytes_max: 1024 * 1024,
            dedup_window_ms: 120_000,
            dedup_window_messages: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_api_md_allows_are_taken_and_the_others_refused_with_the_rule() {
        for good in ["a", "cars.eu-1.speed_x", "A.b.C", &"x".repeat(200)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        let refused = |name: &str| TopicName::new(name).unwrap_err();
        assert_eq!(refused(""), NameError::Length { len: 0 });
        assert_eq!(refused(&"x".repeat(201)), NameError::Length { len: 201 });
        for (bad, found) in [("a/b", '/'), ("a b", ' '), ("ü", 'ü'), ("a\0", '\0')] {
            assert_eq!(refused(bad), NameError::Character { found });
        }
        for bad in [".", "..", "a..b", ".a", "a."] {
            assert_eq!(refused(bad), NameError::EmptySegment);
        }
        assert_eq!(refused("_weir.audit"), NameError::Reserved);
    }

    #[test]
    fn settings_outside_their_bounds_are_named() {
        let settings = TopicSettings { sync_interval_ms: 0, ..TopicSettings::default() };
        assert!(settings.validate().unwrap_err().contains("sync_interval_ms"));
    }
}
