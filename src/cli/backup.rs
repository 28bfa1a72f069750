//! `weir backup` and `weir restore`: a consistent copy of a running broker's data, and back.
//!
//! `-` is standard output or input. A backup whose reader leaves before its end is a failure,
//! although other output may be left unread: a partial backup is useless.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use reqwest::Response;

use super::client::Server;
use super::output::{note, report};
use super::paths::{check_stdin, check_stdout, directory, is_standard};
use super::verify::bar;
use crate::topics;

#[derive(Args)]
pub(super) struct Backup {
    /// The file to write, which must not exist, or `-` for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

impl Backup {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if is_standard(&self.file) {
            check_stdout("FILE")?;
            return self.to_stdout().await;
        }
        if self.file.exists() {
            bail!("{} exists already", self.file.display());
        }
        let answer = self.take().await?;
        let making = self.file.with_extension("incomplete");
        let failed = || format!("can't write {}", making.display());
        let mut out = BufWriter::new(File::create(&making).with_context(failed)?);
        let bar = bar();
        copy(answer, &mut out, &bar, failed).await?;
        let written = out.into_inner().map_err(|error| error.into_error()).with_context(failed)?;
        written.sync_all().with_context(failed)?;
        let bytes = written.metadata().with_context(failed)?.len();
        std::fs::rename(&making, &self.file).with_context(failed)?;
        bar.finish_and_clear();
        report([format!("{}: {bytes} bytes", self.file.display())])
    }

    async fn to_stdout(&self) -> anyhow::Result<()> {
        let answer = self.take().await?;
        let failed = || "the backup is incomplete: standard output".to_owned();
        // Not through std's buffer, which looks for line ends.
        let mut out = File::from(stdout().as_fd().try_clone_to_owned().with_context(failed)?);
        let bar = bar();
        let bytes = copy(answer, &mut out, &bar, failed).await?;
        bar.finish_and_clear();
        note(&format!("standard output: {bytes} bytes"));
        Ok(())
    }

    async fn take(&self) -> anyhow::Result<Response> {
        self.server.get(self.server.place(&["v1", "backup"])).await
    }
}

/// Writes all of an answer's body; returns its bytes.
async fn copy(
    mut answer: Response,
    out: &mut impl Write,
    bar: &ProgressBar,
    failed: impl Fn() -> String,
) -> anyhow::Result<u64> {
    let mut written = 0;
    while let Some(bytes) = answer.chunk().await.context("the broker broke off")? {
        out.write_all(&bytes).with_context(&failed)?;
        written += bytes.len() as u64;
        bar.inc(bytes.len() as u64);
    }
    Ok(written)
}

#[derive(Args)]
pub(super) struct Restore {
    /// The backup, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to create; it must not exist
    #[arg(value_name = "DIR", value_parser = directory())]
    directory: PathBuf,
}

impl Restore {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let bar = bar();
        let standard = is_standard(&self.file);
        let failed = || match standard {
            true => "standard input".to_owned(),
            false => self.file.display().to_string(),
        };
        let from: Box<dyn Read> = if standard {
            check_stdin("FILE")?;
            Box::new(stdin())
        } else {
            let file = File::open(&self.file).with_context(failed)?;
            bar.set_length(file.metadata().with_context(failed)?.len());
            Box::new(file)
        };
        let from = BufReader::with_capacity(1 << 20, from);
        let progress = |bytes| bar.set_position(bytes);
        let restored = topics::restore(from, &self.directory, progress).await;
        bar.finish_and_clear();
        let done = restored.with_context(failed)?;
        let mut lines = vec![format!(
            "{}: {} topics, {} messages, {} bytes",
            self.directory.display(),
            done.topics,
            done.messages,
            done.bytes
        )];
        if done.damaged > 0 {
            lines.push(format!(
                "{} offsets are missing in the backup: their topics are quarantined",
                done.damaged
            ));
        }
        report(lines)
    }
}
