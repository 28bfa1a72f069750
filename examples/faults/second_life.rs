//! Topics that are deleted and created again, and backups that are restored, sometimes twice.
//!
//! Must hold: an epoch is never used twice under a topic's name, a receipt never names two
//! messages, a message that is gone is 404 or lost, and one that exists is answered by the receipt
//! that its producer received. It never writes to a directory that another broker has.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::broker::Launch;
use crate::client::Client;
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "second-life";

const TOPICS: [&str; 2] = ["life.a", "life.b"];

/// The message that a receipt was issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    topic: &'static str,
    payload: Value,
}

struct Subject<'a> {
    setting: &'a Setting,
    scratch: PathBuf,
    /// How many directories there were.
    directories: usize,
    given: HashMap<String, Given>,
    /// Receipts whose messages exist here.
    here: Vec<String>,
    /// By topic, the lowest epoch that it may have.
    epochs: HashMap<&'static str, u64>,
    next: u64,
}

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let scratch = setting.scratch(NAME)?;
    let mut subject = Subject {
        setting,
        scratch,
        directories: 0,
        given: HashMap::new(),
        here: Vec::new(),
        epochs: HashMap::new(),
        next: 0,
    };
    let mut row = Row::new(NAME);
    let mut random = setting.random(NAME);
    for _ in 0..setting.count(10, 120) {
        row.cycles += 1;
        if let Err(error) = subject.cycle(&mut random, &mut row).await {
            row.violations.push(format!("cycle {}: {error:#}", row.cycles));
            break;
        }
    }
    row.acknowledged = subject.given.len();
    Ok(vec![row])
}

impl Subject<'_> {
    fn launch(&self) -> Launch {
        let data = self.scratch.join(format!("data-{}", self.directories));
        // Every receipt of what a copy lacks is asked for.
        Launch::new(&self.setting.weir, &data, &self.scratch)
            .small_store()
            .with("WEIR__LIMITS__RECEIPT_MISSES_PER_MINUTE", "100000")
    }

    async fn cycle(&mut self, random: &mut StdRng, row: &mut Row) -> anyhow::Result<()> {
        let broker = self.launch().open()?;
        row.recovery.push(broker.started_in);
        let client = Client::new(&broker.address)?;
        self.publish(&client, random).await?;
        self.check(&client).await?;
        match random.random_range(0..3) {
            0 => {
                let topic = TOPICS[random.random_range(0..TOPICS.len())];
                client.delete_topic(topic).await?;
                self.epochs.entry(topic).and_modify(|epoch| *epoch += 1);
                self.here.retain(|receipt| self.given[receipt].topic != topic);
                self.publish(&client, random).await?;
                self.check(&client).await?;
            }
            1 => {
                let backup = self.scratch.join("backup");
                std::fs::write(&backup, client.backup().await?)?;
                let held = self.here.clone();
                self.publish(&client, random).await?;
                broker.kill();
                // The second copy of one backup differs from the first.
                for _ in 0..random.random_range(1..3) {
                    // Not the last one that was used, and none before it.
                    self.epochs.values_mut().for_each(|epoch| *epoch += 1);
                    self.restore(&backup)?;
                    self.here = held.clone();
                    let broker = self.launch().open()?;
                    let client = Client::new(&broker.address)?;
                    self.publish(&client, random).await?;
                    self.check(&client).await?;
                }
                return Ok(());
            }
            _ => {}
        }
        broker.kill();
        Ok(())
    }

    async fn publish(&mut self, client: &Client, random: &mut StdRng) -> anyhow::Result<()> {
        for topic in TOPICS {
            for _ in 0..random.random_range(1..20) {
                self.next += 1;
                let payload = json!(self.next);
                let answer = client.publish_many(topic, std::slice::from_ref(&payload)).await?;
                let answer: Value = answer.json().await?;
                let receipt = answer["results"][0]["receipt"].as_str().context("a receipt")?;
                let given = Given { topic, payload };
                let before = self.given.insert(receipt.to_owned(), given.clone());
                ensure!(before.is_none(), "{receipt} is {before:?} and {given:?}");
                self.here.push(receipt.to_owned());
            }
        }
        Ok(())
    }

    fn restore(&mut self, backup: &std::path::Path) -> anyhow::Result<()> {
        self.directories += 1;
        let data = self.launch().data().to_owned();
        let output =
            Command::new(&self.setting.weir).arg("restore").arg(backup).arg(&data).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    async fn check(&mut self, client: &Client) -> anyhow::Result<()> {
        let mut there = HashMap::new();
        for topic in TOPICS {
            let view = client.topic(topic).await?.context("the topic is there")?;
            let epoch = view.0["epoch"].as_u64().context("an epoch")?;
            let page = client.get(&format!("/v1/topics/{topic}/messages?max=10000")).await?;
            for message in page["messages"].as_array().context("messages")? {
                let receipt = message["receipt"].as_str().context("a receipt")?.to_owned();
                there.insert(receipt, Given { topic, payload: message["data"].clone() });
            }
            let highest = self.epochs.entry(topic).or_default();
            ensure!(epoch >= *highest, "{topic} is in epoch {epoch}, after {highest}");
            *highest = epoch;
        }
        for (receipt, found) in &there {
            let given = &self.given[receipt];
            ensure!(given == found, "{receipt} was given for {given:?} and is of {found:?}");
        }
        ensure!(there.len() == self.here.len(), "{} of {} are here", there.len(), self.here.len());
        for (receipt, given) in self.given.iter().take(200) {
            let stage = client.stage(receipt).await?;
            let here = there.contains_key(receipt);
            let right = if here { stage == "queued" } else { stage == "gone" || stage == "lost" };
            ensure!(right, "{receipt} of {given:?}, here: {here}, is {stage}");
        }
        Ok(())
    }
}
