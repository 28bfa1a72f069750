//! weir and its peers on one machine: real servers, started here one after the other, and clients
//! that are all driven by the same loop, in one run with one table.
//!
//! - [`plan`] says what is measured; [`systems`] has the servers and what their clients say, in the
//!   protocols of [`wire`].
//! - [`measure`] is one repetition of one row: it starts a [`server`], runs [`publish`] or
//!   [`fanout`] through its [`phases`], and asks the server what it has stored.
//! - [`table`] shows the median of the repetitions.
//!
//! Every client is written in the same way, over the same [`link`]: one thread, nonblocking
//! sockets, what is encoded at one wake-up in one write, every acknowledgement read and held
//! against what was sent.

mod bare;
mod fanout;
mod link;
mod measure;
mod payload;
mod phases;
mod plan;
mod process;
mod programs;
mod publish;
mod server;
mod systems;
mod table;
mod wire;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use mio::{Events, Poll};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::measure::{Course, measure};
use crate::plan::Row;
use crate::programs::Program;
use crate::table::Outcome;

/// Measures weir and its peers on this machine.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Options {
    /// How long each repetition is measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long it warms up before.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Repetitions; the one with the median rate is shown.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Rows whose names hold one of these, with commas between them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the servers keep their files while they run: on a disk, not in memory.
    #[arg(long, default_value = "target/servers")]
    dir: PathBuf,
    /// Writes all repetitions to a file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Shows how each server is started and configured, and measures nothing.
    #[arg(long)]
    show_config: bool,
    /// Names the rows, and measures nothing.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(options.repeat > 0, "--repeat: at least one");
    let mut rows = plan::rows();
    if !options.only.is_empty() {
        rows.retain(|row| options.only.iter().any(|part| row.key.contains(part)));
        ensure!(!rows.is_empty(), "--only: no row has such a name; --list names them");
    }
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.key));
        return Ok(());
    }
    if options.show_config {
        return show_config(&rows);
    }
    // A thousand subscribers, and as many sockets in the server.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })?;
    std::fs::create_dir_all(&options.dir)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let course = Course {
        warm_up: seconds(options.warm_up)?,
        measured: seconds(options.seconds)?,
        directory: &std::fs::canonicalize(&options.dir)?,
        stop,
    };
    let bare = bare::appends(course.directory)?;
    let outcomes = measure_all(&rows, options.repeat, &course)?;
    report(&rows, &outcomes, bare, options)?;
    if let Some(path) = &options.json {
        std::fs::write(path, table::json(&outcomes)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let failed = outcomes.iter().any(|one| one.failed.is_some() && !missing(one.row));
    ensure!(!failed, "some rows failed");
    Ok(())
}

/// All rows once, then all of them again: what changes on the machine meets every one of them.
fn measure_all<'a>(rows: &'a [Row], repeat: usize, course: &Course) -> Result<Vec<Outcome<'a>>> {
    let mut outcomes: Vec<_> = rows
        .iter()
        .map(|row| Outcome {
            row,
            repetitions: Vec::new(),
            failed: missing(row)
                .then(|| format!("passed over: no {} here", row.system.program().name())),
        })
        .collect();
    for repetition in 1..=repeat {
        for outcome in &mut outcomes {
            if outcome.failed.is_some() {
                continue;
            }
            let measured = measure(outcome.row, course);
            ensure!(!course.stop.load(Ordering::Relaxed), "stopped");
            match measured {
                Ok(figures) => {
                    let rate = figures.messages_per_second;
                    eprintln!("{repetition}/{repeat} {}: {rate:.0}/s", outcome.row.key);
                    outcome.repetitions.push(figures);
                }
                Err(error) => {
                    eprintln!("{repetition}/{repeat} {}: {error:#}", outcome.row.key);
                    outcome.failed = Some(format!(
                        "failed: {}",
                        error.to_string().lines().next().unwrap_or_default()
                    ));
                }
            }
        }
    }
    Ok(outcomes)
}

fn missing(row: &Row) -> bool {
    row.system.program().path().is_none()
}

fn report(
    rows: &[Row],
    outcomes: &[Outcome],
    bare: (Duration, Duration),
    options: &Options,
) -> Result<()> {
    let programs: Vec<Program> = rows.iter().map(|row| row.system.program()).collect();
    let cores = std::thread::available_parallelism()?;
    println!("{}\n", table::show(outcomes));
    print!("{}", table::failures(outcomes));
    println!(
        "{}-byte payloads that don't compress; {} s measured after {} s, of {} repetitions the one \
         with the median rate.\nServer and client (one thread) share {cores} cores. CPU s/M: \
         processor seconds of the server, and of the client, a million\nmessages or deliveries. \
         disk B/B: bytes the server gave the disk (write_bytes) a payload byte. Latency: from the\n\
         publisher's write to its acknowledgement, or to the subscriber's read.",
        payload::BYTES,
        options.seconds,
        options.warm_up,
        options.repeat,
    );
    println!("  bare append + fdatasync: p50 {:.0?}, p99 {:.0?}", bare.0, bare.1);
    print!("{}", table::versions(&programs)?);
    Ok(())
}

fn show_config(rows: &[Row]) -> Result<()> {
    let mut shown = Vec::new();
    for row in rows {
        let key = row.system.name();
        if shown.contains(&key) {
            continue;
        }
        println!("== {}: {}", row.system.name(), row.system.synced());
        match row.system.launch(Path::new("DIR"), 7_000) {
            Ok(launch) => {
                println!("{} {}", launch.program.name(), launch.arguments.join(" "));
                if let Some(configuration) = launch.configuration {
                    print!("-- {}\n{}", configuration.file, configuration.text);
                }
                if let Some(prepared) = row.system.prepared() {
                    println!("-- then\n{prepared}");
                }
                println!();
            }
            Err(error) => println!("{error:#}\n"),
        }
        shown.push(key);
    }
    Ok(())
}

fn seconds(value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).context("not a time")
}

/// Waits until something can be read or written, a tenth of a second at most.
fn wait(poll: &mut Poll, events: &mut Events) -> Result<()> {
    match poll.poll(events, Some(Duration::from_millis(100))) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error).context("polling"),
        _ => Ok(()),
    }
}
