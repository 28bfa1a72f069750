//! Five topics under load, two at level `sync`, two at level `os`, one that keeps little; three
//! producers of different kinds each, and the history of every topic through all crashes.
//!
//! A cycle is always: start, read and check everything, load, the fault, gather the producers'
//! records. Nothing is published between a start and the reading after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::broker::{Broker, PATIENCE};
use crate::client::Client;
use crate::control::{Control, Pace, Told};
use crate::history::{History, Violation};
use crate::producers::{Kind, Producer};

/// What a sync may take on top of the interval after which it is due.
const SYNC_SLACK: Duration = Duration::from_millis(1_500);
/// The limit of the topic that keeps little.
const RETENTION_BYTES: u64 = 256 * 1024;
const KINDS: [Kind; 3] = [Kind::SendsOnce, Kind::MessageIds, Kind::Named];

struct Topic {
    name: String,
    /// `None` at level `sync`.
    sync_interval: Option<Duration>,
    /// `None` if everything is kept.
    retention_bytes: Option<u64>,
    history: History,
    producers: Vec<Producer>,
}

/// See the module.
pub struct Workload {
    topics: Vec<Topic>,
    /// Features that this broker does not have yet: that part of the load is skipped.
    pub missing: BTreeSet<&'static str>,
}

/// Producers at work.
pub struct Running {
    pub control: Control,
    started: usize,
    tasks: Vec<(usize, JoinHandle<(Producer, Told)>)>,
}

/// Which topics get load in a cycle.
#[derive(Clone, Copy, Debug)]
enum Busy {
    All,
    /// No sync of another topic's takes these along.
    OnlyOs,
    OnlySync,
}

impl Workload {
    pub fn new(random: &mut StdRng) -> Self {
        let mut number = 0;
        let mut topic = |name: &str, sync_interval: Option<u64>| {
            let mut producer = |kind| {
                number += 1;
                Producer::new(name, number, kind)
            };
            Topic {
                name: name.to_owned(),
                sync_interval: sync_interval.map(Duration::from_millis),
                retention_bytes: None,
                history: History::default(),
                producers: KINDS.map(&mut producer).into(),
            }
        };
        let mut topics = vec![
            topic("sync.one", None),
            topic("sync.two", None),
            topic("os.one", Some(random.random_range(20..200))),
            topic("os.two", Some(random.random_range(200..=1_000))),
            topic("sync.little", None),
        ];
        if let Some(little) = topics.last_mut() {
            little.retention_bytes = Some(RETENTION_BYTES);
            little.history = History::with_retention();
        }
        Self { topics, missing: BTreeSet::new() }
    }

    /// Creates the topics on a new directory.
    pub async fn create(&mut self, broker: &Broker) -> anyhow::Result<()> {
        let client = Client::new(&broker.address)?;
        for topic in &self.topics {
            let mut settings = match topic.sync_interval {
                None => json!({ "ack_level": "sync" }),
                Some(interval) => {
                    json!({ "ack_level": "os", "sync_interval_ms": interval.as_millis() as u64 })
                }
            };
            if let Some(bytes) = topic.retention_bytes {
                settings["retention_bytes"] = bytes.into();
            }
            let (status, said) = client.put_topic(&topic.name, &settings).await?;
            if status != 201 {
                bail!("{} is not created: {status} {said}", topic.name);
            }
        }
        if !client.knows_message_ids("probe").await? {
            self.missing.insert("no deduplication by message_id here");
            let producers = self.topics.iter_mut().flat_map(|topic| &mut topic.producers);
            producers.for_each(Producer::forget_message_ids);
        }
        Ok(())
    }

    /// Reads everything and returns what is wrong with it.
    pub async fn check(&mut self, broker: &Broker) -> anyhow::Result<Vec<String>> {
        let client = Client::new(&broker.address)?;
        let mut wrong = Vec::new();
        for topic in &mut self.topics {
            let (reading, outcome) = client.read(&topic.name).await;
            if let Err(error) = outcome {
                wrong.push(format!("{}: {error:#}", topic.name));
                continue;
            }
            topic.history.read(reading, Instant::now());
            let violations = summary(&topic.history.violations());
            wrong.extend(violations.iter().map(|violation| format!("{}: {violation}", topic.name)));
            topic.history.settle();
        }
        Ok(wrong)
    }

