//! `weir serve`

mod logging;
mod signals;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use self::logging::LogFormat;
use super::Usage;
use super::paths::{check_stdin, directory, is_standard};
use crate::broker;
use crate::config::Config;
use crate::log;

/// Settings file used by default, if it exists.
const CONFIG_FILE: &str = "broker.toml";
/// Standard input as a path.
const STDIN: &str = "/dev/stdin";

#[derive(Args)]
pub(super) struct Serve {
    /// Settings file, `-` for standard input [default: broker.toml, if it exists here]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Data directory
    #[arg(long, value_name = "DIR", value_parser = directory())]
    data: Option<PathBuf>,
    /// Listen on an address that other machines can reach, though nothing is encrypted or
    /// authenticated
    #[arg(long)]
    insecure: bool,
    /// The format of logs on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        // Before anything else starts, so that every signal has a handler.
        let stop = signals::take_over()?;
        logging::start(self.log_format)?;
        let config = self.settings()?;
        broker::run(config, announce, stop).await
    }

    fn settings(&self) -> anyhow::Result<Config> {
        let found = Path::new(CONFIG_FILE);
        let file = self.config.as_deref().or_else(|| found.exists().then_some(found));
        let file = match file {
            Some(file) if is_standard(file) => {
                check_stdin("--config")?;
                Some(Path::new(STDIN))
            }
            file => file,
        };
        let environment = environment()?;
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
}

/// Variables that are text; one of weir's that is not is refused, since its default would replace
/// it.
fn environment() -> Result<Vec<(String, String)>, Usage> {
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => environment.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with(Config::ENVIRONMENT_PREFIX) => {
                return Err(Usage(format!("environment variable {name}: is not UTF-8")));
            }
            _ => {}
        }
    }
    Ok(environment)
}

/// Prints where clients can connect. Standard output may be closed, or a full pipe that is not
/// read: a separate thread waits for it, and the broker does not.
fn announce(address: SocketAddr) {
    let line = format!("weir listening on http://{address}\n");
    let write = move || {
        if let Err(log::WriteStopped { error, .. }) =
            log::write_all(std::io::stdout(), line.as_bytes())
        {
            tracing::warn!(%error, "standard output does not take the first line");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("first-line".into()).spawn(write) {
        tracing::error!(%error, %address, "no thread for the first line on standard output");
    }
}
