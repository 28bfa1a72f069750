//! Curves as SVG, drawn without a script.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;

/// An axis: a value's position between 0 and 1, and its labels.
pub(super) struct Axis {
    pub(super) place: Box<dyn Fn(f64) -> f64>,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) name: &'static str,
}

/// Lines over two axes; each one's title shows where the pointer rests.
pub(super) fn draw(x: &Axis, y: &Axis, lines: &[(String, &[(f64, f64)])]) -> String {
    let across = |value: f64| LEFT + (x.place)(value).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let up =
        |value: f64| HEIGHT - BOTTOM - (y.place)(value).clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP);
    let mut out = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#);
    let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    // Writing to memory does not fail.
    for (value, text) in &y.ticks {
        let at = up(*value);
        let _ = write!(out, r#"<path class="grid" d="M{LEFT} {at:.1}H{right}"/>"#);
        let (x, y) = (LEFT - 6.0, at + 4.0);
        let _ = write!(out, r#"<text x="{x}" y="{y:.1}" class="end">{text}</text>"#);
    }
    for (value, text) in &x.ticks {
        let (at, y) = (across(*value), floor + 16.0);
        let _ = write!(out, r#"<path class="grid" d="M{at:.1} {TOP}V{floor}"/>"#);
        let _ = write!(out, r#"<text x="{at:.1}" y="{y}" class="middle">{text}</text>"#);
    }
    let (middle, below) = (WIDTH / 2.0, HEIGHT - 6.0);
    let _ = write!(out, r#"<text x="{middle}" y="{below}" class="middle">{}</text>"#, x.name);
    let _ = write!(out, r#"<text x="4" y="{}">{}</text>"#, TOP + 2.0, y.name);
    for (n, (title, points)) in lines.iter().enumerate() {
        let mut path = String::new();
        for (at, (px, py)) in points.iter().enumerate() {
            let step = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{step}{:.1} {:.1}", across(*px), up(*py));
        }
        let class = n % 6;
        let _ =
            write!(out, r#"<path class="line c{class}" d="{path}"><title>{title}</title></path>"#);
    }
    out + "</svg>"
}

/// A linear axis from 0 to a round number at or over `max`.
pub(super) fn linear(max: f64, name: &'static str, text: impl Fn(f64) -> String) -> Axis {
    let step = 10f64.powf(max.max(1e-9).log10().floor());
    let step = [0.2, 0.25, 0.5, 1.0, 2.0].map(|part| part * step);
    let step = step.into_iter().find(|step| max / step <= 6.0).unwrap_or(max.max(1.0));
    let count = (max / step).ceil().max(1.0);
    let end = count * step;
    let ticks = (0..=count as usize).map(|n| (n as f64 * step, text(n as f64 * step))).collect();
    Axis { place: Box::new(move |value| value / end), ticks, name }
}

/// A logarithmic axis over whole decades that hold `min` to `max`.
pub(super) fn decades(
    min: f64,
    max: f64,
    name: &'static str,
    text: impl Fn(f64) -> String,
) -> Axis {
    let (low, high) = (min.max(1e-9).log10().floor(), max.max(1e-9).log10().ceil());
    let high = high.max(low + 1.0);
    let ticks = (low as i32..=high as i32).map(|power| 10f64.powi(power));
    let ticks = ticks.map(|value| (value, text(value))).collect();
    Axis {
        place: Box::new(move |value| (value.max(1e-9).log10() - low) / (high - low)),
        ticks,
        name,
    }
}

/// Percentiles, as far from 100 as they are rare.
pub(super) fn percentiles() -> Axis {
    let rarity = |percentile: f64| -(1.0 - percentile / 100.0).max(1e-5).log10() / 5.0;
    let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
    let ticks = ticks.map(|percentile| (percentile, format!("{percentile}"))).to_vec();
    Axis { place: Box::new(rarity), ticks, name: "percentile" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_is_drawn_on_them() {
        let axis = linear(730.0, "", |value| value.to_string());
        assert!((axis.place)(730.0) <= 1.0 && axis.ticks.len() <= 8, "{:?}", axis.ticks);
        let axis = decades(40.0, 5_000.0, "", |value| value.to_string());
        let ends: Vec<_> = axis.ticks.iter().map(|(value, _)| *value).collect();
        assert_eq!(ends, [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((percentiles().place)(99.0) > (percentiles().place)(90.0));
    }
}
