//! The sources of messages: an argument, files, or standard input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::mpsc;

use crate::cli::Usage;
use crate::cli::paths::is_standard;

/// Lines read ahead of the socket.
const LINES_AHEAD: usize = 1_000;

/// A message's bytes.
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    /// The media type by its file's name; `None` if only the content shows it.
    pub(super) content_type: Option<&'static str>,
}

/// The source of a file's content.
pub(super) enum Source {
    Path(PathBuf),
    /// Read already: the broker would not be answered while a read of standard input blocks.
    Stdin(Vec<u8>),
}

/// See the module.
pub(super) enum Input {
    Message(Option<Vec<u8>>),
    Files(VecDeque<Source>),
    Lines(mpsc::Receiver<std::io::Result<Vec<u8>>>),
}

impl Input {
    /// A single message.
    pub(super) fn message(bytes: Vec<u8>) -> Self {
        Self::Message(Some(bytes))
    }

    /// Files, a message each; `-` is standard input.
    ///
    /// # Errors
    /// A file that can't be opened, or standard input more than once.
    pub(super) fn files(paths: Vec<PathBuf>) -> anyhow::Result<Self> {
        if paths.iter().filter(|path| is_standard(path)).count() > 1 {
            let why = "--file -: is given twice, and standard input can be read once";
            return Err(Usage(why.to_owned()).into());
        }
        paths.iter().try_for_each(|path| check(path))?;
        let source = |path: PathBuf| match is_standard(&path) {
            true => read_stdin().map(Source::Stdin),
            false => Ok(Source::Path(path)),
        };
        Ok(Self::Files(paths.into_iter().map(source).collect::<anyhow::Result<_>>()?))
    }

    /// All of standard input as a single message.
    pub(super) fn whole_stdin() -> anyhow::Result<Self> {
        read_stdin().map(Self::message)
    }

    /// The lines of standard input, a message each. A thread of their own reads them: no other
    /// reader can be stopped while it waits for a line after the broker has ended.
    pub(super) fn stdin_lines() -> anyhow::Result<Self> {
        let (sender, lines) = mpsc::channel(LINES_AHEAD);
        let read = move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut line = Vec::new();
                let read = match input.read_until(b'\n', &mut line) {
                    Ok(0) => return,
                    Ok(_) => Ok(without_end(line)),
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(read)?;
        Ok(Self::Lines(lines))
    }

    /// The next message; `None` at the end. Cancelling the wait loses nothing.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Payload>> {
        let by_content = |bytes| Payload { bytes, content_type: None };
        match self {
            Self::Message(message) => Ok(message.take().map(by_content)),
            Self::Files(files) => Ok(match files.pop_front() {
                None => None,
                Some(Source::Stdin(bytes)) => Some(by_content(bytes)),
                Some(Source::Path(path)) => {
                    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                    Some(Payload { bytes, content_type: Some(by_extension(&path)) })
                }
            }),
            Self::Lines(lines) => {
                let line = lines.recv().await.transpose().context("standard input")?;
                Ok(line.map(by_content))
            }
        }
    }

    /// No input is pending.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Message(message) => message.is_none(),
            Self::Files(files) => files.is_empty(),
            Self::Lines(lines) => lines.is_empty(),
        }
    }
}

fn read_stdin() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
    Ok(bytes)
}

/// A file seems readable, as far as can be checked before the read.
fn check(path: &Path) -> Result<(), Usage> {
    let refused = |why: &str| Usage(format!("--file {}: {why}", path.display()));
    if is_standard(path) {
        return Ok(());
    }
    let about = std::fs::metadata(path).map_err(|error| refused(&error.to_string()))?;
    if about.is_dir() {
        return Err(refused("is a directory"));
    }
    // Opening a pipe and closing it again would break it.
    if about.is_file() {
        File::open(path).map_err(|error| refused(&error.to_string()))?;
    }
    Ok(())
}

fn without_end(mut line: Vec<u8>) -> Vec<u8> {
    line.pop_if(|byte| *byte == b'\n');
    line.pop_if(|byte| *byte == b'\r');
    line
}

fn by_extension(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
