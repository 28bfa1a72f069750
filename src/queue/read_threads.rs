//! Threads that wait for the disk on behalf of readers.
//!
//! Invariant: one of them lives for as long as the queue, made before clients come: where the system
//! gives no more threads, reads take turns.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::ReadError;
use crate::journal::JournalError;

/// A thread that has nothing to do stays for so long: as good as for ever.
const KEEP: Duration = Duration::from_secs(365 * 24 * 3600);

/// See the module.
pub(super) struct ReadThreads(Option<Runtime>);

impl ReadThreads {
    /// So many at most.
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

    /// Runs a read on one of them; to its end, though nothing may wait for it any more.
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
