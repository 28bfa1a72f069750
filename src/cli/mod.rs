//! The command line: one file or folder a command, and what they share.

mod attributes;
mod backup;
mod bench;
mod client;
mod output;
mod problem;
mod publish;
mod serve;
mod subscribe;
mod topics;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::unless_closed;

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
    /// Print a topic's messages as they come.
    Sub(subscribe::Subscribe),
    /// Measure how fast a broker is, and check all it says.
    Bench(Box<bench::Bench>),
    /// Check a data directory, without changing it.
    Verify(verify::Verify),
    /// Write a consistent copy of a running broker's data into a file.
    Backup(backup::Backup),
    /// Make a data directory of a backup.
    Restore(backup::Restore),
}

/// An error in what the user asked for: exit code 2, where all others are 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Parses the command line, does what it says, and says how it went.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = actix_web::rt::System::new().block_on(async {
        match arguments.command {
            Command::Serve(serve) => serve.run().await,
            Command::Topics(topics) => unless_closed(topics.run().await),
            Command::Pub(publish) => publish.run().await,
            Command::Sub(subscribe) => unless_closed(subscribe.run().await),
            Command::Bench(bench) => bench.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Restore(restore) => restore.run().await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}
