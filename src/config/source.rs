//! The file's text: units in it, and the lines of its values.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Wrong, units};

/// See the module.
pub(super) struct Source<'a> {
    file: Option<&'a Path>,
    /// As written, but values with units are replaced by numbers. Each line keeps its place.
    text: String,
}

impl<'a> Source<'a> {
    /// # Errors
    /// A setting has an invalid unit, or the text is not TOML.
    pub(super) fn new(file: Option<&'a Path>, text: String) -> Result<Self, ConfigError> {
        let mut source = Self { file, text };
        let mut numbers = Vec::new();
        let found = DeTable::parse(&source.text)
            .map(|table| resolve(table.get_ref(), &mut numbers))
            .map_err(|error| source.syntax(&error))?;
        if let Err((at, key, what)) = found {
            let (path, line) = (source.path(), source.line(at));
            return Err(ConfigError::InFile { path, line, key, what });
        }
        // From the last one on, so that the positions of earlier ones stay valid.
        numbers.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
        for (span, number) in numbers {
            source.text.replace_range(span, &number.to_string());
        }
        Ok(source)
    }

    fn path(&self) -> PathBuf {
        self.file.unwrap_or(Path::new("")).to_owned()
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| self.syntax(&error))
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let (path, key) = (self.path(), self.key_at(line));
        ConfigError::InFile { path, line, key, what: error.message().to_owned() }
    }

    /// The line, from 1, of a position in the text.
    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    /// The key whose value a line, counted from 1, belongs to: a list may span many lines.
    fn key_at(&self, line: usize) -> String {
        let is_key = |text: &str| {
            let of_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
            !text.is_empty() && text.chars().all(of_key)
        };
        let before: Vec<_> = self.text.lines().take(line).collect();
        let keys = before.iter().rev().filter_map(|text| Some(text.split_once('=')?.0.trim()));
        let key = keys.into_iter().find(|key| is_key(key));
        // The error may be a missing key.
        key.or(before.last().map(|text| text.trim())).unwrap_or_default().to_owned()
    }

    /// The error about a value that may be in the file.
    pub(super) fn value(&self, wrong: Wrong) -> ConfigError {
        let Wrong { section, entry, key, what } = wrong;
        // If it is not, another setting in the file may contradict it.
        let named = what.split('`').skip(1).step_by(2).filter_map(|name| name.split_once('.'));
        let line = self.line_of(section, entry, &key);
        let line = line.or_else(|| named.filter_map(|(s, key)| self.line_of(s, 0, key)).next());
        match (self.file, line.or_else(|| self.line_of(section, entry, ""))) {
            (Some(path), Some(line)) => {
                ConfigError::InFile { path: path.to_owned(), line, key, what }
            }
            _ => ConfigError::Value { key: format!("{section}.{key}"), what },
        }
    }

    /// The line of a key; of the section's head, if the key is missing there. A section may be
    /// repeated: `[[topics]]`.
    fn line_of(&self, section: &str, entry: usize, key: &str) -> Option<usize> {
        let (mut within, mut entries) = (false, 0);
        for (n, line) in self.text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                let head = line.split('#').next().unwrap_or_default().trim();
                let is_it = head.trim_matches(['[', ']']).trim() == section;
                within = is_it && entries == entry;
                entries += usize::from(is_it);
                if within && key.is_empty() {
                    return Some(n + 1);
                }
            } else if within && line.split('=').next().map(str::trim) == Some(key) {
                return Some(n + 1);
            }
        }
        None
    }
}

/// The range of a value, and its number.
type Number = (std::ops::Range<usize>, i64);

/// Finds the values with units; the error has position, key and reason.
fn resolve(table: &DeTable<'_>, numbers: &mut Vec<Number>) -> Result<(), (usize, String, String)> {
    fn of_value(
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        numbers: &mut Vec<Number>,
    ) -> Result<(), (usize, String, String)> {
        match (value.get_ref(), units::reader(key.get_ref())) {
            (DeValue::Table(table), _) => resolve(table, numbers),
            (DeValue::Array(values), _) => {
                values.iter().try_for_each(|value| of_value(key, value, numbers))
            }
            (DeValue::String(text), Some(read)) => {
                let number = read(text).and_then(signed);
                let place = (key.span().start, key.get_ref().clone().into_owned());
                numbers.push((value.span(), number.map_err(|what| (place.0, place.1, what))?));
                Ok(())
            }
            _ => Ok(()),
        }
    }
    table.iter().try_for_each(|(key, value)| of_value(key, value, numbers))
}

/// A number as TOML holds it.
///
/// # Errors
/// It is larger.
pub(super) fn signed(number: u64) -> Result<i64, String> {
    i64::try_from(number).map_err(|_| format!("may be at most {}", i64::MAX))
}
