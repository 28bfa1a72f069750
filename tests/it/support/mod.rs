//! What the tests share.

pub mod broker;
pub mod history;
pub mod load;
pub mod socket;

use std::time::{Duration, Instant};

/// Asks again and again, until the answer is yes; panics with `what` after ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let start = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !ask().await {
        assert!(start.elapsed() < Duration::from_secs(10), "still not so after 10 s: {what}");
        pace.tick().await;
    }
}
