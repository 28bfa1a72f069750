//! The clock jumps ten years ahead and back, from one start to the next and while the broker runs, and
//! before 1970, under libfaketime.
//!
//! Must hold, for a topic that keeps an hour: nothing is deleted because the clock jumped, and
//! `published_at` never runs back; a message's time to live passes as fast as ever; a topic that is
//! created once the clock is right has right times. It never fakes the monotonic clock, which no
//! machine sets.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::broker::Launch;
use crate::client::Client;
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "clock";

/// In libfaketime's format; empty if the clock is right.
const CLOCKS: [Option<&str>; 5] = [None, Some("+3650d"), None, Some("-3650d"), None];
/// What it is set to while the broker runs; the fourth is before 1970.
const STEPS: [&str; 6] = ["+0", "+3650d", "+0", "-25000d", "-3650d", "+0"];
/// The time to live of a message.
const TTL_MS: u64 = 700;
/// Long enough for retention to have run.
const EACH: Duration = Duration::from_millis(2_500);

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let Some(library) = library() else {
        return Ok(vec![Row::passed_over(NAME, "no libfaketime (package faketime)")]);
    };
    let scratch = setting.scratch(NAME)?;
    let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch).small_store();
    let mut script = Script::one("clock", json!({ "retention_ms": 3_600_000 }));
    let mut row = Row::new(NAME);
    for clock in CLOCKS {
        let launch = match clock {
            None => launch.clone(),
            Some(clock) => launch
                .clone()
                .with("LD_PRELOAD", &library.to_string_lossy())
                .with("FAKETIME", clock)
                .with("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        };
        let mut broker = launch.open()?;
        row.recovery.push(broker.started_in);
        script.run(&broker).await;
        if let Some(why) = script.ended.as_ref().filter(|why| why.contains("answers 400")) {
            return Ok(vec![Row::passed_over(NAME, format!("no retention_ms here: {why}"))]);
        }
        let client = Client::new(&broker.address)?;
        let start = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while start.elapsed() < EACH && script.ended.is_none() {
            for topic in script.existing() {
                topic.publish(&client, 20).await?;
            }
            pace.tick().await;
        }
        let place = clock.unwrap_or("right");
        let wrong = script.ended.clone().into_iter().chain(script.check(&broker).await?);
        row.violations.extend(wrong.map(|what| format!("clock {place}: {what}")));
        broker.signal("TERM")?;
        anyhow::ensure!(broker.wait().is_some(), "it does not stop");
        row.cycles += 1;
    }
    row.acknowledged = script.acknowledged();
    let stepping = step(setting, &library).await?;
    Ok(vec![row, stepping])
}

/// The clock is set while the broker runs.
async fn step(setting: &Setting, library: &Path) -> anyhow::Result<Row> {
    let scratch = setting.scratch("clock-steps")?;
    let clock = scratch.join("clock");
    let set = |to: &str| std::fs::write(&clock, to);
    set("+0")?;
    let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch)
        .small_store()
        .with("LD_PRELOAD", &library.to_string_lossy())
        .with("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy())
        .with("FAKETIME_NO_CACHE", "1")
        .with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .with("DONT_FAKE_MONOTONIC", "1");
    let mut script = Script::one("steps", json!({ "retention_ms": 3_600_000 }));
    let mut row = Row::new("clock-steps");
    let broker = launch.open()?;
    row.recovery.push(broker.started_in);
    let client = Client::new(&broker.address)?;
    for (n, to) in STEPS.into_iter().enumerate() {
        set(to)?;
        row.cycles += 1;
        script.run(&broker).await;
        let wrong = script.ended.clone().into_iter().chain(script.check(&broker).await?);
        row.violations.extend(wrong.map(|what| format!("clock {to}: {what}")));
        let topic = format!("ttl-{n}");
        anyhow::ensure!(client.publish_for(&topic, TTL_MS).await? == 202, "publishing");
        let page = client.get(&format!("/v1/topics/{topic}/messages")).await?;
        let year = page["messages"][0]["published_at"].as_str().map(|time| time[..4].to_owned());
        let right = weir::clock::Clock::system().now().to_string()[..4].to_owned();
        if to == "+0" && year.as_ref().is_some_and(|year| *year != right) {
            row.violations.push(format!("a new topic's time is of {year:?}"));
        }
        if !is_gone(&client, &topic).await? {
            row.violations.push(format!("clock {to}: a message of {TTL_MS} ms does not go"));
        }
    }
    row.acknowledged = script.acknowledged();
    Ok(row)
}

async fn is_gone(client: &Client, topic: &str) -> anyhow::Result<bool> {
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..100 {
        pace.tick().await;
        let page = client.get(&format!("/v1/topics/{topic}/messages")).await?;
        if page["messages"] == json!([]) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Its path in a distribution.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists())
}