    /// Sets producers to work, at random paces, in all or some topics.
    pub fn start(&mut self, broker: &Broker, random: &mut StdRng) -> Running {
        let busy = match random.random_range(0..4) {
            0 => Busy::OnlyOs,
            1 => Busy::OnlySync,
            _ => Busy::All,
        };
        let control = Control::default();
        let mut tasks = Vec::new();
        for (n, topic) in self.topics.iter_mut().enumerate() {
            let idle = match busy {
                Busy::All => false,
                Busy::OnlyOs => topic.sync_interval.is_none(),
                Busy::OnlySync => topic.sync_interval.is_some(),
            };
            if idle {
                continue;
            }
            for producer in topic.producers.drain(..) {
                let pace = Pace {
                    in_flight: random.random_range(1..200),
                    burst: random.random_range(1..12),
                    every: Duration::from_millis(random.random_range(2..12)),
                };
                let work = producer.run(broker.address.clone(), pace, control.clone());
                tasks.push((n, tokio::spawn(work)));
            }
        }
        Running { control, started: tasks.len(), tasks }
    }

    /// Takes back the producers, with their results.
    pub async fn gather(&mut self, running: Running) -> Gathered {
        let mut gathered = Gathered::default();
        for (n, task) in running.tasks {
            let Ok((producer, told)) = task.await else {
                gathered.complaints.push("a producer of the harness panicked".into());
                continue;
            };
            let topic = &mut self.topics[n];
            topic.history.merge(told.history);
            topic.producers.push(producer);
            gathered.complaints.extend(told.complaints);
            gathered.broken += usize::from(told.broke.is_some());
            gathered.why_broken = told.broke.or(gathered.why_broken);
        }
        let named = |topic: &Topic| topic.producers.iter().any(Producer::is_named);
        if !self.topics.iter().all(named) {
            self.missing.insert("no named producers here");
        }
        gathered
    }

    /// The power was cut at this moment.
    pub fn power_cut(&mut self, at: Instant) {
        for topic in &mut self.topics {
            let bound = topic.sync_interval.map(|interval| interval + SYNC_SLACK);
            topic.history.power_cut(at, bound);
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.topics.iter().map(|topic| topic.history.acknowledged_count()).sum()
    }

    pub fn trimmed(&self) -> u64 {
        self.topics.iter().map(|topic| topic.history.trimmed_count()).sum()
    }

    pub fn lost(&self) -> usize {
        self.topics.iter().map(|topic| topic.history.lost_count()).sum()
    }
}

/// Every kind of violation once, with the first one and how many there are.
pub fn summary(violations: &[Violation]) -> Vec<String> {
    let mut kinds: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for violation in violations {
        let whole = format!("{violation:?}");
        let kind = whole.split(' ').next().unwrap_or_default().to_owned();
        kinds.entry(kind).or_insert((whole, 0)).1 += 1;
    }
    let written = |(first, count): &(String, usize)| match count {
        1 => first.clone(),
        _ => format!("{first} and {} more of the kind", count - 1),
    };
    kinds.values().map(written).collect()
}

/// The producers' results of one cycle, besides the histories.
#[derive(Default)]
pub struct Gathered {
    pub complaints: Vec<String>,
    /// Connections that ended early.
    pub broken: usize,
    pub why_broken: Option<String>,
}

impl Running {
    /// Waits until that many messages are acknowledged; fails if that never happens.
    pub async fn acknowledged(&self, count: u64) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        while self.control.acknowledged() < count {
            if start.elapsed() > PATIENCE || self.tasks.iter().all(|(_, task)| task.is_finished()) {
                let got = self.control.acknowledged();
                let producers = self.started;
                bail!("{producers} producers have got {got} acknowledgements instead of {count}");
            }
            pace.tick().await;
        }
        Ok(())
    }
}
