//! What `weir serve` does on signals: SIGTERM and SIGINT stop it in order, SIGHUP is noted, and no
//! other signal that people or their scripts send ends it.
//!
//! SIGQUIT keeps its meaning (a core dump), and so do those that say the program is at fault.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Signals whose default is to end the process, by their numbers on Linux (signal(7)): timers,
/// accounting and descriptors that are ready, which ask nothing of a broker. At SIGXFSZ the write that was too
/// large fails, and that is answered as any write that fails.
#[cfg(target_os = "linux")]
const IGNORED: [(&str, i32); 7] = [
    ("SIGSTKFLT", 16),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGIO", 29),
    ("SIGPWR", 30),
];
/// Numbers differ from system to system.
#[cfg(not(target_os = "linux"))]
const IGNORED: [(&str, i32); 0] = [];

/// Takes all signals over; what it returns completes when the broker is to stop.
///
/// # Errors
/// The system refused a handler.
pub(super) fn take_over() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()] {
        // The handler stays when its stream is dropped.
        drop(signal(kind)?);
    }
    for (name, number) in IGNORED {
        if let Err(error) = signal(SignalKind::from_raw(number)) {
            tracing::debug!(name, %error, "a signal can't be ignored");
        }
    }
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => tracing::info!("SIGHUP: there is nothing to read again"),
            }
        }
    })
}
