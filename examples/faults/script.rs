//! A load that is the same every time: topics are created, filled in turn over HTTP, and one is deleted.
//!
//! It ends early when the broker does; its progress is known then. A topic whose creation or
//! deletion was requested and not answered may exist or not; if it exists it is complete.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::client::Client;
use crate::history::{History, Reading, payload};
use crate::workload::summary;

/// The progress of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unasked,
    Asked,
    Exists,
    DeletionAsked,
    Deleted,
}

/// One topic and what is known of it.
#[derive(Clone)]
pub struct ScriptTopic {
    pub name: &'static str,
    settings: Value,
    producer: u64,
    next: u64,
    fate: Fate,
    pub history: History,
}

/// See the module.
#[derive(Clone)]
pub struct Script {
    pub topics: Vec<ScriptTopic>,
    batches: u64,
    batch_messages: u64,
    /// Why it ended early, if it did.
    pub ended: Option<String>,
}

/// A topic that only this script has; deleted in its middle.
const SHORT_LIVED: &str = "script.gone";

/// The interval at level `os`, and what a sync may take on top of it.
const SYNC_INTERVAL_MS: u64 = 20;
const LOSS_BOUND: Duration = Duration::from_millis(SYNC_INTERVAL_MS + 1_500);

impl Script {
    /// N batches for each topic, M messages in each.
    pub fn new(batches: u64, batch_messages: u64) -> Self {
        let sync = json!({ "ack_level": "sync" });
        let os = json!({ "ack_level": "os", "sync_interval_ms": SYNC_INTERVAL_MS });
        let named = [("script.sync", sync.clone()), ("script.os", os), (SHORT_LIVED, sync)];
        let topics = (1..).zip(named);
        let topics =
            topics.map(|(producer, (name, settings))| ScriptTopic::new(name, settings, producer));
        Self { topics: topics.collect(), batches, batch_messages, ended: None }
    }

    /// One topic with these settings, and little in it.
    pub fn one(name: &'static str, settings: Value) -> Self {
        let topics = vec![ScriptTopic::new(name, settings, 1)];
        Self { topics, batches: 1, batch_messages: 20, ended: None }
    }

    /// Runs the script once, as far as the broker allows. Existing topics are filled further.
    pub async fn run(&mut self, broker: &Broker) {
        self.ended = self.steps(broker).await.err().map(|error| format!("{error:#}"));
    }

    async fn steps(&mut self, broker: &Broker) -> anyhow::Result<()> {
        let client = Client::new(&broker.address)?;
        let new = self.topics.iter_mut().filter(|topic| topic.fate == Fate::Unasked);
        for topic in new {
            topic.fate = Fate::Asked;
            let (status, said) = client.put_topic(topic.name, &topic.settings).await?;
            anyhow::ensure!(status == 201, "creating {} answers {status}: {said}", topic.name);
            topic.fate = Fate::Exists;
        }
        for batch in 0..self.batches {
            for topic in self.topics.iter_mut().filter(|topic| topic.fate == Fate::Exists) {
                topic.publish(&client, self.batch_messages).await?;
                if topic.name == SHORT_LIVED && batch == self.batches / 2 {
                    topic.fate = Fate::DeletionAsked;
                    let status = client.delete_topic(topic.name).await?;
                    anyhow::ensure!(status == 204, "{} is not deleted: {status}", topic.name);
                    topic.fate = Fate::Deleted;
                }
            }
        }
        Ok(())
    }

    /// Reads everything and returns what is wrong with it.
    pub async fn check(&mut self, broker: &Broker) -> anyhow::Result<Vec<String>> {
        let client = Client::new(&broker.address)?;
        let mut wrong = Vec::new();
        for topic in &mut self.topics {
            let there = client.topic(topic.name).await?.is_some();
            let (must, may) = match topic.fate {
                Fate::Unasked | Fate::Deleted => (false, false),
                Fate::Exists => (true, true),
                Fate::Asked | Fate::DeletionAsked => (false, true),
            };
            match there {
                true if !may => wrong.push(format!("{} exists: {:?}", topic.name, topic.fate)),
                false if must => wrong.push(format!("{} is gone", topic.name)),
                false => topic.history = History::default(),
                true => {
                    let (reading, outcome) = client.read(topic.name).await;
                    wrong.extend(outcome.err().map(|error| format!("{}: {error:#}", topic.name)));
                    let violations = topic.judge(reading);
                    wrong.extend(violations.iter().map(|what| format!("{}: {what}", topic.name)));
                }
            }
        }
        Ok(wrong)
    }

    /// The power was cut at this moment.
    pub fn power_cut(&mut self, at: Instant) {
        for topic in &mut self.topics {
            let bound = (topic.settings["ack_level"] == "os").then_some(LOSS_BOUND);
            topic.history.power_cut(at, bound);
        }
    }

    pub fn lost(&self) -> usize {
        self.topics.iter().map(|topic| topic.history.lost_count()).sum()
    }

    /// Topics that must exist.
    pub fn existing(&mut self) -> impl Iterator<Item = &mut ScriptTopic> {
        self.topics.iter_mut().filter(|topic| topic.fate == Fate::Exists)
    }

    pub fn acknowledged(&self) -> usize {
        self.topics.iter().map(|topic| topic.history.acknowledged_count()).sum()
    }
}

impl ScriptTopic {
    fn new(name: &'static str, settings: Value, producer: u64) -> Self {
        let (fate, history) = (Fate::Unasked, History::default());
        Self { name, settings, producer, next: 1, fate, history }
    }

    fn judge(&mut self, reading: Reading) -> Vec<String> {
        self.history.read(reading, Instant::now());
        let violations = summary(&self.history.violations());
        self.history.settle();
        violations
    }

    /// One batch; everything that was accepted is in the history, whatever the result of the rest.
    pub async fn publish(&mut self, client: &Client, count: u64) -> anyhow::Result<()> {
        let first = self.next;
        self.next += count;
        let ids: Vec<_> = (first..self.next).map(|number| (self.producer, number)).collect();
        ids.iter().for_each(|id| self.history.sent(*id));
        let payloads: Vec<_> = ids.iter().map(|id| payload(*id)).collect();
        let answer = client.publish_many(self.name, &payloads).await?;
        let status = answer.status();
        let text = answer.text().await.context("the answer's body")?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        for (id, result) in ids.iter().zip(answer["results"].as_array().into_iter().flatten()) {
            if let Some(offset) = result["offset"].as_u64() {
                self.history.acknowledged(*id, offset);
            }
        }
        anyhow::ensure!(status == 202, "publishing answers {status}: {text:.300}");
        Ok(())
    }
}
