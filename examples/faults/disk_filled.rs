//! Other programs fill the disk to its last byte, at a random moment while the broker is published to.
//!
//! Must hold: publishing is refused with 507, deletions, settings and copies continue, a stop ends
//! with 0, a start on the full disk serves, publishing resumes once there is room, and everything
//! acknowledged exists. If the store meets the end of the disk all the same, between two
//! measurements, the broker may end as after any write error; such cycles are counted in the
//! remarks. It never fills a disk that is not its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::broker::{Broker, Launch};
use crate::client::Client;
use crate::disk::Mount;
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "disk-filled-by-others";

const DISK_BYTES: u64 = 400 << 20;

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let scratch = setting.scratch(NAME)?;
    if let Err(error) = Mount::tmpfs(&scratch, DISK_BYTES) {
        return Ok(vec![Row::passed_over(NAME, format!("no tmpfs here: {error:#}"))]);
    }
    let mut row = Row::new(NAME);
    let mut random = setting.random(NAME);
    let mut met_the_end = 0;
    for _ in 0..setting.count(4, 60) {
        let scratch = setting.scratch(NAME)?;
        let disk = Mount::tmpfs(&scratch, DISK_BYTES)?;
        let launch = Launch::new(&setting.weir, &disk.at.join("data"), &scratch).small_store();
        let mut script = Script::new(60, 200);
        row.cycles += 1;
        match cycle(&launch, &disk, &mut script, &mut random, &mut row).await {
            Ok(ended) => met_the_end += usize::from(ended),
            Err(error) => row.violations.push(format!("cycle {}: {error:#}", row.cycles)),
        }
        row.acknowledged += script.acknowledged();
    }
    row.note = format!("{met_the_end} met the end of the disk");
    Ok(vec![row])
}

/// True if the store met the end of the disk.
async fn cycle(
    launch: &Launch,
    disk: &Mount,
    script: &mut Script,
    random: &mut StdRng,
    row: &mut Row,
) -> anyhow::Result<bool> {
    let mut broker = launch.open()?;
    let filler = disk.at.join("filler");
    let filling = {
        let (filler, after) = (filler.clone(), Duration::from_millis(random.random_range(1..600)));
        std::thread::spawn(move || {
            // A random moment of the load: there is no condition to wait for.
            std::thread::sleep(after);
            fill(&filler)
        })
    };
    script.run(&broker).await;
    filling.join().ok().context("the disk is not filled")??;
    // A request meets now what the load did not.
    let met_the_end = broker.has_ended();
    if !met_the_end {
        on_the_full_disk(&broker, script).await?;
        match random.random_range(0..3) {
            0 => broker.kill(),
            1 => {
                broker.signal("TERM")?;
                let status = broker.wait().context("it does not stop")?;
                ensure!(status.success(), "a stop on a full disk: {status}: {}", broker.said());
            }
            _ => return resumes(&broker, script, &filler, row).await.map(|()| false),
        }
    }
    let broker = launch.open().context("a start on a full disk")?;
    row.recovery.push(broker.started_in);
    on_the_full_disk(&broker, script).await?;
    resumes(&broker, script, &filler, row).await?;
    Ok(met_the_end)
}

fn fill(path: &Path) -> anyhow::Result<PathBuf> {
    let mut file = std::fs::File::create(path)?;
    for piece in [vec![7; 1 << 20], vec![7; 1]] {
        while file.write_all(&piece).is_ok() {}
    }
    Ok(path.to_owned())
}

/// Operations that must continue.
async fn on_the_full_disk(broker: &Broker, script: &mut Script) -> anyhow::Result<()> {
    let client = Client::new(&broker.address)?;
    for _ in 0..10 {
        let (status, said) = client.put_topic("script.os", &json!({ "ack_level": "os" })).await?;
        ensure!(status == 200, "settings on a full disk answer {status}: {said}");
        client.backup().await.context("a copy on a full disk")?;
        let topic = script.existing().next().context("a topic")?;
        match topic.publish(&client, 1).await {
            // Its own log and tables may have released room since.
            Ok(()) => {}
            Err(error) if format!("{error:#}").contains("answers 507") => {}
            Err(error) => bail!("publishing on a full disk: {error:#}"),
        }
    }
    Ok(())
}

async fn resumes(
    broker: &Broker,
    script: &mut Script,
    filler: &Path,
    row: &mut Row,
) -> anyhow::Result<()> {
    row.violations.extend(script.check(broker).await?);
    std::fs::remove_file(filler)?;
    let client = Client::new(&broker.address)?;
    let topic = script.existing().next().context("a topic")?;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..200 {
        pace.tick().await;
        if topic.publish(&client, 1).await.is_ok() {
            row.violations.extend(script.check(broker).await?);
            return Ok(());
        }
    }
    bail!("publishing does not go on though there is room")
}
