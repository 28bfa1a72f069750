//! The attributes of a message, as clients may name them (API.md, "Messages").
//!
//! Invariants: names are in lower case and valid in a header, no name is repeated, and only the
//! broker sets its own (`weir-…`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::edge::error::Problem;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// The prefix of names that only the broker sets.
const OWN_PREFIX: &str = "weir-";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Attributes<'a> {
    /// The path of an attribute in a message that is an object.
    pub fn member(name: &str) -> String {
        format!("attributes.{name}")
    }

    /// Adds a client's attribute; `field` is its path.
    ///
    /// # Errors
    /// The field, and the rule for its name.
    pub fn add(
        &mut self,
        name: Cow<'a, str>,
        value: Cow<'a, str>,
        field: impl FnOnce(&str) -> String,
    ) -> Result<(), Problem> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
            let why = format!("a name is 1 to {NAME_BYTES_MAX} of `A-Z a-z 0-9 _ . -`");
            return Err(Problem::invalid(&field(&name), why));
        }
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => name,
        };
        if name.starts_with(OWN_PREFIX) {
            let why = format!("names that begin with `{OWN_PREFIX}` are the broker's own");
            return Err(Problem::invalid(&field(&name), why));
        }
        match self.0.entry(name) {
            Entry::Occupied(there) => {
                let why = "is there more than once (upper and lower case are the same)";
                Err(Problem::invalid(&field(there.key()), why))
            }
            Entry::Vacant(place) => {
                place.insert(value);
                Ok(())
            }
        }
    }

    /// Sets an attribute of the message, unless it has one of that name.
    pub fn add_missing(&mut self, name: &'a str, value: &'a str) {
        self.0.entry(name.into()).or_insert(value.into());
    }

    /// Names and values, by name.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_kept_apart() {
        let mut attributes = Attributes::default();
        for (name, value) in [("Room", "9"), ("a.b_c-1", ""), (&"x".repeat(128), "v")] {
            attributes.add(name.to_owned().into(), value.into(), Attributes::member).unwrap();
        }
        assert_eq!(attributes.pairs()[..2], [("a.b_c-1", ""), ("room", "9")]);
        attributes.add_missing("room", "10");
        assert_eq!(attributes.pairs()[1], ("room", "9"));
        for bad in ["", "a b", "é", "a/b", "a\n", "ROOM", "weir-reason", "Weir-X", &"x".repeat(129)]
        {
            let refused =
                attributes.add(bad.to_owned().into(), "v".into(), Attributes::member).unwrap_err();
            assert!(refused.to_string().contains("`attributes."), "{bad}: {refused}");
        }
    }
}
