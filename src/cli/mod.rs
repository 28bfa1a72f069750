//! The command line: one file or folder a command, and their shared parts.

mod attributes;
mod backup;
mod bench;
mod client;
mod output;
mod paths;
mod problem;
mod publish;
mod serve;
mod subscribe;
mod terminal;
mod topics;
mod verify;

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::unless_closed;
use crate::log;

/// weir, a message broker for the collection tier of streaming systems.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker.
    Serve(serve::Serve),
    /// List, show, create, change and delete topics.
    #[command(subcommand)]
    Topics(topics::Topics),
    /// Publish a message, files, or every line of standard input.
    Pub(publish::Publish),
    /// Print a topic's messages as they arrive.
    Sub(subscribe::Subscribe),
    /// Measure how fast a broker is, and check all its answers.
    Bench(Box<bench::Bench>),
    /// Check a data directory, without changing it.
    Verify(verify::Verify),
    /// Write a consistent copy of a running broker's data into a file.
    Backup(backup::Backup),
    /// Create a data directory from a backup.
    Restore(backup::Restore),
}

/// A usage error: exit code 2, where all others are 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Parses the command line, runs the command, and reports the result.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return answer(&error),
    };
    let done = actix_web::rt::System::new().block_on(async {
        match arguments.command {
            Command::Serve(serve) => serve.run().await,
            Command::Topics(topics) => topics.run().await,
            Command::Pub(publish) => publish.run().await,
            Command::Sub(subscribe) => subscribe.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Restore(restore) => restore.run().await,
        }
    });
    match unless_closed(done) {
        Ok(()) => {
            log::flush(log::FLUSH_MAX);
            ExitCode::SUCCESS
        }
        Err(error) => {
            last_words(&format!("weir: {error:#}\n"));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// The help that was asked for, or the error in the arguments.
fn answer(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && !stderr().is_terminal() {
        last_words(&error.render().to_string());
    } else {
        // With colours; the caller may have closed its output.
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Prints why the process ends. The exit code is right whether the text is read or not.
fn last_words(text: &str) {
    log::start();
    log::line(text.as_bytes());
    log::flush(log::FLUSH_MAX);
}
