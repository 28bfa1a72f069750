//! Standard output and standard error of the commands: whole lines, and readers that may have gone.
//!
//! A closed standard output ends a command that only prints ([`print()`]), with exit code 0 if
//! nothing went wrong; a command that also acts continues ([`report`]). Neither ever panics, as
//! `println!` would.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};

/// The reader of standard output has closed it, as `head` does.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(super) struct OutputClosed;

/// Writes lines and flushes them.
pub(super) fn print<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let all = || {
        for line in lines {
            out.write_all(line.as_ref())?;
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    all().map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => OutputClosed.into(),
        _ => anyhow::Error::from(error).context("standard output"),
    })
}

/// The same for a command that does more than print: it continues without a reader.
pub(super) fn report<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> anyhow::Result<()> {
    unless_closed(print(lines))
}

/// Writes a notice to standard error, beside the output.
pub(super) fn note(what: &str) {
    // A notice that can't be written is dropped.
    let _ = writeln!(io::stderr(), "{what}");
}

/// A reader that closes early is no failure.
pub(super) fn unless_closed(done: anyhow::Result<()>) -> anyhow::Result<()> {
    done.or_else(|error| if error.is::<OutputClosed>() { Ok(()) } else { Err(error) })
}

/// JSON on one line. Its line breaks are between tokens, never within a string, so they and the
/// indentation around them can be dropped.
pub(super) fn one_line(json: &str) -> Cow<'_, str> {
    if !json.contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let pieces = json.split(['\n', '\r']).map(str::trim).filter(|piece| !piece.is_empty());
    Cow::Owned(pieces.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_many_lines_becomes_one_that_means_the_same() {
        let json = "{\r\n  \"a\" : 1.0e0,\n\n\t\"b\": \"x\\n  y\" }";
        let line = one_line(json);
        assert_eq!(line, r#"{ "a" : 1.0e0, "b": "x\n  y" }"#);
        assert!(matches!(one_line("{\"a\":1}"), Cow::Borrowed(_)));
    }
}
