//! Untrusted text, in a form that a terminal shows as text only.
//!
//! A terminal obeys control characters: a message could move its cursor, set its title or have it
//! type.

use std::fmt::Write;

/// A payload: control characters but line ends and tabs are escaped, and bytes that are not text
/// are only named.
pub(super) fn payload(bytes: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => self::text(text).into_bytes(),
        Err(_) => format!("<binary, {} bytes>", bytes.len()).into_bytes(),
    }
}

/// Text of any origin, escaped in the same way.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            _ if is_command(c) => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
    out
}

/// JSON, escaped to JSON of the same meaning.
pub(super) fn json(bytes: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        if is_command(c) && c != '\t' {
            // All of them have at most four digits.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.into_bytes()
}

/// Control characters, and those that reorder what follows them.
fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (sent, shown) in [
            (&b"plain\ttext\n"[..], "plain\ttext\n"),
            (b"\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            (b"over\rwritten", r"over\rwritten"),
            ("\u{9b}2J \u{7f} \0".as_bytes(), r"\u{9b}2J \u{7f} \u{0}"),
            ("a\u{202e}b".as_bytes(), r"a\u{202e}b"),
            ("überall 🚗".as_bytes(), "überall 🚗"),
            (b"\xff\xfe\x1b[2J", "<binary, 6 bytes>"),
            (b"", ""),
        ] {
            assert_eq!(String::from_utf8(payload(sent)).unwrap(), shown);
        }
    }

    #[test]
    fn json_means_what_it_meant() {
        let line = "{\"s\":\t\"\u{9b}2J\u{7f}\u{2066}é\"}";
        let shown = String::from_utf8(json(line.as_bytes())).unwrap();
        assert_eq!(shown, "{\"s\":\t\"\\u009b2J\\u007f\\u2066é\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(line));
    }
}
