//! The report as one HTML file that needs nothing else.

use std::fmt::Write;

use super::plot::{self, decades, linear, percentiles};
use super::{Report, Row, Series, count, time};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d232b;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #dde2e8}
td:first-child,th:first-child{text-align:left}tr.median{font-weight:600}
svg{width:100%;height:auto;margin:.5rem 0}svg text{font-size:11px;fill:#5a6572}.end{text-anchor:end}.middle{text-anchor:middle}
.grid{stroke:#e4e8ed;fill:none}.line{fill:none;stroke-width:1.6}
.c0{stroke:#1f77b4}.c1{stroke:#d95f02}.c2{stroke:#2a9d5c}.c3{stroke:#8a5fbf}.c4{stroke:#b8860b}.c5{stroke:#c0397b}
pre{background:#f4f6f8;padding:.8rem;overflow-x:auto;font-size:12px}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#dde3ea}td,th{border-color:#2c343d}.grid{stroke:#262d35}svg text{fill:#94a0ad}pre{background:#1c2229}}
";

/// The whole page.
pub(super) fn write(report: &Report<'_>) -> String {
    let title = escape(&report.title());
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>weir bench: {title}</title>\
         <style>{STYLE}</style><h1>weir bench</h1><p>{title}; weir {}.</p>",
        report.weir
    );
    for series in &report.results {
        section(&mut out, series);
    }
    let settings = serde_json::to_string_pretty(report.settings).unwrap_or_default();
    // Writing to memory does not fail.
    let _ = write!(out, "<h2>Settings</h2><pre>{}</pre></html>", escape(&settings));
    out
}

fn section(out: &mut String, series: &Series) {
    let Series { server, what, repetitions, median } = series;
    let _ = write!(out, "<h2>{}: {what}</h2>", escape(server));
    out.push_str(
        "<table><tr><th>repetition<th>a second<th>MiB/s<th>p50<th>p90<th>p99<th>p99.9<th>max\
         <th>CPU s/M<th>RSS MiB<th>written/B",
    );
    for (n, row) in repetitions.iter().enumerate() {
        table_row(out, "", &(n + 1).to_string(), row);
    }
    table_row(out, " class=\"median\"", "median", median);
    out.push_str("</table>");
    let all = |points: fn(&Row) -> &Vec<(f64, f64)>| {
        repetitions.iter().flat_map(points).map(|(_, value)| *value)
    };
    let lines = |points: fn(&Row) -> &Vec<(f64, f64)>| -> Vec<_> {
        let named = repetitions.iter().enumerate();
        named.map(|(n, row)| (format!("repetition {}", n + 1), &points(row)[..])).collect()
    };
    let (low, high) = all(|row| &row.curve)
        .fold((f64::MAX, f64::MIN), |(low, high), us| (low.min(us), high.max(us)));
    let times = decades(low, high, "time", time);
    out.push_str(&plot::draw(&percentiles(), &times, &lines(|row| &row.curve)));
    let fastest = all(|row| &row.rates).fold(0.0, f64::max);
    let end = repetitions.iter().flat_map(|row| &row.rates).map(|(s, _)| *s).fold(0.0, f64::max);
    let rates = linear(fastest, "a second", count);
    let seconds = linear(end, "seconds", |s| format!("{s}"));
    out.push_str(&plot::draw(&seconds, &rates, &lines(|row| &row.rates)));
}

fn table_row(out: &mut String, class: &str, name: &str, row: &Row) {
    let some = |value: Option<f64>, digits| value.map(|value| format!("{value:.digits$}"));
    let cells = [
        Some(name.to_owned()),
        Some(count(row.per_second)),
        Some(format!("{:.1}", row.mib_per_second)),
        Some(time(row.p50_us)),
        Some(time(row.p90_us)),
        Some(time(row.p99_us)),
        Some(time(row.p999_us)),
        Some(time(row.max_us)),
        some(row.cpu_s_per_million, 2),
        some(row.resident_mib_max, 0),
        some(row.written_per_byte, 2),
    ];
    let _ = write!(out, "<tr{class}>");
    for cell in cells {
        let _ = write!(out, "<td>{}", cell.as_deref().unwrap_or("–"));
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
