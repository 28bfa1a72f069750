//! `weir backup` and `weir restore`: a consistent copy of a running broker's data, and back.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::client::Server;
use super::verify::bar;
use crate::topics;

#[derive(Args)]
pub(super) struct Backup {
    /// Where to write it; it must not be there
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

impl Backup {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if self.file.exists() {
            bail!("{} is there already", self.file.display());
        }
        let mut answer = self.server.get(self.server.place(&["v1", "backup"])).await?;
        let making = self.file.with_extension("incomplete");
        let failed = || format!("can't write {}", making.display());
        let mut out = BufWriter::new(File::create(&making).with_context(failed)?);
        let bar = bar();
        while let Some(bytes) = answer.chunk().await.context("the broker broke off")? {
            out.write_all(&bytes).with_context(failed)?;
            bar.inc(bytes.len() as u64);
        }
        let written = out.into_inner().map_err(|error| error.into_error()).with_context(failed)?;
        written.sync_all().with_context(failed)?;
        let bytes = written.metadata().with_context(failed)?.len();
        std::fs::rename(&making, &self.file).with_context(failed)?;
        bar.finish_and_clear();
        println!("{}: {bytes} bytes", self.file.display());
        Ok(())
    }
}

#[derive(Args)]
pub(super) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make; it must not be there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Restore {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let failed = || format!("{}", self.file.display());
        let file = File::open(&self.file).with_context(failed)?;
        let bar = bar();
        bar.set_length(file.metadata().with_context(failed)?.len());
        let from = BufReader::with_capacity(1 << 20, file);
        let progress = |bytes| bar.set_position(bytes);
        let restored = topics::restore(from, &self.directory, progress).await;
        bar.finish_and_clear();
        let done = restored.with_context(failed)?;
        println!(
            "{}: {} topics, {} messages, {} bytes",
            self.directory.display(),
            done.topics,
            done.messages,
            done.bytes
        );
        if done.damaged > 0 {
            println!(
                "{} offsets are missing in the backup: their topics are quarantined",
                done.damaged
            );
        }
        Ok(())
    }
}
