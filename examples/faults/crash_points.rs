//! `kill -9` at each system call that changes the disk: the first, the second, the third of each
//! kind, from the first start on an empty directory to the stop.
//!
//! Must hold: at whatever point it dies, the next start works and has everything that was
//! acknowledged, every topic that was created and none that was deleted. Calls that occur by the
//! thousand are sampled. It never cuts the power: the order in which the disk itself receives
//! writes is the fault `power-cut`.

use std::path::Path;

use crate::broker::Launch;
use crate::report::Row;
use crate::script::Script;
use crate::setting::{Setting, copy};
use crate::strace::{self, Injection};

pub const NAME: &str = "crash-points";

const CALLS: [&str; 14] = [
    "fdatasync",
    "fsync",
    "sync_file_range",
    "rename",
    "renameat",
    "renameat2",
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "fallocate",
    "unlink",
    "mkdir",
    "openat",
];

/// The result of one point.
struct Point {
    struck: bool,
    acknowledged: usize,
    recovery: Option<std::time::Duration>,
    wrong: Vec<String>,
}

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = strace::unavailable() {
        return Ok(vec![Row::passed_over(NAME, why)]);
    }
    let mut random = setting.random(NAME);
    let mut row = Row::new(NAME);
    let scratch = setting.scratch(NAME)?;
    // A directory with a long history, beside one that is still to be created.
    let grown = scratch.join("grown");
    let script = grow(setting, &scratch, &grown).await?;
    let mut tried = 0;
    for (phase, from) in [("new", None), ("grown", Some((&grown, &script)))] {
        let counting = place(setting, &scratch.join(format!("{phase}-count")), from)?;
        let counts = {
            let (launch, script) = &counting;
            let at = launch.data().parent().expect("a data directory lies in a scratch one");
            strace::count(launch, at, script.clone(), &CALLS).await?
        };
        let mut points = Vec::new();
        for (call, count) in counts {
            let most = setting.count(16, 100);
            points.extend(strace::sample(&mut random, count, most).into_iter().map(|n| (call, n)));
        }
        for (call, nth) in points {
            let at = scratch.join(format!("{phase}-{call}-{nth}"));
            let point = point(setting, &at, from, call, nth).await?;
            tried += 1;
            row.cycles += usize::from(point.struck);
            row.acknowledged += point.acknowledged;
            row.recovery.extend(point.recovery);
            row.violations.extend(point.wrong);
            // Hundreds of directories would fill the disk.
            std::fs::remove_dir_all(&at)?;
        }
    }
    row.note = format!("killed at {} of {tried} points", row.cycles);
    Ok(vec![row])
}

/// A directory that has been through the script twice.
async fn grow(setting: &Setting, scratch: &Path, data: &Path) -> anyhow::Result<Script> {
    let launch = Launch::new(&setting.weir, data, scratch).small_store();
    let mut script = Script::new(12, 250);
    for _ in 0..2 {
        let mut broker = launch.open()?;
        script.run(&broker).await;
        anyhow::ensure!(script.ended.is_none(), "without any fault: {:?}", script.ended);
        broker.signal("TERM")?;
        anyhow::ensure!(broker.wait().is_some(), "it does not stop");
    }
    Ok(script)
}

/// A directory to kill a broker in.
fn place(
    setting: &Setting,
    at: &Path,
    from: Option<(&std::path::PathBuf, &Script)>,
) -> anyhow::Result<(Launch, Script)> {
    std::fs::create_dir_all(at)?;
    let data = at.join("data");
    let script = match from {
        None => Script::new(8, 250),
        Some((grown, script)) => {
            copy(grown, &data)?;
            script.clone()
        }
    };
    Ok((Launch::new(&setting.weir, &data, at).small_store(), script))
}

async fn point(
    setting: &Setting,
    at: &Path,
    from: Option<(&std::path::PathBuf, &Script)>,
    call: &'static str,
    nth: usize,
) -> anyhow::Result<Point> {
    let (launch, script) = place(setting, at, from)?;
    let injection = Injection { call, fault: "signal=KILL", nth, files: Vec::new() };
    let attempt = strace::attempt(&launch, at, script, &injection).await?;
    let mut script = attempt.script;
    let mut wrong = Vec::new();
    if attempt.status.is_none() {
        wrong.push("it neither dies nor stops".to_owned());
    }
    let mut recovery = None;
    match launch.open() {
        Err(error) => wrong.push(format!("{error:#}")),
        Ok(broker) => {
            recovery = Some(broker.started_in);
            wrong.extend(script.check(&broker).await?);
        }
    }
    let place = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let wrong = wrong.into_iter().map(|what| format!("{place}: {what}")).collect();
    Ok(Point { struck: attempt.struck, acknowledged: script.acknowledged(), recovery, wrong })
}
