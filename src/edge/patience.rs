//! A time limit that counts only while the broker runs.
//!
//! A process that was stopped (SIGSTOP, a debugger) finds every deadline passed when it continues,
//! before it has read any input that arrived meanwhile. So the time is counted in parts, and a part
//! that took far longer than it should is not counted.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// Longest part.
const PART_MAX: Duration = Duration::from_secs(1);
/// How late a timer may be in a process that runs.
const LATE_MAX: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    /// Lasts this long.
    pub(super) fn new(limit: Duration) -> Self {
        Self { left: limit }
    }

    /// Waits for something; `None` when the time, of all waits together, is up.
    pub(super) async fn wait<T>(&mut self, awaited: impl Future<Output = T>) -> Option<T> {
        let mut awaited = pin!(awaited);
        loop {
            let part = self.left.min(PART_MAX);
            let begun = Instant::now();
            let done = timeout(part, awaited.as_mut()).await;
            let took = begun.elapsed();
            if took <= part + LATE_MAX {
                self.left = self.left.saturating_sub(took);
            }
            match done {
                Ok(done) => return Some(done),
                Err(_) if self.left.is_zero() => return None,
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{advance, pause, sleep};

    use super::*;

    #[tokio::test]
    async fn all_waits_together_take_no_longer_than_the_limit() {
        pause();
        let begun = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(10));
        assert_eq!(patience.wait(ready(1)).await, Some(1));
        assert_eq!(patience.wait(sleep(Duration::from_secs(6))).await, Some(()));
        assert_eq!(patience.wait(pending::<()>()).await, None);
        let took = begun.elapsed().as_secs_f64();
        assert!((9.9..10.2).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn a_pause_of_the_process_does_not_count() {
        pause();
        let mut patience = Patience::new(Duration::from_secs(3));
        // The clock jumps during a part, and the awaited event comes a second after that.
        let awaited = async {
            advance(Duration::from_secs(60)).await;
            sleep(Duration::from_secs(1)).await;
        };
        assert_eq!(patience.wait(awaited).await, Some(()));
        assert!(patience.left > Duration::from_secs(1), "{patience:?}");
    }
}
