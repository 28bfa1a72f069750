//! SIGSTOP for a while, then SIGCONT, as from a debugger, a laptop's lid or a host that migrates.
//!
//! Must hold: sockets continue where they were, nothing is lost or duplicated, no client gives up.
//! It never stops it for longer than any deadline of the broker's.

use std::time::Duration;

use rand::Rng;

use crate::broker::Launch;
use crate::cycles::Cycles;
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "stop-signal";

const STOPPED: Duration = Duration::from_millis(300);

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut cycles = Cycles::new(setting, NAME);
    let scratch = setting.scratch(NAME)?;
    let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch).small_store();
    cycles.create(&launch).await?;
    if let Some(mut broker) = cycles.begin(&launch).await? {
        let running = cycles.load.start(&broker, &mut cycles.random);
        for _ in 0..setting.count(8, 60) {
            let more = cycles.random.random_range(1..500);
            running.acknowledged(running.control.acknowledged() + more).await?;
            broker.signal("STOP")?;
            // This long, and no condition for it.
            tokio::time::sleep(STOPPED).await;
            broker.signal("CONT")?;
            running.acknowledged(running.control.acknowledged() + 1).await?;
            cycles.row.cycles += 1;
        }
        running.control.stop();
        let gathered = cycles.load.gather(running).await;
        cycles.row.violations.extend(gathered.complaints);
        if let Some(why) = gathered.why_broken {
            let broken = gathered.broken;
            cycles.row.violations.push(format!("{broken} sockets ended, one because: {why}"));
        }
        let wrong = cycles.load.check(&broker).await?;
        cycles.row.violations.extend(wrong);
        broker.signal("TERM")?;
        anyhow::ensure!(broker.wait().is_some(), "it does not stop");
        if !cycles.failed()? {
            cycles.judge_last(&launch).await?;
        }
    }
    Ok(cycles.finish())
}
