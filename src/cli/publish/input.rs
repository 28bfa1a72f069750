//! Where messages come from: an argument, files, or standard input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::sync::mpsc;

use crate::cli::Usage;

/// Lines read ahead of the socket.
const LINES_AHEAD: usize = 1_000;

/// A message's bytes.
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    /// The media type its file's name tells; where there is none, the content tells.
    pub(super) content_type: Option<&'static str>,
}

/// See the module.
pub(super) enum Input {
    Message(Option<Vec<u8>>),
    Files(VecDeque<PathBuf>),
    Lines(mpsc::Receiver<std::io::Result<Vec<u8>>>),
}

impl Input {
    /// A single message.
    pub(super) fn message(bytes: Vec<u8>) -> Self {
        Self::Message(Some(bytes))
    }

    /// Files, a message each.
    ///
    /// # Errors
    /// One that can't be opened.
    pub(super) fn files(paths: Vec<PathBuf>) -> Result<Self, Usage> {
        for path in &paths {
            File::open(path)
                .map_err(|error| Usage(format!("--file {}: {error}", path.display())))?;
        }
        Ok(Self::Files(paths.into()))
    }

    /// All of standard input as a single message.
    pub(super) fn whole_stdin() -> anyhow::Result<Self> {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
        Ok(Self::message(bytes))
    }

    /// The lines of standard input, a message each. A thread of their own reads them: nothing else
    /// can be told to stop when the broker ends while we wait for a line.
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

    /// The next message; `None` at the end. Nothing is lost when it is not waited for.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Payload>> {
        let by_content = |bytes| Payload { bytes, content_type: None };
        match self {
            Self::Message(message) => Ok(message.take().map(by_content)),
            Self::Files(paths) => {
                let Some(path) = paths.pop_front() else { return Ok(None) };
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                Ok(Some(Payload { bytes, content_type: Some(by_extension(&path)) }))
            }
            Self::Lines(lines) => {
                let line = lines.recv().await.transpose().context("standard input")?;
                Ok(line.map(by_content))
            }
        }
    }

    /// Nothing more is there yet.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Message(message) => message.is_none(),
            Self::Files(paths) => paths.is_empty(),
            Self::Lines(lines) => lines.is_empty(),
        }
    }
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
