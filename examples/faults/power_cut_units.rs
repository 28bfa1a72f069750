//! The power fails under the journal alone: units over both logs and state of both kinds.
//!
//! Features that no topic uses yet cannot be reached through sockets, so a process of this harness
//! drives the journal with a small machine (see [`drive_units`](crate::drive_units)) and reports
//! which units were answered as synced. Must hold: after the cut a prefix of an owner's units
//! exists, each of them whole in both streams and in its state, and no answered one is missing.
//! Every other cut writes some of the WAL's last pages back before it (see
//! [`torn_pages`](crate::torn_pages)).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;

use crate::broker::PATIENCE;
use crate::disk::{self, Cut, Mount};
use crate::drive_units::{OWNERS, Said};
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "power-cut-units";

const DISK_BYTES: u64 = 512 << 20;
/// A disk as full as this makes room for a new one: every cycle reads all of its content.
const USED_PERCENT_MAX: u64 = 25;

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = disk::unavailable(&setting.scratch(NAME)?) {
        return Ok(vec![Row::passed_over(NAME, why)]);
    }
    let mut row = Row::new(NAME);
    let mut random = setting.random(NAME);
    let count = setting.count(20, 300);
    while row.cycles < count && row.violations.is_empty() {
        let scratch = setting.scratch(NAME)?;
        let disk = Mount::ext4(&scratch, DISK_BYTES)?;
        let mut subject = Subject::new(&disk, &scratch, random.random());
        while row.cycles < count && disk.used_percent()? < USED_PERCENT_MAX {
            row.cycles += 1;
            if let Err(error) = subject.cycle(&mut row, &mut random) {
                row.violations.push(format!("cycle {}: {error:#}", row.cycles));
                break;
            }
        }
        if row.violations.is_empty()
            && let Err(error) = subject.start(&mut row)
        {
            row.violations.push(format!("after cycle {}: {error:#}", row.cycles));
        }
    }
    row.note = "acknowledged counts units".to_owned();
    Ok(vec![row])
}

/// A directory that is kept through many cuts.
struct Subject<'a> {
    disk: &'a Mount,
    /// The process's standard error, on a disk that is not attacked.
    said: PathBuf,
    /// The seed of its changes.
    seed: u64,
    /// By owner, the last unit that was answered as synced.
    answered: [u64; OWNERS],
}

impl<'a> Subject<'a> {
    fn new(disk: &'a Mount, scratch: &Path, seed: u64) -> Self {
        Self { disk, said: scratch.join("stderr"), seed, answered: [0; OWNERS] }
    }

    fn cycle(&mut self, row: &mut Row, random: &mut StdRng) -> anyhow::Result<()> {
        let mut running = self.start(row)?;
        let torn = row.cycles.is_multiple_of(2);
        let cut = if torn { Cut::Torn { seed: random.random() } } else { Cut::Clean };
        let switch = self.disk.switch(cut)?;
        let units = random.random_range(1..400);
        for _ in 0..units {
            match running.next()? {
                Said::Synced { owner, changes } => self.answered[owner] = changes,
                other => bail!("said {other:?} while it worked"),
            }
        }
        switch.cut()?;
        // Answers that it sent before the cut took hold are promises like all others.
        running.process.kill()?;
        while let Ok(said) = running.said.recv() {
            if let Some(Said::Synced { owner, changes }) = Said::parse(&said) {
                self.answered[owner] = changes;
                row.acknowledged += 1;
            }
        }
        row.acknowledged += units;
        drop(running);
        self.disk.remount()
    }

    /// Starts a process, which checks its content by itself, except for answered units.
    fn start(&mut self, row: &mut Row) -> anyhow::Result<Driver> {
        let begun = Instant::now();
        let mut running = Driver::start(&self.disk.at.join("data"), &self.said, self.seed)?;
        let mut found = [0; OWNERS];
        for _ in 0..OWNERS {
            match running.next()? {
                Said::Found { owner, changes } => found[owner] = changes,
                other => bail!("said {other:?} before all was found"),
            }
        }
        for (owner, (found, answered)) in found.into_iter().zip(self.answered).enumerate() {
            ensure!(found >= answered, "owner {owner} has {found} units, {answered} were answered");
            self.answered[owner] = found;
        }
        row.recovery.push(begun.elapsed());
        Ok(running)
    }
}

/// A process that drives a journal; killed when dropped.
struct Driver {
    process: Child,
    stderr: PathBuf,
    said: Receiver<String>,
}

impl Driver {
    fn start(directory: &Path, stderr: &Path, seed: u64) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--drive-units")
            .arg(directory)
            .args(["--seed", &seed.to_string()])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(stderr)?)
            .spawn()?;
        let stdout = BufReader::new(process.stdout.take().context("its output is a pipe")?);
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines_said = stdout.lines().map_while(Result::ok);
            lines_said.try_for_each(|line| lines.send(line))
        });
        Ok(Self { process, stderr: stderr.to_owned(), said })
    }

    fn next(&mut self) -> anyhow::Result<Said> {
        let line = self.said.recv_timeout(PATIENCE);
        let line = line.with_context(|| {
            let said = std::fs::read_to_string(&self.stderr).unwrap_or_default();
            format!("the process says nothing more; before: {}", said.trim())
        })?;
        Said::parse(&line).with_context(|| format!("{line:?} says nothing"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
