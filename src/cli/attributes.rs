//! `--attribute NAME=VALUE`, for `weir pub` to set and `weir sub` to filter by.

use std::collections::BTreeMap;

use super::Usage;

/// Parses one.
pub(super) fn attribute(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE"),
    }
}

/// Combines them; a name has one value.
pub(super) fn together(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Usage> {
    let mut attributes = BTreeMap::new();
    for (name, value) in given {
        if attributes.contains_key(&name) {
            return Err(Usage(format!("--attribute {name}=…: is given twice, give it once")));
        }
        attributes.insert(name, value);
    }
    Ok(attributes)
}
