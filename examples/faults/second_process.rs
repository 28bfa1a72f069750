//! A second broker on a directory that is in use.
//!
//! Must hold: it ends with code 1 and says `in use`; the first one notices nothing. It never
//! starts the second one on another port of the same process.

use crate::broker::{Launch, Start};
use crate::report::Row;
use crate::script::Script;
use crate::setting::Setting;

pub const NAME: &str = "second-process";

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut row = Row::new(NAME);
    let scratch = setting.scratch(NAME)?;
    let elsewhere = setting.scratch("second-process-stderr")?;
    let data = scratch.join("data");
    let launch = Launch::new(&setting.weir, &data, &scratch);
    let broker = launch.open()?;
    row.recovery.push(broker.started_in);
    let mut script = Script::new(4, 50);
    script.run(&broker).await;
    match Launch::new(&setting.weir, &data, &elsewhere).start()? {
        Start::Listening(_) => row.violations.push("the second one listens".into()),
        Start::Ended { status, said } if status.code() != Some(1) || !said.contains("in use") => {
            row.violations.push(format!("{status}: {}", said.trim()));
        }
        Start::Ended { .. } => {}
    }
    script.run(&broker).await;
    row.violations.extend(script.ended.take());
    row.violations.extend(script.check(&broker).await?);
    broker.kill();
    row.violations.extend(script.check(&launch.open()?).await?);
    row.acknowledged = script.acknowledged();
    row.cycles = 1;
    Ok(vec![row])
}
