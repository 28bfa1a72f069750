//! `weir bench`: how fast a broker is, measured from outside and checked.
//!
//! Clients are processes of their own ([`client`]); they time every message, check everything they
//! receive, and fail the measurement if it differs from what was sent. In a closed loop a message
//! is timed from when it is written; in an open loop (`--rate`) from when it was due, written or
//! not, so that a stall counts for every message it delays (Tene's "coordinated omission").

mod bare;
mod client;
mod measure;
mod payload;
mod plan;
mod process;
mod report;
mod server;
mod settings;
mod tally;
mod topics;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Url;

use self::measure::{Measurement, Outcome};
use self::server::OwnServer;
use self::settings::{Settings, Workload};
use super::Usage;
use super::output::print;
use super::paths::is_standard;

#[derive(Args)]
pub(super) struct Bench {
    #[command(flatten)]
    settings: Settings,
    /// Measure a broker of its own, in a temporary directory, instead of the one at --server
    #[arg(long = "self")]
    own: bool,
    /// Where --self keeps its temporary directory: a real disk, for syncs to be meaningful
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The broker
    #[arg(long, env = "WEIR_SERVER", default_value = "http://127.0.0.1:7077", value_name = "URL")]
    server: Url,
    /// Its process, if it runs on this machine: CPU, memory and writes are shown too
    #[arg(long)]
    pid: Option<u32>,
    /// How often everything is measured, on fresh topics; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// Compare publishing over HTTP with a bare server that only reads the body, measured in turn
    #[arg(long)]
    beside_bare: bool,
    /// Leave the topics in place
    #[arg(long)]
    keep: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write a page with the figures and their curves; to standard output, with `-`, in place of
    /// the text
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Bench {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        tokio::select! {
            done = self.work() => done,
            // Servers started here end, and their directories are removed.
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                bail!("interrupted")
            }
        }
    }

    async fn work(&self) -> anyhow::Result<()> {
        match self.settings.workload {
            Workload::Client => return tokio::task::LocalSet::new().run_until(client::run()).await,
            Workload::Bare => return bare::run().await,
            _ => {}
        }
        if self.json && self.html.as_deref().is_some_and(is_standard) {
            return Err(Usage("--json and `--html -` both go to standard output".into()).into());
        }
        if self.beside_bare && !self.settings.is_http_publish() {
            return Err(Usage("--beside-bare goes with `publish --protocol http`".into()).into());
        }
        let own = match self.own {
            true => {
                let serve = ["serve", "--listen", "127.0.0.1:0", "--data", "{}"];
                Some(OwnServer::start(&serve, &self.dir).await?)
            }
            false => None,
        };
        let bare = match self.beside_bare {
            true => Some(OwnServer::start(&["bench", "bare"], &self.dir).await?),
            false => None,
        };
        let (address, pid) = match &own {
            Some(own) => (own.address.clone(), own.pid()),
            None => (self.address()?, self.pid),
        };
        let mut measurements = vec![self.settings.measurement(address, pid, self.keep)?];
        if let Some(bare) = &bare {
            let mut beside = self.settings.measurement(bare.address.clone(), bare.pid(), true)?;
            beside.bare = true;
            measurements.push(beside);
        }
        let outcomes = self.measure_all(&measurements).await?;
        for server in own.into_iter().chain(bare) {
            server.stop().await?;
        }
        let named: Vec<_> = ["weir", "bare server"].into_iter().zip(outcomes).collect();
        let report = report::Report::new(&self.settings, &named);
        ensure!(!report.is_empty(), "nothing was done in the measured time");
        match &self.html {
            Some(file) if is_standard(file) => return print([report.html()]),
            Some(file) => {
                std::fs::write(file, report.html()).with_context(|| file.display().to_string())?;
            }
            None => {}
        }
        print([if self.json { report.json()? } else { report.text() }])
    }

    fn address(&self) -> anyhow::Result<String> {
        let host = self.server.host_str().filter(|_| self.server.scheme() == "http");
        let host = host.ok_or_else(|| Usage("--server must be http://ADDR:PORT".into()))?;
        Ok(format!("{host}:{}", self.server.port_or_known_default().unwrap_or(80)))
    }

    /// Every measurement's repetitions; the measurements take turns, so that other activity of the
    /// machine affects them all.
    async fn measure_all(&self, all: &[Measurement]) -> anyhow::Result<Vec<Vec<Outcome>>> {
        let mut outcomes: Vec<_> = all.iter().map(|_| Vec::new()).collect();
        for repetition in 1..=usize::from(self.repeat) {
            for (measurement, outcomes) in all.iter().zip(&mut outcomes) {
                let bar = self.bar(measurement, repetition);
                let outcome = measurement.run(repetition, &|more| bar.inc(more)).await;
                bar.finish_and_clear();
                outcomes.push(outcome?);
            }
        }
        Ok(outcomes)
    }

    /// A progress bar, if standard error is a terminal.
    fn bar(&self, measurement: &Measurement, repetition: usize) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let name = if measurement.bare { "bare server" } else { "weir" };
        let bar = ProgressBar::new_spinner()
            .with_prefix(format!("{name}, repetition {repetition} of {}", self.repeat));
        let style = "{spinner} {prefix}: {human_pos} messages, {per_sec} [{elapsed}]";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}
