//! The reader of the broker's log ends, or hangs with a full pipe, while the broker is published to.
//!
//! Must hold: publishing continues at once, a stop ends with 0, and everything acknowledged exists
//! after a stop and after a kill. It never closes the broker's own input.

use anyhow::{Context, ensure};

use crate::broker::{Launch, LogReader};
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "log-reader";

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let scratch = setting.scratch(NAME)?;
    let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch)
        .small_store()
        .with("WEIR_LOG", "debug");
    let mut row = Row::new(NAME);
    let mut script = Script::new(10, 100);
    for _ in 0..setting.count(1, 10) {
        for reader in [LogReader::Gone, LogReader::Stuck] {
            for end in ["TERM", "KILL"] {
                let mut broker = launch.clone().read_by(reader).open()?;
                row.recovery.push(broker.started_in);
                row.cycles += 1;
                script.run(&broker).await;
                let place = format!("{reader:?}, {end}");
                let ended = script.ended.take();
                row.violations.extend(ended.map(|why| format!("{place}: {why}")));
                row.violations.extend(script.check(&broker).await?);
                broker.signal(end)?;
                let status = broker.wait().context("it does not stop")?;
                ensure!(end == "KILL" || status.success(), "{place}: a stop ends with {status}");
            }
        }
    }
    row.acknowledged = script.acknowledged();
    Ok(vec![row])
}
