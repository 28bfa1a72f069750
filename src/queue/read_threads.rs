//! Threads that wait for the disk on behalf of readers.
//!
//! Invariant: at least one of them lives for as long as the queue, made before clients connect: if
//! the system gives no more threads, reads take turns.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::ReadError;
use crate::journal::JournalError;

/// How long an idle thread stays: practically for ever.
const KEEP: Duration = Duration::from_secs(365 * 24 * 3600);

/// See the module.
pub(super) struct ReadThreads(Option<Runtime>);

impl ReadThreads {
    /// At most N threads.
    ///
    /// # Errors
    /// The system gives not even one.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(count)
            .thread_keep_alive(KEEP)
            .thread_name("read")
            .build()?;
        let (told, first) = mpsc::channel();
        runtime.spawn_blocking(move || told.send(()));
        first.recv().map_err(io::Error::other)?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a read on one of them; to its end, even if its caller has gone.
    ///
    /// # Errors
    /// Those of the read.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let failed = |what: &str| JournalError::Metadata(what.into()).into();
        let Some(runtime) = &self.0 else { return Err(failed("no read is made any more")) };
        runtime.spawn_blocking(read).await.unwrap_or_else(|_| Err(failed("a read panicked")))
    }
}

impl Drop for ReadThreads {
    fn drop(&mut self) {
        // A runtime may not wait for its threads within another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
