//! The progress of publishing, on a terminal.

use std::fmt::Write;
use std::io::{IsTerminal, stdin, stdout};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar on standard error, if that is a terminal; none if it would disturb input or output there,
/// nor for a single message.
pub(super) fn bar(files: &[PathBuf], single: bool, json: bool) -> ProgressBar {
    let typed = files.is_empty() && stdin().is_terminal();
    if single || typed || (json && stdout().is_terminal()) {
        return ProgressBar::hidden();
    }
    let (bar, template) = match files.len() {
        0 => (ProgressBar::no_length(), "{spinner} {human_pos} acknowledged, {rate}"),
        count => (ProgressBar::new(count as u64), "{bar:40} {human_pos} of {human_len}, {rate}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.with_key("rate", rate)),
        Err(_) => bar,
    }
}

fn rate(state: &ProgressState, out: &mut dyn Write) {
    // A failed write of the bar can't be reported.
    let _ = write!(out, "{:.0} a second", state.per_sec());
}
