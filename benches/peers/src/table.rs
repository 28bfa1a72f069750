//! The table, and what has to be said beside it.

use std::fmt::Write;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::measure::Figures;
use crate::plan::Row;
use crate::programs::{ALL, Program};

/// A row's repetitions, or why there are none.
pub struct Outcome<'a> {
    pub row: &'a Row,
    pub repetitions: Vec<Figures>,
    pub failed: Option<String>,
}

impl Outcome<'_> {
    /// The repetition with the median rate.
    fn median(&self) -> Option<&Figures> {
        let mut sorted: Vec<_> = self.repetitions.iter().collect();
        sorted.sort_by(|one, other| one.messages_per_second.total_cmp(&other.messages_per_second));
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}

const HEADER: [&str; 10] = [
    "system",
    "synced to disk",
    "msgs/s",
    "min-max",
    "p50",
    "p99",
    "CPU s/M",
    "client's",
    "peak MiB",
    "disk B/B",
];

pub fn show(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(HEADER);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut workload = "";
    for outcome in outcomes {
        if outcome.row.workload != workload {
            workload = &outcome.row.workload;
            table.add_row([&format!("-- {workload}")]);
        }
        table.add_row(cells(outcome));
    }
    table.trim_fmt()
}

fn cells(outcome: &Outcome) -> Vec<String> {
    let system = &outcome.row.system;
    let (Some(median), None) = (outcome.median(), &outcome.failed) else {
        return vec![system.name(), "see below".into()];
    };
    let rates = || outcome.repetitions.iter().map(|one| one.messages_per_second);
    let disk = match median.disk_bytes_per_payload_byte {
        0.0 => "0".into(),
        some => format!("{some:.2}"),
    };
    vec![
        system.name(),
        system.synced().into(),
        format!("{:.0}", median.messages_per_second),
        format!(
            "{}-{}",
            thousands(rates().fold(f64::INFINITY, f64::min)),
            thousands(rates().fold(0.0, f64::max))
        ),
        time(median.p50_us),
        time(median.p99_us),
        format!("{:.2}", median.server_cpu_seconds_per_million),
        format!("{:.2}", median.client_cpu_seconds_per_million),
        format!("{:.0}", median.peak_memory_mib),
        disk,
    ]
}

fn thousands(rate: f64) -> String {
    if rate < 99_500.0 { format!("{:.1}k", rate / 1e3) } else { format!("{:.0}k", rate / 1e3) }
}

fn time(microseconds: f64) -> String {
    match microseconds {
        ..1_000.0 => format!("{microseconds:.0}µs"),
        ..10_000.0 => format!("{:.2}ms", microseconds / 1e3),
        ..100_000.0 => format!("{:.1}ms", microseconds / 1e3),
        _ => format!("{:.0}ms", microseconds / 1e3),
    }
}

/// Why rows have no figures, one a line.
pub fn failures(outcomes: &[Outcome]) -> String {
    let told = outcomes.iter().filter_map(|outcome| {
        let why = outcome.failed.as_deref()?;
        Some(format!("  {}: {why}\n", outcome.row.key))
    });
    told.collect()
}

/// The versions of what was measured, one a line, and what is not here.
pub fn versions(programs: &[Program]) -> Result<String> {
    let mut text = String::new();
    for program in ALL.into_iter().filter(|program| programs.contains(program)) {
        match program.path() {
            Some(_) => writeln!(text, "  {}: {}", program.name(), program.version()?)?,
            None => writeln!(text, "  {}: not here, its rows are passed over", program.name())?,
        }
    }
    Ok(text)
}

#[derive(Serialize)]
struct Told<'a> {
    row: &'a str,
    workload: &'a str,
    system: String,
    synced: &'a str,
    median: Option<&'a Figures>,
    repetitions: &'a [Figures],
    failed: Option<&'a str>,
}

/// Everything, for programs.
pub fn json(outcomes: &[Outcome]) -> Result<String> {
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| Told {
            row: &outcome.row.key,
            workload: &outcome.row.workload,
            system: outcome.row.system.name(),
            synced: outcome.row.system.synced(),
            median: outcome.median(),
            repetitions: &outcome.repetitions,
            failed: outcome.failed.as_deref(),
        })
        .collect();
    Ok(serde_json::to_string_pretty(&told)?)
}
