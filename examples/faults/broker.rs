//! A `weir serve` process under attack.
//!
//! Its standard error goes to a file beside the data directory, so that its output can't block it
//! and a fault can read it afterwards. A start that neither listens nor ends within [`PATIENCE`] is
//! a failure like any other, never a hang of the harness.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Longest time that any operation of a broker may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct Launch {
    weir: PathBuf,
    data: PathBuf,
    said: PathBuf,
    /// A program that runs the broker, with its arguments.
    wrapper: Vec<OsString>,
    environment: Vec<(String, String)>,
    log_reader: Option<LogReader>,
}

/// A bad reader of the broker's log in place of a file.
#[derive(Clone, Copy, Debug)]
pub enum LogReader {
    /// It has ended.
    Gone,
    /// It reads nothing, so that the pipe fills up.
    Stuck,
}

/// The result of a start.
pub enum Start {
    Listening(Broker),
    /// It ended before it listened.
    Ended {
        status: ExitStatus,
        said: String,
    },
}

/// A running broker; killed when dropped.
pub struct Broker {
    process: Child,
    pub address: String,
    /// From the start of the process until it listened.
    pub started_in: Duration,
    said: PathBuf,
    /// The other end of its log, which is never read.
    _log: Option<std::io::PipeReader>,
}

impl Launch {
    /// The broker's output goes to `scratch`, which must not be on a disk that is attacked.
    pub fn new(weir: &Path, data: &Path, scratch: &Path) -> Self {
        Self {
            weir: weir.to_owned(),
            data: data.to_owned(),
            said: scratch.join("stderr"),
            wrapper: Vec::new(),
            environment: Vec::new(),
            log_reader: None,
        }
    }

    /// Small tables, a small log, little free space and a busy retention, so that a little load
    /// moves all of the parts of the store.
    pub fn small_store(self) -> Self {
        self.with("WEIR__STORAGE__MEMTABLE_BYTES", "1048576")
            .with("WEIR__STORAGE__WAL_BYTES_MAX", "201326592")
            .with("WEIR__STORAGE__FREE_BYTES_MIN", "33554432")
            .with("WEIR__STORAGE__RETENTION_INTERVAL_MS", "100")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives its log to this.
    pub fn read_by(mut self, reader: LogReader) -> Self {
        self.log_reader = Some(reader);
        self
    }

    /// Runs the broker by this program. The broker must stay the child of the harness, as under
    /// `strace -D`.
    pub fn under(mut self, wrapper: Vec<OsString>) -> Self {
        self.wrapper = wrapper;
        self
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = match self.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.weir);
                command
            }
            None => Command::new(&self.weir),
        };
        let said = std::fs::File::create(&self.said)
            .with_context(|| format!("{} can't be made", self.said.display()))?;
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&self.data)
            // No broker.toml of the working directory may change anything.
            .current_dir(self.said.parent().context("a file has a directory")?)
            .env("WEIR_LOG", "warn")
            .env("RUST_BACKTRACE", "0")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said);
        Ok(command)
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> anyhow::Result<Broker> {
        let mut command = self.command()?;
        let log = match self.log_reader {
            None => None,
            Some(reader) => {
                let (read, write) = std::io::pipe()?;
                command.stderr(write);
                matches!(reader, LogReader::Stuck).then_some(read)
            }
        };
        let process = command.spawn().context("the broker can't be run")?;
        let (said, address) = (self.said.clone(), String::new());
        Ok(Broker { process, address, started_in: Duration::ZERO, said, _log: log })
    }

    /// Starts it and kills it this long after.
    pub fn start_and_kill(&self, after: Duration) -> anyhow::Result<()> {
        let broker = self.spawn()?;
        // A random moment of recovery: there is no condition to wait for.
        std::thread::sleep(after);
        broker.kill();
        Ok(())
    }

    /// Starts it and waits until it listens or ends.
    pub fn start(&self) -> anyhow::Result<Start> {
        let started = Instant::now();
        let mut broker = self.spawn()?;
        let stdout = broker.process.stdout.take();
        let mut stdout = BufReader::new(stdout.context("its output is a pipe")?);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // The harness may have stopped waiting.
            let _ = stdout.read_line(&mut line).map(|_| tell.send(line));
            // Further output is read, until it ends.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = told.recv_timeout(PATIENCE);
        broker.started_in = started.elapsed();
        let address = line.as_deref().ok().and_then(|line| {
            line.trim().strip_prefix("weir listening on http://").map(str::to_owned)
        });
        if let Some(address) = address {
            broker.address = address;
            return Ok(Start::Listening(broker));
        }
        match broker.wait() {
            Some(status) => Ok(Start::Ended { status, said: broker.said() }),
            None => bail!("a start that neither listens nor ends: {}", broker.said()),
        }
    }

    /// Starts it; an early end is an error.
    pub fn open(&self) -> anyhow::Result<Broker> {
        match self.start()? {
            Start::Listening(broker) => Ok(broker),
            Start::Ended { status, said } => bail!("open failed, {status}: {}", said.trim()),
        }
    }
}

impl Broker {
    /// Ends the process as a crash would.
    pub fn kill(mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The kernel's figure about its memory, say `VmRSS:`, in KiB.
    pub fn memory_kib(&self, what: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        number.with_context(|| format!("no {what} in /proc"))
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status()?;
        if !sent.success() {
            bail!("SIG{name} was not sent: {sent}");
        }
        Ok(())
    }

    /// Waits for it to end by itself; `None` when it does not.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// It has ended already.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }

    /// Its standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
