//! The clock jumps ten years ahead and back, from one start to the next, under libfaketime.
//!
//! Must hold, for a topic that keeps an hour: nothing is wiped because the clock jumped, and
//! `published_at` never runs back. It never fakes the monotonic clock, which no machine sets.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::broker::Launch;
use crate::client::Client;
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "clock";

/// As libfaketime takes it; nothing where the clock is right.
const CLOCKS: [Option<&str>; 5] = [None, Some("+3650d"), None, Some("-3650d"), None];
/// Long enough for retention to have had its turn.
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
    Ok(vec![row])
}

/// Where a distribution puts it.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists())
}
