//! How a content type determines the form of a payload for clients.

/// How a payload of some content type appears in a JSON message (API.md, "Messages").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// `application/json` or any `+json`: the JSON value itself.
    Json,
    /// `text/*`: a string where the bytes are valid UTF-8.
    Text,
    /// Anything else: base64.
    Binary,
}

impl PayloadKind {
    /// Classifies a media type; parameters and case are ignored.
    pub fn of(content_type: &str) -> Self {
        // Nearly all types in use, and checked with each message.
        match content_type {
            "application/json" => return Self::Json,
            "application/octet-stream" => return Self::Binary,
            _ => {}
        }
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let ends_with = |suffix: &str| {
            essence.len() > suffix.len()
                && essence.is_char_boundary(essence.len() - suffix.len())
                && essence[essence.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        };
        let starts_with = |prefix: &str| {
            essence.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if essence.eq_ignore_ascii_case("application/json") || ends_with("+json") {
            Self::Json
        } else if starts_with("text/") {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_classified_by_essence() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"] {
            assert_eq!(PayloadKind::of(json), PayloadKind::Json, "{json}");
        }
        for text in ["text/plain", "TEXT/csv;header=present"] {
            assert_eq!(PayloadKind::of(text), PayloadKind::Text, "{text}");
        }
        for binary in ["application/octet-stream", "", "image/png", "é+json2", "textual/x"] {
            assert_eq!(PayloadKind::of(binary), PayloadKind::Binary, "{binary}");
        }
    }
}
