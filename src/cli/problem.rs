//! A broker's refusal in words: its code, its detail, and a remedy.

use std::fmt;

use anyhow::anyhow;
use reqwest::StatusCode;
use serde::Deserialize;

use super::terminal;
use crate::model::TopicName;

/// Most characters shown of an answer that is not a problem object.
const SHOWN_MAX: usize = 200;

/// A problem object (API.md, "Errors"), as far as it is used here.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    code: String,
    detail: String,
    /// Trying again may help.
    #[serde(default)]
    pub(super) temporary: bool,
    pub(super) retry_after_ms: Option<u64>,
    /// The first offset that is kept, where the one asked for isn't.
    pub(super) first: Option<u64>,
    #[serde(skip)]
    topic: Option<TopicName>,
}

/// The error for an answer that is not a success.
pub(super) fn refusal(status: StatusCode, body: &[u8], topic: Option<TopicName>) -> anyhow::Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Problem { topic, ..problem }.into(),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let shown: String = text.chars().take(SHOWN_MAX).collect();
            let shown = terminal::text(&shown);
            anyhow!("{status}, which no weir broker answers like this (is it one?): {shown}")
        }
    }
}

impl Problem {
    /// The same, about a topic.
    pub(super) fn about(self, topic: &TopicName) -> Self {
        Self { topic: Some(topic.clone()), ..self }
    }

    /// Another socket took the producer's name.
    pub(super) fn is_fenced(&self) -> bool {
        self.code == "producer-fenced"
    }

    fn hint(&self) -> Option<String> {
        let topic = self.topic.as_ref().map_or("NAME", TopicName::as_str);
        let hint = match (self.code.as_str(), self.first, self.retry_after_ms) {
            ("topic-not-found", ..) if self.topic.is_some() => {
                format!("`weir topics create {topic}` makes it")
            }
            ("already-exists", ..) => {
                format!("`weir topics change {topic}` changes its settings")
            }
            ("producer-fenced", ..) => {
                "give each producer that runs at a time a name of its own".to_owned()
            }
            ("message-id-conflict", ..) => "give another message another id".to_owned(),
            ("message-too-large", ..) => {
                format!("`weir topics change {topic} --message-bytes-max BYTES` allows more")
            }
            ("too-many-topics", ..) => {
                "`weir topics delete NAME` makes room, so does `topics_max` in broker.toml"
                    .to_owned()
            }
            ("offset-gone", Some(first), _) => {
                format!("begin at offset {first} or later, or with `--from earliest`")
            }
            ("storage-full", ..) => {
                "make room on the broker's disk, or delete topics with `weir topics delete NAME`"
                    .to_owned()
            }
            ("quarantined", ..) => {
                format!(
                    "`weir topics show {topic}` shows any damage, \
                     `POST /v1/topics/{topic}/recover` brings the topic back"
                )
            }
            (_, _, Some(ms)) => format!("try again in {ms} ms"),
            _ => return None,
        };
        Some(hint)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)?;
        match self.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &str) -> String {
        let topic = TopicName::new("cars").ok();
        refusal(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes(), topic).to_string()
    }

    #[test]
    fn what_can_be_done_is_said_with_the_topic() {
        for (code, hint) in [
            ("topic-not-found", "`weir topics create cars`"),
            ("already-exists", "`weir topics change cars`"),
            ("quarantined", "`POST /v1/topics/cars/recover`"),
            ("storage-full", "make room on the broker's disk"),
            ("overloaded", "try again in 1000 ms"),
        ] {
            let body = format!(r#"{{"code":"{code}","detail":"why","retry_after_ms":1000}}"#);
            let shown = shown(&body);
            assert!(shown.starts_with(&format!("{code}: why\nhint: ")), "{shown}");
            assert!(shown.contains(hint), "{shown}");
        }
    }

    #[test]
    fn what_is_no_problem_object_is_shown_as_it_is_but_not_all_of_it() {
        let shown = shown(&format!("<html>{}", "x".repeat(10_000)));
        assert!(shown.starts_with("503 Service Unavailable"), "{shown}");
        assert!(shown.contains("<html>xxx") && shown.len() < 400, "{shown}");
    }
}
