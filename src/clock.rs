//! The only source of time.
//!
//! Only the broker's composition root makes a [`Clock`]; other parts receive one, so that tests can
//! substitute another.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Gives wall-clock time, and uptime, which can't be set. Cloning shares the sources.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// A clock with wall-clock time of the caller's making.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let made = Instant::now();
        Self { now: Arc::new(now), uptime: Arc::new(move || made.elapsed()) }
    }

    /// The same clock with an uptime of the caller's making.
    pub fn with_uptime(self, uptime: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { uptime: Arc::new(uptime), ..self }
    }

    /// The time now. It may run backwards, or jump, when the machine's clock is set.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// How long the clock has existed. Never runs backwards, whatever the machine's clock does.
    pub fn uptime(&self) -> Duration {
        (self.uptime)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
