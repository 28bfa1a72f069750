//! The measured server: a given broker, one started here, or a bare server to compare with; and
//! what its process uses, if it runs on this machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::param::clock_ticks_per_second;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A server's line once it accepts.
const LISTENING: &str = "weir listening on http://";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server started here in a temporary directory, which is removed with it.
pub(super) struct OwnServer {
    child: Child,
    _directory: TempDir,
    pub(super) address: String,
}

impl OwnServer {
    /// Starts this very program with these arguments; `{}` among them becomes a data directory,
    /// made within the one given.
    pub(super) async fn start(arguments: &[&str], within: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("weir-bench-").tempdir_in(within);
        let directory = directory.with_context(|| within.display().to_string())?;
        let data = directory.path().join("data");
        let arguments = arguments.iter().map(|one| match *one {
            "{}" => data.as_os_str().to_owned(),
            other => other.into(),
        });
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .env("WEIR_LOG", std::env::var("WEIR_LOG").unwrap_or_else(|_| "error".into()))
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("a child's output")?;
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
        let line = line.context("the server ended at its start")?;
        let address = line.strip_prefix(LISTENING).context("the server's first line")?.to_owned();
        Ok(Self { child, _directory: directory, address })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it in order, and removes what it wrote.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_s: f64,
    /// Bytes handed to the disk.
    pub(super) written_bytes: u64,
    pub(super) resident_bytes: u64,
    /// The largest resident size.
    pub(super) resident_bytes_max: u64,
}

impl Usage {
    /// Reads it from /proc; `None` if there is no /proc.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let stat = read("stat")?;
        // The name may have spaces, and ends with the last parenthesis.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let field = |text: &str, name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let (status, io) = (read("status")?, read("io").unwrap_or_default());
        Some(Self {
            cpu_s: ticks as f64 / clock_ticks_per_second() as f64,
            written_bytes: field(&io, "write_bytes:").unwrap_or_default(),
            resident_bytes: field(&status, "VmRSS:")? * 1024,
            resident_bytes_max: field(&status, "VmHWM:")? * 1024,
        })
    }
}
