//! broker.toml: the sum of each part's settings, read, overlaid and checked as a whole. `source`
//! knows the lines of the file, [`units`] values such as `7d` and `10GiB`.
//!
//! Invariants: an unknown key is an error; every error names the file and line, or the environment
//! variable, and the key; nothing else in the project reads the environment for settings.

mod source;
pub mod units;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::actors::supervisor::SupervisionSettings;
use crate::edge::{LimitSettings, ServerSettings};
use crate::journal::StorageSettings;
use crate::model::{TopicName, TopicSettings};
use source::Source;

/// Most threads that serve connections; the server takes no more.
const WORKERS_MAX: usize = 512;
/// Most threads of supervised actors.
const THREADS_MAX: usize = 512;

/// All settings of a broker.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[server]`
    pub server: ServerSettings,
    /// `[storage]`
    pub storage: StorageSettings,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[supervision]`
    pub supervision: SupervisionSettings,
    /// `[topic_defaults]`: settings of a topic that asks for nothing else.
    pub topic_defaults: TopicSettings,
    /// Topics are created at first publish or subscribe.
    pub auto_create_topics: bool,
    /// `[[topics]]`: created, or given these settings, at every start.
    topics: Vec<Table>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerSettings::default(),
            storage: StorageSettings::default(),
            limits: LimitSettings::default(),
            supervision: SupervisionSettings::default(),
            topic_defaults: TopicSettings::default(),
            auto_create_topics: true,
            topics: Vec::new(),
        }
    }
}

/// Invalid settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {error}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Something in the file.
    #[error("{path}:{line}: {key}: {what}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The error.
        what: String,
    },
    /// An environment variable.
    #[error("environment variable {name}: {what}")]
    InEnvironment {
        /// The variable.
        name: String,
        /// The error.
        what: String,
    },
    /// A value from no file, or a combination of values.
    #[error("{key}: {what}")]
    Value {
        /// Section and key.
        key: String,
        /// The error.
        what: String,
    },
}

impl Config {
    /// Variables that overlay the file: `WEIR__SECTION__KEY`, or `WEIR__KEY` at the top level.
    pub const ENVIRONMENT_PREFIX: &str = "WEIR__";

    /// Reads the file (if one is given) and lets the environment overlay it.
    ///
    /// # Errors
    /// [`ConfigError`], with the place.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?,
        };
        let source = Source::new(file, text)?;
        let mut config: Self = source.read()?;
        let mut overlaid = Vec::new();
        let mut table: Table = source.read()?;
        for (name, value) in environment {
            let Some(path) = name.strip_prefix(Self::ENVIRONMENT_PREFIX) else { continue };
            if value.trim().is_empty() {
                // Most likely the variable that was to fill it is not set.
                let what = "is empty; give it a value, or unset it".to_owned();
                return Err(ConfigError::InEnvironment { name, what });
            }
            overlay(&mut table, &path.to_lowercase(), &value)
                .and_then(|()| {
                    table.clone().try_into().map_err(|e: toml::de::Error| e.message().to_owned())
                })
                .map(|with_it| config = with_it)
                .map_err(|what| ConfigError::InEnvironment { name: name.clone(), what })?;
            overlaid.push(name);
        }
        config.validate().map_err(|wrong| {
            let Wrong { section, key, what, .. } = &wrong;
            let variable = format!("{}{section}__{key}", Self::ENVIRONMENT_PREFIX);
            let variable = variable.to_uppercase();
            match overlaid.into_iter().find(|name| name.to_uppercase() == variable) {
                Some(name) => ConfigError::InEnvironment { name, what: what.clone() },
                None => source.value(wrong),
            }
        })?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Wrong> {
        let wrong = |section, key: &str, what| Wrong { section, entry: 0, key: key.into(), what };
        let in_section = |section| move |(key, what): (&str, String)| wrong(section, key, what);
        self.storage.validate().map_err(in_section("storage"))?;
        self.limits.validate().map_err(in_section("limits"))?;
        if self.server.workers > WORKERS_MAX {
            return Err(wrong("server", "workers", format!("may be 0 to {WORKERS_MAX}")));
        }
        if !(1..=THREADS_MAX).contains(&self.supervision.threads) {
            return Err(wrong("supervision", "threads", format!("may be 1 to {THREADS_MAX}")));
        }
        self.check_topic(&self.topic_defaults)
            .map_err(|what| wrong("topic_defaults", key_in(&what), what.clone()))?;
        for entry in 0..self.topics.len() {
            self.topic(entry).map_err(|what| {
                let (key, what) =
                    (key_in(&what).to_owned(), format!("entry {}: {what}", entry + 1));
                Wrong { section: "topics", entry, key, what }
            })?;
        }
        Ok(())
    }

    fn check_topic(&self, settings: &TopicSettings) -> Result<(), String> {
        settings.validate()?;
        if settings.message_bytes_max > self.limits.message_bytes_max {
            return Err(format!(
                "`message_bytes_max` is {}, over `limits.message_bytes_max`, {}",
                settings.message_bytes_max, self.limits.message_bytes_max
            ));
        }
        Ok(())
    }

    /// The topics of `[[topics]]`: omitted settings take their defaults.
    ///
    /// # Errors
    /// An invalid one; never after [`load`](Self::load).
    pub fn topics(&self) -> Result<Vec<(TopicName, TopicSettings)>, String> {
        (0..self.topics.len()).map(|entry| self.topic(entry)).collect()
    }

    fn topic(&self, entry: usize) -> Result<(TopicName, TopicSettings), String> {
        let mut table = Table::try_from(self.topic_defaults).map_err(|error| error.to_string())?;
        table.extend(self.topics[entry].clone());
        let name = match table.remove("name") {
            Some(Value::String(name)) => {
                TopicName::new(&name).map_err(|e| format!("`name`: {e}"))?
            }
            Some(_) => return Err("`name` must be text".to_owned()),
            None => return Err("`name` is missing".to_owned()),
        };
        let settings: TopicSettings =
            table.try_into().map_err(|e: toml::de::Error| e.message().to_owned())?;
        self.check_topic(&settings)?;
        Ok((name, settings))
    }
}

/// An invalid value.
struct Wrong {
    section: &'static str,
    /// The entry of `[[topics]]`, from 0.
    entry: usize,
    key: String,
    what: String,
}

/// The first word in backquotes: messages about values name their key that way.
fn key_in(what: &str) -> &str {
    what.split('`').nth(1).unwrap_or_default()
}

