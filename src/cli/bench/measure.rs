//! One repetition of a measurement, from creating its topics to its results.

use std::time::Duration;

use anyhow::ensure;
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::client::Word;
use super::plan::{Plan, Pollers, Producers};
use super::process::Client;
use super::server::Usage;
use super::tally::Tally;
use super::topics::Topics;

/// Settings that are the same in every repetition.
pub(super) struct Measurement {
    /// For one process; topics and seed are filled in.
    pub(super) plan: Plan,
    pub(super) processes: usize,
    pub(super) topics: usize,
    pub(super) ack_level: String,
    /// Messages stored before pollers begin, by topic.
    pub(super) preloaded: u64,
    /// The server's process, if it runs on this machine.
    pub(super) pid: Option<u32>,
    /// Topics stay.
    pub(super) keep: bool,
    /// No broker: it has no topics, and nothing is stored.
    pub(super) bare: bool,
}

/// The results of one repetition.
pub(super) struct Outcome {
    pub(super) acknowledged: Tally,
    pub(super) delivered: Tally,
    pub(super) polled: Tally,
    pub(super) pages: Tally,
    /// What the server's process used in the measured time, and its largest resident size.
    pub(super) usage: Option<Usage>,
    pub(super) seconds: f64,
}

impl Measurement {
    /// Measures once. `progress` is called with every completed message.
    pub(super) async fn run(
        &self,
        repetition: usize,
        progress: &dyn Fn(u64),
    ) -> anyhow::Result<Outcome> {
        let topics = match self.bare {
            true => None,
            false => Some(Topics::make(&self.plan.address, self.topics, &self.ack_level).await?),
        };
        let mut plan = self.plan.clone();
        plan.topics = match &topics {
            Some(topics) => topics.names.clone(),
            None => vec!["bare".into()],
        };
        plan.seed = (repetition as u64) << 20;
        let mut stored = vec![0; plan.topics.len()];
        if self.preloaded > 0 {
            add(&mut stored, &preload(&plan, self.preloaded).await?);
        }
        let plans = (0..self.processes).map(|process| {
            let seed = plan.seed + ((process as u64 + 1) << 14);
            Client::start(Plan { seed, process, ..plan.clone() })
        });
        let mut clients = try_join_all(plans).await?;
        for client in &mut clients {
            client.tell(&Word::Go).await?;
        }
        let usage = self.usage();
        let produced = try_join_all(clients.iter_mut().map(|client| client.produced(progress)));
        let (usage, produced) = tokio::join!(usage, produced);
        for topics in produced? {
            add(&mut stored, &topics);
        }
        if let Some(topics) = &topics {
            let heads = topics.heads().await?;
            ensure!(heads == stored, "acknowledged {stored:?} messages, and stored are {heads:?}");
        }
        let outcome = self.collect(&mut clients, stored, usage).await?;
        if let (Some(topics), false) = (&topics, self.keep) {
            topics.delete().await?;
        }
        Ok(outcome)
    }

    async fn collect(
        &self,
        clients: &mut [Client],
        heads: Vec<u64>,
        usage: Option<Usage>,
    ) -> anyhow::Result<Outcome> {
        let ns = self.plan.measured_ms * 1_000_000;
        let tally = || Tally::new(0, ns, false);
        let mut outcome = Outcome {
            acknowledged: tally(),
            delivered: tally(),
            polled: tally(),
            pages: tally(),
            usage,
            seconds: ns as f64 / 1e9,
        };
        for client in clients {
            client.tell(&Word::Heads(heads.clone())).await?;
            let found = client.found().await?;
            found.acknowledged.add_to(&mut outcome.acknowledged);
            found.delivered.add_to(&mut outcome.delivered);
            found.polled.add_to(&mut outcome.polled);
            found.pages.add_to(&mut outcome.pages);
        }
        Ok(outcome)
    }

    /// The server's use in the measured time.
    async fn usage(&self) -> Option<Usage> {
        let pid = self.pid?;
        sleep(Duration::from_millis(self.plan.warm_up_ms)).await;
        let before = Usage::of(pid)?;
        sleep(Duration::from_millis(self.plan.measured_ms)).await;
        let after = Usage::of(pid)?;
        Some(Usage {
            cpu_s: after.cpu_s - before.cpu_s,
            written_bytes: after.written_bytes - before.written_bytes,
            ..after
        })
    }
}

/// Publishes N messages to each topic.
async fn preload(plan: &Plan, messages: u64) -> anyhow::Result<Vec<u64>> {
    let batch = if plan.producers.protocol.is_one_by_one() { 1 } else { 64 };
    let producers = Producers {
        connections: plan.topics.len(),
        batch,
        in_flight: 4_096,
        rate: None,
        until_delivered: false,
        by_lot: false,
        messages_max: Some(messages),
        ..plan.producers.clone()
    };
    let pollers = Pollers { connections: 0, ..plan.pollers.clone() };
    let (warm_up_ms, measured_ms) = (0, 600_000);
    let plan = Plan { producers, pollers, tails: 0, warm_up_ms, measured_ms, ..plan.clone() };
    let mut client = Client::start(plan).await?;
    client.tell(&Word::Go).await?;
    let produced = client.produced(|_| {}).await?;
    client.tell(&Word::Heads(produced.clone())).await?;
    client.found().await?;
    Ok(produced)
}

fn add(all: &mut [u64], more: &[u64]) {
    for (one, more) in all.iter_mut().zip(more) {
        *one += more;
    }
}
