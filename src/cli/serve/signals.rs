//! Signals of `weir serve`: SIGTERM and SIGINT stop it in order, SIGHUP is logged, and no other
//! signal that users or their scripts send ends it.
//!
//! SIGQUIT keeps its meaning (a core dump), and so do those that signal a fault of the program.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Signals whose default is to end the process, though they ask nothing of a broker (signal(7)): of
/// users, timers, accounting, descriptors and power. At SIGXFSZ the write that was too large fails,
/// and is handled like any failed write.
const IGNORED: [Signal; 10] = [
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
    Signal::STKFLT,
    Signal::XCPU,
    Signal::XFSZ,
];

/// Handles all signals; the returned future completes when the broker is to stop.
///
/// # Errors
/// The system refused a handler.
pub(super) fn take_over() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    for ignored in IGNORED {
        // The handler stays when its stream is dropped.
        drop(signal(SignalKind::from_raw(ignored.as_raw()))?);
    }
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => tracing::info!("SIGHUP: there is nothing to reload"),
            }
        }
    })
}
