//! `weir serve`

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::Usage;
use crate::broker;
use crate::config::Config;

/// Settings file that is used when none is named and it is there.
const CONFIG_FILE: &str = "broker.toml";
/// What is logged where `WEIR_LOG` says nothing else.
const LOG_FILTER: &str = "info,actix_server=warn,fjall=warn,lsm_tree=warn";

#[derive(Args)]
pub(super) struct Serve {
    /// Settings file [default: broker.toml, if there is one here]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen on an address that others can reach, though nothing is encrypted or authenticated
    #[arg(long)]
    insecure: bool,
    /// How logs are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        self.log();
        let config = self.settings()?;
        // Before anything starts, so that no signal finds us without a handler.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let listening = |address| {
            let mut out = std::io::stdout();
            // Who started us may not read it.
            let _ = writeln!(out, "weir listening on http://{address}").and_then(|()| out.flush());
        };
        broker::run(config, listening, stop).await
    }

    fn settings(&self) -> anyhow::Result<Config> {
        let found = Path::new(CONFIG_FILE);
        let file = self.config.as_deref().or_else(|| found.exists().then_some(found));
        // A variable that is no text is none of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
        let mut config = Config::load(file, environment).map_err(|e| Usage(e.to_string()))?;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        if let Some(data) = &self.data {
            config.storage.path.clone_from(data);
        }
        let listen = config.server.listen;
        if !listen.ip().is_loopback() && !self.insecure {
            let why = format!(
                "{listen} can be reached by others, and nothing is encrypted or authenticated: \
                 listen on a loopback address, or give --insecure"
            );
            return Err(Usage(why).into());
        }
        Ok(config)
    }

    fn log(&self) {
        let filter =
            EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
        // A stage of a trace is told of when it ends, with the time it took.
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
            LogFormat::Json => log.json().init(),
        }
    }
}
