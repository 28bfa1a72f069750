//! The output of log lines: a bounded queue, and one thread that writes its lines to standard
//! error.
//!
//! Invariants: nothing that logs waits for standard error or fails because of it, whether it is
//! closed, a full disk or a pipe whose reader is stuck; a line that finds no room in the queue or
//! can't be written is dropped and counted ([`metrics::log_line_dropped`]); lines keep their order.
//! Only [`flush`] waits, and only as long as its caller asks.
//!
//! It never takes the lock of [`std::io::Stderr`]: a write that hangs would hold it, and with it
//! every other thread that prints.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

use crate::metrics;

/// Bytes that may wait to be written.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// How long a process that ends waits for its last lines to be written.
pub const FLUSH_MAX: Duration = Duration::from_millis(500);

static STDERR: OnceLock<Option<Outlet>> = OnceLock::new();

/// Starts the thread that writes; later calls do nothing.
pub fn start() {
    STDERR.get_or_init(|| {
        let mut torn = false;
        Outlet::start(move |line| {
            // The rest of a partly written line is lost: the next one begins anew.
            if std::mem::take(&mut torn) {
                write_all(io::stderr(), b"\n").inspect_err(|_| torn = true).map_err(|e| e.error)?;
            }
            write_all(io::stderr(), line).map_err(|stopped| {
                torn = stopped.written > 0;
                stopped.error
            })
        })
        // Without a thread every line is dropped, which is better than no broker.
        .ok()
    });
}

/// Hands one line over, with its line end.
pub fn line(line: &[u8]) {
    match STDERR.get() {
        Some(Some(outlet)) => outlet.line(line),
        _ => metrics::log_line_dropped(),
    }
}

/// Waits until all lines are written or dropped, but no longer than this.
pub fn flush(wait_max: Duration) {
    if let Some(Some(outlet)) = STDERR.get() {
        outlet.flush(wait_max);
    }
}

/// Makes [`Lines`] for `tracing_subscriber`.
#[derive(Clone, Copy, Debug)]
pub struct ToStderr;

/// Takes a whole line at each write, as `tracing_subscriber` passes it.
#[derive(Debug)]
pub struct Lines;

impl MakeWriter<'_> for ToStderr {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        Lines
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has a line in hand.
    writing: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    // Changed by single, complete steps: a panic leaves it valid.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.queue();
        queue.writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A queue and the thread behind it.
struct Outlet(Arc<Shared>);

impl Outlet {
    fn start(mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let written = shared.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || {
            loop {
                if write(&written.next_line()).is_err() {
                    metrics::log_line_dropped();
                }
            }
        })?;
        Ok(Self(shared))
    }

    fn line(&self, line: &[u8]) {
        let mut queue = self.0.queue();
        if queue.bytes + line.len() > QUEUE_BYTES_MAX {
            return metrics::log_line_dropped();
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_owned());
        self.0.changed.notify_all();
    }

    fn flush(&self, wait_max: Duration) {
        let begun = Instant::now();
        let mut queue = self.0.queue();
        while queue.writing || !queue.lines.is_empty() {
            let left = wait_max.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An incomplete write.
#[derive(Debug)]
pub struct WriteStopped {
    /// Bytes that were written before.
    pub written: usize,
    /// The system's error.
    pub error: io::Error,
}

/// Writes all of it, past the locks and buffers of [`std::io`]. Waits where a descriptor that is
/// set to non-blocking (by a process that shares it) has no room.
///
/// # Errors
/// The descriptor accepts no more.
pub fn write_all(to: impl AsFd, bytes: &[u8]) -> Result<(), WriteStopped> {
    let mut written = 0;
    let stopped = |written, error: Errno| WriteStopped { written, error: error.into() };
    while written < bytes.len() {
        match rustix::io::write(&to, &bytes[written..]) {
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                match poll(&mut [PollFd::new(&to, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(stopped(written, error)),
                };
            }
            Err(error) => return Err(stopped(written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (sender, written) = mpsc::channel();
        let outlet = Outlet::start(move |line| {
            sender.send(line.to_owned()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        let outlet = outlet.unwrap();
        for n in 0..100 {
            outlet.line(format!("{n}\n").as_bytes());
        }
        outlet.flush(Duration::from_secs(10));
        let lines: Vec<_> = written.try_iter().collect();
        assert_eq!(lines, (0..100).map(|n| format!("{n}\n").into_bytes()).collect::<Vec<_>>());
    }

    #[test]
    fn behind_a_write_that_hangs_lines_are_bounded_and_nothing_waits() {
        let (_held, release) = mpsc::channel::<()>();
        let outlet = Outlet::start(move |_| {
            let _ = release.recv();
            Ok(())
        });
        let outlet = outlet.unwrap();
        let line = [b'x'; 1_000];
        for _ in 0..5_000 {
            outlet.line(&line);
        }
        let queue = outlet.0.queue();
        assert!(queue.bytes > QUEUE_BYTES_MAX / 2 && queue.bytes <= QUEUE_BYTES_MAX);
        assert_eq!(queue.bytes, queue.lines.iter().map(Vec::len).sum::<usize>());
        drop(queue);
        // It returns, though nothing was written.
        outlet.flush(Duration::from_millis(20));
    }

    #[test]
    fn a_write_that_fails_costs_its_line_only() {
        let (sender, written) = mpsc::channel();
        let outlet = Outlet::start(move |line| {
            if line == b"bad\n" {
                return Err(io::ErrorKind::StorageFull.into());
            }
            sender.send(line.to_owned()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        let outlet = outlet.unwrap();
        for line in ["a\n", "bad\n", "b\n"] {
            outlet.line(line.as_bytes());
        }
        outlet.flush(Duration::from_secs(10));
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"a\n", b"b\n"]);
    }
}
