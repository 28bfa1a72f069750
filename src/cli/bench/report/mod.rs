//! The results of the repetitions, as a table, as JSON, as a page.

mod page;
mod plot;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::measure::Outcome;
use super::settings::Settings;
use super::tally::{BIN_MS, Tally};

const MIB: f64 = 1024.0 * 1024.0;
/// Percentiles of the curve: 0 to 99.999, closer where it is steep.
const CURVE: [f64; 24] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5, 99.0,
    99.5, 99.75, 99.9, 99.95, 99.975, 99.99, 99.995, 99.999,
];

/// See the module.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    weir: &'static str,
    cores: usize,
    settings: &'a Settings,
    results: Vec<Series>,
}

/// One kind of measurement at one server.
#[derive(Serialize)]
struct Series {
    server: String,
    /// What was timed.
    what: &'static str,
    repetitions: Vec<Row>,
    /// Of each column on its own.
    median: Row,
}

/// The result of one repetition; times in microseconds.
#[derive(Clone, Debug, Serialize)]
struct Row {
    per_second: f64,
    mib_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// The server's CPU time for a million of them.
    cpu_s_per_million: Option<f64>,
    resident_mib: Option<f64>,
    resident_mib_max: Option<f64>,
    /// Bytes handed to the disk for a byte of payload.
    written_per_byte: Option<f64>,
    /// Percentile and time.
    curve: Vec<(f64, f64)>,
    /// A second and the count in it, from its start on.
    rates: Vec<(f64, f64)>,
}

impl Row {
    fn of(tally: &Tally, outcome: &Outcome, is_publishing: bool) -> Self {
        let us = |percentile: f64| tally.times.value_at_percentile(percentile) as f64 / 1e3;
        let usage = outcome.usage.filter(|_| tally.messages > 0);
        let bins = tally.bins.iter().enumerate();
        let bin_s = BIN_MS as f64 / 1e3;
        Self {
            per_second: tally.messages as f64 / outcome.seconds,
            mib_per_second: tally.bytes as f64 / MIB / outcome.seconds,
            p50_us: us(50.0),
            p90_us: us(90.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            max_us: tally.times.max() as f64 / 1e3,
            cpu_s_per_million: usage.map(|usage| usage.cpu_s / (tally.messages as f64 / 1e6)),
            resident_mib: usage.map(|usage| usage.resident_bytes as f64 / MIB),
            resident_mib_max: usage.map(|usage| usage.resident_bytes_max as f64 / MIB),
            written_per_byte: usage
                .filter(|_| is_publishing)
                .map(|usage| usage.written_bytes as f64 / tally.bytes as f64),
            curve: CURVE.iter().map(|percentile| (*percentile, us(*percentile))).collect(),
            rates: bins.map(|(n, count)| (n as f64 * bin_s, *count as f64 / bin_s)).collect(),
        }
    }

    /// Each figure's median over the repetitions; curves are not for that.
    fn median(rows: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rows.iter().map(figure).collect());
        let some = |figure: fn(&Self) -> Option<f64>| {
            let known: Vec<_> = rows.iter().filter_map(figure).collect();
            (!known.is_empty()).then(|| median(known))
        };
        Self {
            per_second: of(|row| row.per_second),
            mib_per_second: of(|row| row.mib_per_second),
            p50_us: of(|row| row.p50_us),
            p90_us: of(|row| row.p90_us),
            p99_us: of(|row| row.p99_us),
            p999_us: of(|row| row.p999_us),
            max_us: of(|row| row.max_us),
            cpu_s_per_million: some(|row| row.cpu_s_per_million),
            resident_mib: some(|row| row.resident_mib),
            resident_mib_max: some(|row| row.resident_mib_max),
            written_per_byte: some(|row| row.written_per_byte),
            curve: Vec::new(),
            rates: Vec::new(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |n: usize| values.get(n).copied().unwrap_or_default();
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) && middle > 0 {
        return (at(middle - 1) + at(middle)) / 2.0;
    }
    at(middle)
}

impl<'a> Report<'a> {
    pub(super) fn new(settings: &'a Settings, servers: &[(&str, Vec<Outcome>)]) -> Self {
        type Kind = (&'static str, fn(&Outcome) -> &Tally);
        let kinds: [Kind; 4] = [
            ("message to acknowledgement", |outcome| &outcome.acknowledged),
            ("message to delivery", |outcome| &outcome.delivered),
            ("polled message, of its page", |outcome| &outcome.polled),
            ("page", |outcome| &outcome.pages),
        ];
        let mut results = Vec::new();
        for (server, outcomes) in servers {
            for (what, tally) in kinds {
                if outcomes.iter().all(|outcome| tally(outcome).messages == 0) {
                    continue;
                }
                let publishing = what == kinds[0].0;
                let row = |outcome| Row::of(tally(outcome), outcome, publishing);
                let repetitions: Vec<_> = outcomes.iter().map(row).collect();
                let median = Row::median(&repetitions);
                results.push(Series { server: (*server).to_owned(), what, repetitions, median });
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { weir: env!("CARGO_PKG_VERSION"), cores, settings, results }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    pub(super) fn html(&self) -> String {
        page::write(self)
    }

    /// The measurement, in words.
    fn title(&self) -> String {
        let Settings { workload, payload_bytes, ack_level, seconds, .. } = self.settings;
        let repetitions = self.results.first().map_or(0, |series| series.repetitions.len());
        let pace =
            self.settings.pace().map_or("closed loop".into(), |rate| format!("{rate} a second"));
        format!(
            "{workload:?}, {payload_bytes}-byte payloads, ack level {ack_level}, {pace}; \
             median of {repetitions} × {seconds} s, {} cores",
            self.cores
        )
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new();
        let header = [
            "",
            "a second",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "CPU s/M",
            "RSS MiB",
            "written/B",
        ];
        table.load_preset(NOTHING).set_header(header);
        for Series { server, what, repetitions, median } in &self.results {
            let rows = repetitions.iter().map(|row| (String::new(), row));
            let all = rows.chain([(format!("{server}: {what}"), median)]);
            for (name, row) in all.skip(if repetitions.len() == 1 { 1 } else { 0 }) {
                let dash = || "-".to_owned();
                table.add_row([
                    name,
                    count(row.per_second),
                    time(row.p50_us),
                    time(row.p90_us),
                    time(row.p99_us),
                    time(row.p999_us),
                    time(row.max_us),
                    row.cpu_s_per_million.map_or_else(dash, |s| format!("{s:.2}")),
                    row.resident_mib_max.map_or_else(dash, |mib| format!("{mib:.0}")),
                    row.written_per_byte.map_or_else(dash, |ratio| format!("{ratio:.2}")),
                ]);
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{}\n{}", self.title(), table.trim_fmt())
    }
}

/// A number with its thousands set apart.
fn count(number: f64) -> String {
    indicatif::HumanCount(number.round() as u64).to_string()
}

/// A time in the unit that suits it.
fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e5 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}
