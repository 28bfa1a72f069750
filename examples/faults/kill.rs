//! `kill -9` at random moments under load, and now and then while it recovers.
//!
//! Must hold: everything acknowledged exists at either level, no offset jumps, no message that a
//! producer sends again after the start is stored twice. It never cuts the power: everything
//! written stays in the operating system.

use std::time::Duration;

use rand::Rng;

use crate::broker::Launch;
use crate::cycles::Cycles;
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "kill";

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut cycles = Cycles::new(setting, NAME);
    let count = setting.count(20, 100);
    while cycles.row.cycles < count && !cycles.is_hopeless() {
        let scratch = setting.scratch(NAME)?;
        let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch).small_store();
        cycles.create(&launch).await?;
        let mut failed = false;
        while cycles.row.cycles < count && !failed {
            cycle(&mut cycles, &launch).await?;
            failed = cycles.failed()?;
        }
        if !failed {
            cycles.judge_last(&launch).await?;
        }
    }
    Ok(cycles.finish())
}

async fn cycle(cycles: &mut Cycles<'_>, launch: &Launch) -> anyhow::Result<()> {
    if cycles.random.random_bool(0.2) {
        launch.start_and_kill(Duration::from_millis(cycles.random.random_range(1..60)))?;
    }
    let Some(broker) = cycles.begin(launch).await? else { return Ok(()) };
    let running = cycles.load(&broker).await?;
    broker.kill();
    cycles.end(running).await;
    Ok(())
}
