//! An open loop's clock: wakes each connection when its next frame is due.
//!
//! The runtime's timers are exact to a millisecond and round up, which would be part of every time
//! measured; so a thread sleeps for the connections, exact to some 50 µs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cli::bench::payload::now_ns;

/// No connection is woken more often; what is due in between goes out together, each message with
/// its own due time.
const WAKE_NS_MIN: u64 = 1_000_000;

/// When one connection's messages are due.
#[derive(Clone)]
pub(super) struct Schedule {
    begin_ns: u64,
    period_ns: f64,
    wake: Arc<Notify>,
}

impl Schedule {
    /// When the connection's `number`th message is due, from 0.
    pub(super) fn due_ns(&self, number: u64) -> u64 {
        self.begin_ns + (number as f64 * self.period_ns) as u64
    }

    /// Waits for the next time something may be due.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// Wakes schedules until it is dropped.
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Schedules of `connections` that send `batch` messages at a time, `rate` messages a second each,
/// one after the other within a period.
pub(super) fn schedules(
    connections: usize,
    batch: usize,
    rate: f64,
    begin_ns: u64,
) -> std::io::Result<(Vec<Schedule>, Pacer)> {
    let period_ns = 1e9 / rate;
    let between_ns = ((period_ns * batch as f64) as u64).max(WAKE_NS_MIN);
    let schedules: Vec<_> = (0..connections)
        .map(|n| Schedule {
            begin_ns: begin_ns + between_ns * n as u64 / connections as u64,
            period_ns,
            wake: Arc::default(),
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut heap: BinaryHeap<_> =
        schedules.iter().enumerate().map(|(n, one)| Reverse((one.begin_ns, n))).collect();
    let wakes: Vec<_> = schedules.iter().map(|schedule| schedule.wake.clone()).collect();
    let stopped = stop.clone();
    std::thread::Builder::new().name("pacer".into()).spawn(move || {
        while let Some(Reverse((at, n))) = heap.pop() {
            let ahead = at.saturating_sub(now_ns());
            if ahead > 0 {
                std::thread::sleep(Duration::from_nanos(ahead));
            }
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            wakes[n].notify_one();
            heap.push(Reverse((at + between_ns, n)));
        }
    })?;
    Ok((schedules, Pacer { stop }))
}
