//! The disk fills: a small tmpfs on which the broker is published to until it refuses.
//!
//! Must hold: it refuses before the store meets the end of the disk, 507 `storage-full` over HTTP,
//! an error and close 1013 over a socket; stored messages can be read, everything acknowledged
//! among them; as soon as there is room again publishing resumes by itself. And if the store meets
//! ENOSPC all the same, it is handled like any write error (see [`eio`](crate::eio)). It never
//! fills a disk that is not its own.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::broker::{Broker, Launch, PATIENCE};
use crate::client::Client;
use crate::control::{Control, Pace};
use crate::disk::Mount;
use crate::eio;
use crate::producers::{Kind, Producer};
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "enospc";

const DISK_BYTES: u64 = 200 << 20;
const FILLER_BYTES: usize = 64 << 20;
/// Free space at which the broker is to refuse.
const FREE_BYTES_MIN: &str = "50331648";
const BATCH_MESSAGES: u64 = 2_000;

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let injected = eio::run_errors(
        setting,
        "enospc-write",
        ("error=ENOSPC", "No space left on device"),
        &["write"],
    );
    let mut rows = vec![full_disk(setting).await?];
    rows.extend(injected.await?);
    Ok(rows)
}

async fn full_disk(setting: &Setting) -> anyhow::Result<Row> {
    let scratch = setting.scratch(NAME)?;
    let disk = match Mount::tmpfs(&scratch, DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => return Ok(Row::passed_over(NAME, format!("no tmpfs here: {error:#}"))),
    };
    let filler = disk.at.join("filler");
    std::fs::write(&filler, vec![7; FILLER_BYTES])?;
    let launch = Launch::new(&setting.weir, &disk.at.join("data"), &scratch)
        .small_store()
        .with("WEIR__STORAGE__FREE_BYTES_MIN", FREE_BYTES_MIN);
    let mut row = Row::new(NAME);
    let broker = launch.open()?;
    let mut script = Script::new(1, 100);
    script.run(&broker).await;
    anyhow::ensure!(script.ended.is_none(), "before the disk is full: {:?}", script.ended);
    if let Err(error) = fill(&broker, &mut script).await {
        row.violations.push(format!("{error:#}; it said {}", broker.said().trim()));
        row.acknowledged = script.acknowledged();
        return Ok(row);
    }
    row.violations.extend(refused_over_a_socket(&broker).await);
    row.violations.extend(script.check(&broker).await?);
    std::fs::remove_file(&filler)?;
    if let Err(error) = resumes(&broker, &mut script).await {
        row.violations.push(format!("with room again: {error:#}"));
    }
    row.violations.extend(script.check(&broker).await?);
    broker.kill();
    let broker = launch.open()?;
    row.recovery.push(broker.started_in);
    row.violations.extend(script.check(&broker).await?);
    row.cycles = 1;
    row.acknowledged = script.acknowledged();
    Ok(row)
}

/// Publishes until it is refused, for the right reason.
async fn fill(broker: &Broker, script: &mut Script) -> anyhow::Result<()> {
    let client = Client::new(&broker.address)?;
    let topic = script.existing().next().context("a topic")?;
    // More than the whole disk holds.
    for _ in 0..DISK_BYTES / (BATCH_MESSAGES * 100) {
        if let Err(error) = topic.publish(&client, BATCH_MESSAGES).await {
            let text = format!("{error:#}");
            anyhow::ensure!(text.contains("answers 507"), "not refused with 507: {text}");
            anyhow::ensure!(text.contains("storage-full"), "not `storage-full`: {text}");
            return Ok(());
        }
    }
    bail!("never refused")
}

async fn refused_over_a_socket(broker: &Broker) -> Vec<String> {
    let producer = Producer::new("script.sync", 1_000, Kind::SendsOnce);
    let pace = Pace { in_flight: 1, burst: 1, every: Duration::from_millis(5) };
    let (_, told) = producer.run(broker.address.clone(), pace, Control::default()).await;
    let mut wrong = told.complaints;
    if told.refused.as_deref() != Some("storage-full") {
        wrong.push(format!("the socket answers {:?}, not storage-full", told.refused));
    }
    if told.closed != Some(1013) {
        wrong.push(format!("the socket is closed with {:?}, not 1013", told.closed));
    }
    wrong
}

/// Waits until publishing works again.
async fn resumes(broker: &Broker, script: &mut Script) -> anyhow::Result<()> {
    let client = Client::new(&broker.address)?;
    let topic = script.existing().next().context("a topic")?;
    let start = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    while let Err(error) = topic.publish(&client, 1).await {
        if start.elapsed() > PATIENCE {
            return Err(error);
        }
        pace.tick().await;
    }
    Ok(())
}
