//! The result of a fault, and the one table of all of them.

use std::fmt::Write;
use std::time::Duration;

/// Violations of one fault that are printed; the rest is counted.
const SHOWN_MAX: usize = 12;

/// One line of the table.
#[derive(Debug, Default)]
pub struct Row {
    pub fault: String,
    /// The name of a unit of work differs from fault to fault: crashes, points, copies.
    pub cycles: usize,
    pub acknowledged: usize,
    /// Acknowledged and lost, allowed or not.
    pub lost: usize,
    pub violations: Vec<String>,
    /// From the start of a process until it listens.
    pub recovery: Vec<Duration>,
    /// Other remarks.
    pub note: String,
    /// Why it could not run here.
    pub passed_over: Option<String>,
}

impl Row {
    pub fn new(fault: &str) -> Self {
        Self { fault: fault.to_owned(), ..Self::default() }
    }

    /// A fault that can't run here, and why.
    pub fn passed_over(fault: &str, why: impl Into<String>) -> Self {
        Self { passed_over: Some(why.into()), ..Self::new(fault) }
    }

    fn cells(&self) -> [String; 8] {
        if let Some(why) = &self.passed_over {
            let mut cells: [String; 8] = Default::default();
            cells[0].clone_from(&self.fault);
            cells[7] = format!("passed over: {why}");
            return cells;
        }
        [
            self.fault.clone(),
            self.cycles.to_string(),
            self.acknowledged.to_string(),
            self.lost.to_string(),
            self.violations.len().to_string(),
            percentile(&self.recovery, 50),
            percentile(&self.recovery, 99),
            self.note.clone(),
        ]
    }
}

fn percentile(times: &[Duration], percent: usize) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map(|time| format!("{} ms", time.as_millis())).unwrap_or_default()
}

/// The table, with the violations below it.
pub fn table(rows: &[Row]) -> String {
    let head =
        ["fault", "cycles", "acknowledged", "lost", "violations", "recovery p50", "p99", "remarks"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut out = String::new();
    for (n, cells) in lines.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = match column {
                0 | 7 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
        if n == 0 {
            let _ = writeln!(out, "{}", "-".repeat(widths.iter().sum::<usize>() + 14));
        }
    }
    for row in rows.iter().filter(|row| !row.violations.is_empty()) {
        let _ = writeln!(out, "\n{}:", row.fault);
        for violation in row.violations.iter().take(SHOWN_MAX) {
            let _ = writeln!(out, "  {violation}");
        }
        if let Some(more) = row.violations.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            let _ = writeln!(out, "  … and {more} more");
        }
    }
    out
}
