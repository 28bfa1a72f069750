//! Notices a store that hangs.
//!
//! fjall makes a writer wait while memtables are not written out, and waits for ever when the
//! worker that should write them has died (3.1.13: `Keyspace::local_backpressure` does not look at
//! the poison flag). So the writer records when it enters the store and when it is back, and a
//! thread of its own reports it when it stays away for too long.
//!
//! Invariant: it reports once, and never a writer that is not in the store.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the writer and the watching thread share.
#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    since: Option<Instant>,
    ended: bool,
}

impl Work {
    /// The process did not run for this long (SIGSTOP, say): the store had no time either.
    fn excuse(&mut self, late: Duration) {
        self.since = self.since.map(|since| (since + late).min(Instant::now()));
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Watchdog(Arc<Shared>);

/// The writer is in the store as long as this lives.
#[derive(Debug)]
pub(super) struct InStore<'a>(&'a Shared);

impl Watchdog {
    /// Calls `complain` when the writer has been in the store for `patience`.
    pub(super) fn start(
        patience: Duration,
        complain: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        std::thread::Builder::new().name("journal-watchdog".into()).spawn(move || {
            let mut work = watched.work();
            while !work.ended {
                let left = match work.since {
                    None => patience,
                    Some(since) => patience.saturating_sub(since.elapsed()),
                };
                if left.is_zero() {
                    drop(work);
                    return complain();
                }
                let begun = Instant::now();
                let waited = watched.ended.wait_timeout(work, left);
                work = waited.unwrap_or_else(PoisonError::into_inner).0;
                work.excuse(begun.elapsed().saturating_sub(left));
            }
        })?;
        Ok(Self(shared))
    }

    /// The writer enters the store.
    pub(super) fn enter(&self) -> InStore<'_> {
        self.0.work().since = Some(Instant::now());
        InStore(&self.0)
    }
}

impl Drop for InStore<'_> {
    fn drop(&mut self) {
        self.0.work().since = None;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.work().ended = true;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_writer_that_stays_in_the_store_is_complained_about() {
        let (complain, complained) = mpsc::channel();
        let patience = Duration::from_millis(20);
        let watchdog = Watchdog::start(patience, move || complain.send(()).unwrap()).unwrap();
        drop(watchdog.enter());
        let _stuck = watchdog.enter();
        complained.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn time_in_which_the_process_did_not_run_is_not_the_stores() {
        let since = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let mut work = Work { since: Some(since), ended: false };
        work.excuse(Duration::from_secs(60));
        let left = work.since.unwrap().elapsed().as_secs();
        assert!((40..50).contains(&left), "{left}");
        work.excuse(Duration::from_secs(3_600));
        assert!(work.since.unwrap() <= Instant::now());
    }

    #[test]
    fn a_writer_that_comes_back_or_stops_is_not() {
        let (complain, complained) = mpsc::channel::<()>();
        let watchdog =
            Watchdog::start(Duration::from_secs(3_600), move || complain.send(()).unwrap())
                .unwrap();
        drop(watchdog.enter());
        drop(watchdog);
        // Its thread ends and drops the channel silently.
        assert_eq!(complained.recv(), Err(mpsc::RecvError));
    }
}
