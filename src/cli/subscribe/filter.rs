//! Which messages to print.

use std::collections::BTreeMap;

use super::printer::Received;

/// See the module.
pub(super) struct Filter {
    keys: Vec<String>,
    attributes: BTreeMap<String, String>,
}

impl Filter {
    /// One of the keys, if any are given, and all of the attributes.
    pub(super) fn new(keys: Vec<String>, attributes: BTreeMap<String, String>) -> Self {
        Self { keys, attributes }
    }

    /// The message is wanted.
    pub(super) fn passes(&self, message: &Received<'_>) -> bool {
        let key = message.key.as_deref();
        let has_key = || key.is_some_and(|key| self.keys.iter().any(|wanted| wanted == key));
        let mut attributes = self.attributes.iter();
        (self.keys.is_empty() || has_key())
            && attributes.all(|(name, value)| message.attributes.get(name.as_str()) == Some(value))
    }
}
