//! Files and directories as arguments. `-` is standard input or output for a FILE, and never a
//! directory.

use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

use super::Usage;

/// The file is standard input or output.
pub(super) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Standard input is to be read as a file.
///
/// # Errors
/// It is a terminal, not a file or a pipe.
pub(super) fn check_stdin(argument: &str) -> Result<(), Usage> {
    let why = "`-` is standard input, which is a terminal; redirect it, or name a file";
    if stdin().is_terminal() { Err(Usage(format!("{argument}: {why}"))) } else { Ok(()) }
}

/// Standard output is to be written as a file.
///
/// # Errors
/// It is a terminal.
pub(super) fn check_stdout(argument: &str) -> Result<(), Usage> {
    let why = "`-` is standard output, which is a terminal; redirect it, or name a file";
    if stdout().is_terminal() { Err(Usage(format!("{argument}: {why}"))) } else { Ok(()) }
}

/// Reads the name of a directory.
pub(super) fn directory() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match is_standard(&path) {
        true => Err("a directory is needed; use `./-` for one named `-`"),
        false => Ok(path),
    })
}
