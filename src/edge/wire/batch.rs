//! Many messages at once: a socket's frame, a request's batch. Found here, read one by one later,
//! so that one that is broken never hides the others.

use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::parse_object;
use crate::edge::error::Problem;

/// The most messages that are looked at together, whatever the settings allow: to count what comes
/// must not cost many times its bytes.
pub const BATCH_MESSAGES_CEILING: usize = 100_000;

/// The elements of a JSON array, up to the ceiling.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<'a>(PhantomData<&'a RawValue>);

        impl<'de: 'a, 'a> Visitor<'de> for Collect<'a> {
            type Value = Elements<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "an array of at most {BATCH_MESSAGES_CEILING} messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = array.next_element()? {
                    if elements.len() == BATCH_MESSAGES_CEILING {
                        return Err(A::Error::invalid_length(elements.len() + 1, &self));
                    }
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }

        deserializer.deserialize_seq(Collect(PhantomData))
    }
}

/// Raw messages, of which there may be so many.
pub struct RawMessages<'a>(pub Vec<&'a str>);

impl<'a> RawMessages<'a> {
    fn limited(found: Vec<&'a RawValue>, count_max: usize, what: &str) -> Result<Self, Problem> {
        if found.len() > count_max {
            let why = format!("holds {} messages, at most {count_max} are allowed", found.len());
            return Err(Problem::invalid(what, why));
        }
        Ok(Self(found.into_iter().map(RawValue::get).collect()))
    }

    /// The messages of a socket's text frame: one object, or an array of them.
    ///
    /// # Errors
    /// The frame is neither, or holds too many.
    pub fn in_frame(text: &'a str, count_max: usize) -> Result<Self, Problem> {
        if !text.trim_ascii_start().starts_with('[') {
            return Ok(Self(vec![text]));
        }
        let Elements(found) =
            serde_json::from_str(text).map_err(|error| Problem::invalid("frame", error))?;
        Self::limited(found, count_max, "frame")
    }

    /// The messages of a batch: `{"messages":[…]}`.
    ///
    /// # Errors
    /// The body is something else, or holds none or too many.
    pub fn in_batch(body: &'a [u8], count_max: usize) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Batch<'a> {
            #[serde(borrow)]
            messages: Elements<'a>,
        }
        let Batch { messages: Elements(messages) } = parse_object("body", body)?;
        if messages.is_empty() {
            return Err(Problem::invalid("messages", "must hold at least one message"));
        }
        Self::limited(messages, count_max, "messages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_message_or_an_array() {
        let count = |text| RawMessages::in_frame(text, 2).map(|found| found.0.len()).ok();
        assert_eq!(count(r#" {"data":1}"#), Some(1));
        assert_eq!(count(r#" [{"data":1}, {"data":2}]"#), Some(2));
        assert_eq!(count("[1,2,3]"), None, "one more than allowed");
        assert_eq!(count("[1,"), None);
        let many = |count| format!("[{}0]", "0,".repeat(count - 1));
        let limit = BATCH_MESSAGES_CEILING;
        assert!(RawMessages::in_frame(&many(limit), limit).is_ok());
        assert!(RawMessages::in_frame(&many(limit + 1), usize::MAX).is_err());
    }

    #[test]
    fn a_batch_is_an_object_with_messages() {
        let count =
            |body: &'static str| RawMessages::in_batch(body.as_bytes(), 2).map(|f| f.0.len()).ok();
        assert_eq!(count(r#"{"messages":[{},{}]}"#), Some(2));
        for bad in [r#"{"messages":[]}"#, r#"{"messages":[1,2,3]}"#, "[[1]]", "{}"] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
}
