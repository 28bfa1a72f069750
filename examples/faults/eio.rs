//! The disk fails: a write or a sync of the journal answers EIO, once, without having been done.
//!
//! Must hold: nothing is acknowledged after it, since the data of that sync may never be on the
//! disk; the process reports why on standard error, once, and ends with code 1; after the next
//! start everything acknowledged exists. The power is cut before that start, so that an
//! acknowledgement in spite of a failed sync is detected. It never fails for ever: a second try
//! that would work is the trap.

use rand::Rng;

use crate::broker::Launch;
use crate::disk::{self, Cut, Mount};
use crate::report::Row;
use crate::script::Script;
use crate::setting::{Setting, copy};
use crate::strace::{self, Attempt, Injection};

pub const NAME: &str = "eio";

const DISK_BYTES: u64 = 512 << 20;
/// How often the reason may be printed.
const SAID_MAX: usize = 1;
/// fjall's message about a sync that failed while it was closed.
const ON_DROP: &str = "Flush error on drop";

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    run_errors(
        setting,
        NAME,
        ("error=EIO", "Input/output error"),
        &["fdatasync", "fsync", "write", "pwrite64"],
    )
    .await
}

/// Fails some calls with this error, each time on a copy of the same directory.
pub async fn run_errors(
    setting: &Setting,
    name: &str,
    (fault, reason): (&'static str, &'static str),
    calls: &[&'static str],
) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = strace::unavailable() {
        return Ok(vec![Row::passed_over(name, why)]);
    }
    let mut random = setting.random(name);
    let mut row = Row::new(name);
    let scratch = setting.scratch(name)?;
    let base = scratch.join("base");
    let mut script = Script::new(3, 100);
    let broker = Launch::new(&setting.weir, &base, &scratch).small_store().open()?;
    script.run(&broker).await;
    anyhow::ensure!(script.ended.is_none(), "without any fault: {:?}", script.ended);
    broker.kill();
    let disk = match disk::unavailable(&scratch) {
        None => Some(Mount::ext4(&scratch, DISK_BYTES)?),
        Some(why) => {
            row.note = format!("without cutting the power afterwards: {why}");
            None
        }
    };
    let data = disk.as_ref().map_or(scratch.as_path(), |disk| &disk.at).join("data");
    let launch = Launch::new(&setting.weir, &data, &scratch).small_store();
    for call in calls {
        for n in 0..setting.count(8, 40) {
            let nth = if n == 0 { 1 } else { random.random_range(2..=9) };
            if data.exists() {
                std::fs::remove_dir_all(&data)?;
            }
            copy(&base, &data)?;
            disk.as_ref().map(Mount::flush).transpose()?;
            // Other writes go to sockets, and are no fault of a disk.
            let files = strace::newest_wal(&data).into_iter().collect();
            let injection = Injection { call, fault, nth, files };
            let mut attempt =
                strace::attempt(&launch, &scratch, script.clone(), &injection).await?;
            if !attempt.struck {
                continue;
            }
            if let Some(disk) = &disk {
                attempt.script.power_cut(disk.switch(Cut::Clean)?.cut()?);
                disk.remount()?;
            }
            row.cycles += 1;
            for wrong in judge(&launch, attempt, reason, &mut row).await? {
                row.violations.push(format!("{call} {nth}: {wrong}"));
            }
        }
    }
    Ok(vec![row])
}

/// Checks how it ended, and the content after the next start.
async fn judge(
    launch: &Launch,
    attempt: Attempt,
    reason: &str,
    row: &mut Row,
) -> anyhow::Result<Vec<String>> {
    let Attempt { mut script, status, said, .. } = attempt;
    let mut wrong = Vec::new();
    let mut last_act = false;
    match status.map(|status| status.code()) {
        None => wrong.push(format!("it lives on; the client saw {:?}", script.ended)),
        Some(Some(1)) => {}
        // The store was synced and closed by then: fjall's last sync at its end is not needed.
        Some(Some(0)) if said.contains(ON_DROP) => last_act = true,
        Some(code) => wrong.push(format!("it ends with {code:?}: {}", said.trim())),
    }
    // fjall logs for itself; the broker's reaction counts.
    let own = |line: &&str| line.contains("weir") && !line.contains(" fjall::");
    let reasons = said.lines().filter(own).filter(|line| line.contains(reason)).count();
    if reasons == 0 && !last_act {
        wrong.push(format!("it does not say why: {:?}", said.trim()));
    } else if reasons > SAID_MAX {
        wrong.push(format!("it says why {reasons} times: {:?}", said.trim()));
    }
    match launch.open() {
        Err(error) => wrong.push(format!("{error:#}")),
        Ok(broker) => {
            row.recovery.push(broker.started_in);
            wrong.extend(script.check(&broker).await?);
        }
    }
    row.acknowledged += script.acknowledged();
    row.lost += script.lost();
    Ok(wrong)
}
