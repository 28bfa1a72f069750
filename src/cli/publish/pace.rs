//! `--rate`: messages evenly spaced.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How far messages may be behind their time and still catch up. Timers are not exact to less than
/// a few milliseconds, and after a pause in the input there must be no burst: tokio's interval
/// supports only one of the two.
const BEHIND_MAX: Duration = Duration::from_millis(20);

/// Reads a rate in messages a second.
pub(super) fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1_000_000.0).contains(rate));
    rate.ok_or("must be messages a second, 0.001 to 1000000")
}

/// When messages are due.
pub(super) struct Pace {
    period: Duration,
    due: Instant,
}

impl Pace {
    /// A [`rate`].
    pub(super) fn new(rate: f64) -> Self {
        Self { period: Duration::from_secs_f64(1.0 / rate), due: Instant::now() }
    }

    /// Waits until the next message is due.
    pub(super) async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// A message was sent.
    pub(super) fn sent(&mut self) {
        let now = Instant::now();
        let earliest = now.checked_sub(BEHIND_MAX).unwrap_or(now);
        self.due = self.due.max(earliest) + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rate_is_refused() {
        for bad in ["0", "-1", "NaN", "inf", "1e-300", "fast", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(100.0);
        let start = pace.due;
        pace.sent();
        assert_eq!(pace.due, start + Duration::from_millis(10));
        pace.due = start.checked_sub(Duration::from_secs(1)).unwrap();
        pace.sent();
        assert!(pace.due + BEHIND_MAX >= start + Duration::from_millis(10));
    }
}
