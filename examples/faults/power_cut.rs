//! The power goes at a random moment under load, and now and then while the broker recovers.
//!
//! The data directory lies on an ext4 of the harness's own (see [`disk`](crate::disk)); it is kept
//! through all cycles until the disk is rather full. Must hold: messages that a topic at level
//! `sync` acknowledged exist. A topic at level `os` may lose a suffix of its messages, acknowledged
//! within its sync interval and one sync before the cut, and announces it: a gap, in a new epoch;
//! no offset is ever used for two messages. It never cuts without killing the broker: a broker that
//! survives a dead disk is the fault `eio`.

use std::time::Duration;

use rand::Rng;

use crate::broker::Launch;
use crate::cycles::Cycles;
use crate::disk::{self, Cut, Mount};
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "power-cut";

const DISK_BYTES: u64 = 512 << 20;
/// A disk as full as this makes room for a new one: every cycle reads all of its content.
const USED_PERCENT_MAX: u64 = 25;

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    run_cuts(setting, NAME, |_| Cut::Clean).await
}

/// Cycles that end with a cut of this kind.
pub async fn run_cuts(
    setting: &Setting,
    name: &str,
    cut: fn(u64) -> Cut,
) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = disk::unavailable(&setting.scratch(name)?) {
        return Ok(vec![Row::passed_over(name, why)]);
    }
    let mut cycles = Cycles::new(setting, name);
    let count = setting.count(20, 500);
    while cycles.row.cycles < count && !cycles.is_hopeless() {
        let scratch = setting.scratch(name)?;
        let disk = Mount::ext4(&scratch, DISK_BYTES)?;
        let launch = Launch::new(&setting.weir, &disk.at.join("data"), &scratch).small_store();
        cycles.create(&launch).await?;
        let mut failed = false;
        while cycles.row.cycles < count && !failed && disk.used_percent()? < USED_PERCENT_MAX {
            cycle(&mut cycles, &launch, &disk, cut).await?;
            failed = cycles.failed()?;
        }
        if !failed {
            cycles.judge_last(&launch).await?;
        }
    }
    Ok(cycles.finish())
}

async fn cycle(
    cycles: &mut Cycles<'_>,
    launch: &Launch,
    disk: &Mount,
    cut: fn(u64) -> Cut,
) -> anyhow::Result<()> {
    if cycles.random.random_bool(0.15) {
        let switch = disk.switch(cut(cycles.random.random()))?;
        let recovering = launch.spawn()?;
        // A random moment of recovery: there is no condition to wait for.
        std::thread::sleep(Duration::from_millis(cycles.random.random_range(1..60)));
        let at = switch.cut()?;
        recovering.kill();
        cycles.load.power_cut(at);
        disk.remount()?;
    }
    let Some(broker) = cycles.begin(launch).await? else { return Ok(()) };
    let switch = disk.switch(cut(cycles.random.random()))?;
    let running = cycles.load(&broker).await?;
    let at = switch.cut()?;
    broker.kill();
    cycles.end(running).await;
    cycles.load.power_cut(at);
    disk.remount()
}
