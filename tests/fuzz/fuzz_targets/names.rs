//! A name is taken if and only if API.md's rule allows it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::model::TopicName;

/// "`[A-Za-z0-9_-]` and dots between segments, 1 to 200 characters, no empty, `.` or `..` segment;
/// names that begin with `_weir.` are the broker's own."
fn is_name(name: &[u8]) -> bool {
    let mut after_dot = true;
    for byte in name {
        match byte {
            b'.' if after_dot => return false,
            b'.' => after_dot = true,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => after_dot = false,
            _ => return false,
        }
    }
    !after_dot && name.len() <= 200 && !name.starts_with(b"_weir.")
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = TopicName::new(text);
    assert_eq!(name.is_ok(), is_name(bytes), "{text:?}: {name:?}");
    let from_json = serde_json::from_value::<TopicName>(text.into());
    assert_eq!(from_json.ok().as_ref(), name.as_ref().ok(), "in settings as in paths");
    match name {
        Ok(name) => assert_eq!(name.as_str(), text),
        Err(error) => assert!(error.to_string().len() < 200, "{error}"),
    }
});
