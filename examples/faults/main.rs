//! Attacks a real `weir serve` and compares its content afterwards with what it acknowledged.
//!
//! ```text
//! cargo build --release
//! cargo run --release --example faults -- --short          # a few minutes
//! cargo run --release --example faults -- --long           # 500 power cuts, 1,000 corruptions, …
//! cargo run --release --example faults -- --only kill,power-cut --seed 7 --keep
//! ```
//!
//! Each fault is a file here that states what it does, what must hold and what it never does. The
//! common parts: [`broker`] starts processes, [`producers`] and [`workload`] load them, [`script`]
//! is a load that is the same every time, [`history`] is the judge, [`report`] the table. The exit
//! code is 1 if anything was violated or a broker did not open.
//!
//! Cutting the power needs root and loop mounts, killing at system calls needs strace; a fault that
//! cannot run here is in the table with the reason. It never touches anything outside its own
//! temporary directory and ends only processes that it started.

mod broker;
mod bystander;
mod client;
mod clock;
mod control;
mod corruption;
mod crash_points;
mod cycles;
mod descriptors;
mod disk;
mod disk_filled;
mod drive_units;
mod eio;
mod enospc;
#[path = "../../tests/it/support/history.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod history;
mod kill;
mod log_reader;
#[path = "../../tests/it/units/machine.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it belongs to the tests")]
mod machine;
mod mutation;
mod overload;
mod plain_fjall;
mod power_cut;
mod power_cut_units;
mod producers;
mod report;
mod script;
mod second_life;
mod second_process;
mod setting;
mod stop_signal;
mod strace;
mod stuck_readers;
mod torn_pages;
#[path = "../../tests/it/units/version.rs"]
#[allow(clippy::unwrap_used, reason = "it belongs to the tests")]
mod version;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::report::Row;
use crate::setting::Setting;

/// Every fault, in the order of the table, and how many seconds of a short run it may take on two
/// cores. A longer one is reported, and is no violation.
const FAULTS: [(&str, u64); 17] = [
    (kill::NAME, 30),
    (power_cut::NAME, 30),
    (torn_pages::NAME, 30),
    (power_cut_units::NAME, 10),
    (crash_points::NAME, 90),
    (corruption::NAME, 90),
    (eio::NAME, 30),
    (enospc::NAME, 45),
    (disk_filled::NAME, 20),
    (descriptors::NAME, 15),
    (log_reader::NAME, 15),
    (stop_signal::NAME, 20),
    (clock::NAME, 40),
    (second_life::NAME, 15),
    (second_process::NAME, 10),
    (overload::NAME, 45),
    (stuck_readers::NAME, 90),
];

/// Attacks a broker and reports its losses.
#[derive(Parser)]
struct Arguments {
    /// A few minutes of everything (the default)
    #[arg(long, conflicts_with = "long")]
    short: bool,
    /// 500 power cuts, 500 torn writes, 1,000 corruptions, every crash point
    #[arg(long)]
    long: bool,
    /// Only these faults
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',')]
    only: Vec<String>,
    /// Repeat the choices of another run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep the data directory of a cycle that failed, as it was before the broker opened it
    #[arg(long)]
    keep: bool,
    /// The broker to attack [default: the one beside this example]
    #[arg(long, value_name = "PATH")]
    weir: Option<PathBuf>,
    /// Open this directory with plain fjall and print what is in it (for the corruption fault)
    #[arg(long, value_name = "DIR", hide = true)]
    plain_fjall: Option<PathBuf>,
    /// Drive the journal alone in this directory until killed (for the fault power-cut-units)
    #[arg(long, value_name = "DIR", hide = true, requires = "seed")]
    drive_units: Option<PathBuf>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(directory) = &arguments.plain_fjall {
        plain_fjall::print(directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(directory), Some(seed)) = (&arguments.drive_units, arguments.seed) {
        drive_units::drive(directory, seed).await?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in &arguments.only {
        let names = FAULTS.map(|(name, _)| name);
        anyhow::ensure!(names.contains(&name.as_str()), "no fault {name}; there are {names:?}");
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let setting = Setting::new(arguments.weir, arguments.long, seed, arguments.keep)?;
    println!("seed {seed}");
    let mut rows = Vec::new();
    for (name, budget) in FAULTS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        let start = Instant::now();
        let found = attack(name, &setting).await.unwrap_or_else(|error| {
            let mut row = Row::new(name);
            row.violations.push(format!("{error:#}"));
            vec![row]
        });
        for row in &found {
            let (cycles, violations) = (row.cycles, row.violations.len());
            eprintln!("{}: {cycles} cycles, {violations} violations", row.fault);
        }
        rows.extend(found);
        let took = start.elapsed().as_secs();
        let over = if took > budget && !setting.long { ", OVER its budget" } else { "" };
        eprintln!("  {took} of {budget} s{over}");
    }
    println!("\n{}", report::table(&rows));
    let violated = rows.iter().any(|row| !row.violations.is_empty());
    Ok(if violated { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn attack(name: &str, setting: &Setting) -> anyhow::Result<Vec<Row>> {
    match name {
        kill::NAME => kill::run(setting).await,
        power_cut::NAME => power_cut::run(setting).await,
        power_cut_units::NAME => power_cut_units::run(setting).await,
        torn_pages::NAME => torn_pages::run(setting).await,
        crash_points::NAME => crash_points::run(setting).await,
        corruption::NAME => corruption::run(setting).await,
        eio::NAME => eio::run(setting).await,
        enospc::NAME => enospc::run(setting).await,
        disk_filled::NAME => disk_filled::run(setting).await,
        descriptors::NAME => descriptors::run(setting).await,
        log_reader::NAME => log_reader::run(setting).await,
        second_life::NAME => second_life::run(setting).await,
        stop_signal::NAME => stop_signal::run(setting).await,
        clock::NAME => clock::run(setting).await,
        second_process::NAME => second_process::run(setting).await,
        overload::NAME => overload::run(setting).await,
        stuck_readers::NAME => stuck_readers::run(setting).await,
        other => anyhow::bail!("no fault {other}"),
    }
}
