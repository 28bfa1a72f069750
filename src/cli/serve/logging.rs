//! What `weir serve` logs, and in which format. [`crate::log`] writes the lines.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::cli::Usage;
use crate::log::{self, ToStderr};

/// The default of `WEIR_LOG`.
const LOG_FILTER: &str = "info,actix_server=warn,fjall=warn,lsm_tree=warn";
const VARIABLE: &str = "WEIR_LOG";

/// The format of logs.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Starts logging; panics are logged too, since the default report of one waits for standard error.
///
/// # Errors
/// `WEIR_LOG` is malformed.
pub(super) fn start(format: LogFormat) -> Result<(), Usage> {
    // A stage of a trace is logged when it ends, with the time it took.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter()?)
        .with_span_events(FmtSpan::CLOSE)
        // It would print its own errors to standard error, and wait for it.
        .log_internal_errors(false)
        .with_writer(ToStderr);
    log::start();
    match format {
        LogFormat::Text => subscriber.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn filter() -> Result<EnvFilter, Usage> {
    let refused = |what: &str| Usage(format!("environment variable {VARIABLE}: {what}"));
    let text = match std::env::var(VARIABLE) {
        Ok(text) if text.trim().is_empty() => {
            return Err(refused("is empty; unset it, or set it to a level, say `info`"));
        }
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => LOG_FILTER.to_owned(),
        Err(std::env::VarError::NotUnicode(_)) => return Err(refused("is not UTF-8")),
    };
    EnvFilter::builder().parse(&text).map_err(|error| refused(&format!("`{text}`: {error}")))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let what = match panic.payload().downcast_ref::<String>() {
        Some(what) => what.as_str(),
        None => panic.payload().downcast_ref::<&str>().copied().unwrap_or("no message"),
    };
    let (thread, at) = (std::thread::current(), panic.location().map(ToString::to_string));
    let (thread, at) = (thread.name().unwrap_or_default(), at.unwrap_or_default());
    // If RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, at, what, %backtrace, "panic"),
        _ => tracing::error!(thread, at, what, "panic"),
    }
}