fn overlay(table: &mut Table, path: &str, value: &str) -> Result<(), String> {
    let parsed = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let key = path.rsplit("__").next().unwrap_or_default();
    let parsed = match (&parsed, units::reader(key)) {
        (Value::String(text), Some(read)) => Value::Integer(source::signed(read(text)?)?),
        _ => parsed,
    };
    match path.split_once("__") {
        None => {
            table.insert(path.to_owned(), parsed);
        }
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let section = section.as_table_mut().ok_or("is not a section with keys")?;
            section.insert(key.to_owned(), parsed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.toml");
        std::fs::write(&path, text).unwrap();
        let owned = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Config::load(Some(&path), owned).map_err(|error| {
            error.to_string().replace(&format!("{}/", directory.path().display()), "")
        })
    }

    #[test]
    fn the_committed_broker_toml_states_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("broker.toml");
        assert_eq!(Config::load(Some(&path), []).unwrap(), Config::default());
        // Every key: the error for an unknown key lists those of its section.
        let text = std::fs::read_to_string(path).unwrap();
        for section in ["server", "storage", "limits", "supervision", "topic_defaults"] {
            assert!(text.contains(&format!("\n[{section}]\n")), "{section}");
            let error = load(&format!("[{section}]\nno_such_key = 1"), &[]).unwrap_err();
            let keys: Vec<_> = error.split('`').skip(3).step_by(2).collect();
            assert!(keys.len() > 2, "{error}");
            for key in keys {
                assert!(text.contains(&format!("\n{key} = ")), "{section}.{key}");
            }
        }
    }

    #[test]
    fn the_environment_overlays_the_file() {
        let text = "[limits]\ntopics_max = 5\n";
        let config = load(
            text,
            &[("WEIR__LIMITS__TOPICS_MAX", "7"), ("WEIR__STORAGE__PATH", "/x"), ("OTHER", "1")],
        );
        let config = config.unwrap();
        assert_eq!(config.limits.topics_max, 7);
        assert_eq!(config.storage.path, Path::new("/x"));
    }

    #[test]
    fn errors_name_file_line_and_key_or_the_variable() {
        for (text, environment, expected) in [
            ("[limits]\n\ncolour = 1\n", &[][..], "broker.toml:3: colour: unknown field"),
            ("[limits]\ntopics_max = \"a\"\n", &[], "broker.toml:2: topics_max: invalid type"),
            ("[limits]\ntopics_max = 0\n", &[], "broker.toml:2: topics_max: must be at least 1"),
            ("[storage]\nmemtable_bytes = 5\n", &[], "broker.toml:2: memtable_bytes: must be"),
            ("auto_create_topics = 3\n", &[], "broker.toml:1: auto_create_topics: invalid type"),
            (
                "[[topics]]\nname = \"a\"\nsync_interval_ms = 0\n",
                &[],
                "broker.toml:3: sync_interval_ms: entry 1: `sync_interval_ms` is 0",
            ),
            ("[storage]\npath = \"\"\n", &[], "broker.toml:2: path: is empty"),
            (
                "[server]\nallowed_origins = [\n  \"https://a.example\",\n  \"b.example\",\n]\n",
                &[],
                "broker.toml:2: allowed_origins: `b.example`: must be SCHEME://HOST[:PORT]",
            ),
            (
                "[server]\nallowed_origins = [\n  \"https://a.example\",\n  3,\n]\n",
                &[],
                "broker.toml:4: allowed_origins: invalid type: integer",
            ),
            (
                "[server]\nlisten = \"[::1]:1\"\nallowed_hosts = [\"localhost\", \"\"]\n",
                &[],
                "broker.toml:3: allowed_hosts: ``: is empty",
            ),
            (
                "",
                &[("WEIR__SERVER__ALLOWED_HOSTS", "[\"a.example:80\"]")],
                "environment variable WEIR__SERVER__ALLOWED_HOSTS: `a.example:80`: names a port",
            ),
            (
                "",
                &[("WEIR__SERVER__ALLOWED_ORIGINS", "https://a.example")],
                "environment variable WEIR__SERVER__ALLOWED_ORIGINS: invalid type",
            ),
            (
                "",
                &[("WEIR__STORAGE__PATH", "")],
                "environment variable WEIR__STORAGE__PATH: is empty",
            ),
            (
                "",
                &[("WEIR__STORAGE__PATH", "\"\"")],
                "environment variable WEIR__STORAGE__PATH: is empty",
            ),
            (
                "",
                &[("WEIR__LIMITS__TOPICS_MAX", " ")],
                "environment variable WEIR__LIMITS__TOPICS_MAX: is empty",
            ),
            (
                "",
                &[("WEIR__AUTO_CREATE_TOPICS", "")],
                "environment variable WEIR__AUTO_CREATE_TOPICS: is empty",
            ),
            ("[[topics]]\nname = \"a b\"\n", &[], "broker.toml:2: name: entry 1: `name`: a name"),
            (
                "",
                &[("WEIR__LIMITS__COLOUR", "1")],
                "environment variable WEIR__LIMITS__COLOUR: unknown",
            ),
            (
                "[limits]\ntopics_max = 5\n",
                &[("WEIR__LIMITS__TOPICS_MAX", "0")],
                "environment variable WEIR__LIMITS__TOPICS_MAX: must be at least 1",
            ),
        ] {
            let error = load(text, environment).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_where_it_stands() {
        let first = "[[topics]]\nname = \"a\"\nretention_ms = \"1d\"\n";
        for (text, expected) in [
            ("[[topics]]\n", "broker.toml:4: name: entry 2: `name` is missing"),
            ("[[topics]]\nname = 3\n", "broker.toml:5: name: entry 2: `name` must be text"),
            (
                "[[topics]] # b\nname = \"b\"\nretention_ms = 0\n",
                "broker.toml:6: retention_ms: entry 2: `retention_ms`",
            ),
            (
                "[[topics]]\nname = \"b\"\ncolour = 0\n",
                "broker.toml:6: colour: entry 2: unknown field `colour`",
            ),
            (
                "[limits]\nmessage_bytes_max = \"1B\"\n",
                "broker.toml:5: message_bytes_max: `message_bytes_max` is 1048576, over",
            ),
        ] {
            let error = load(&format!("{first}{text}"), &[]).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn values_may_have_units() {
        let text = "[topic_defaults]\nretention_ms = \"30d\"\nretention_bytes = \"1.5GB\"\n\
                    [limits]\nbody_bytes_max = '8 MiB'\nidle_timeout_ms = \"2m\"\n\
                    [[topics]]\nname = \"a\"\nretention_bytes = \"20GiB\"\n";
        let environment =
            [("WEIR__STORAGE__MEMTABLE_BYTES", "16MiB"), ("WEIR__STORAGE__STALL_MS_MAX", "\"5s\"")];
        let config = load(text, &environment).unwrap();
        assert_eq!(config.topic_defaults.retention_ms, 2_592_000_000);
        assert_eq!(config.topic_defaults.retention_bytes, 1_500_000_000);
        assert_eq!(
            (config.limits.body_bytes_max, config.limits.idle_timeout_ms),
            (8 << 20, 120_000)
        );
        assert_eq!((config.storage.memtable_bytes, config.storage.stall_ms_max), (16 << 20, 5_000));
        assert_eq!(config.topics().unwrap()[0].1.retention_bytes, 20 << 30);
        for (text, environment, expected) in [
            (
                "[topic_defaults]\nmode = \"hml\"\nretention_ms = \"7 lightyears\"\n",
                &[][..],
                "broker.toml:3: retention_ms: `7 lightyears` is neither milliseconds nor a time",
            ),
            (
                "[limits]\ntopics_max = \"7d\"\n",
                &[],
                "broker.toml:2: topics_max: invalid type: string",
            ),
            (
                "[limits]\nbody_bytes_max = \"1s\"\ncolour = 1\n",
                &[],
                "broker.toml:2: body_bytes_max: `1s` is neither bytes nor a size",
            ),
            (
                "",
                &[("WEIR__LIMITS__BODY_BYTES_MAX", "7d")],
                "environment variable WEIR__LIMITS__BODY_BYTES_MAX: `7d` is neither bytes nor",
            ),
        ] {
            let error = load(text, environment).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn topics_take_the_defaults_for_what_they_leave_out() {
        let text = "[topic_defaults]\nsync_interval_ms = 9\n[[topics]]\nname = \"a\"\nack_level = \"os\"\n";
        let topics = load(text, &[]).unwrap().topics().unwrap();
        assert_eq!(topics[0].1.sync_interval_ms, 9);
        assert_eq!(topics[0].1.loss_bound_ms(), 9);
    }
}
