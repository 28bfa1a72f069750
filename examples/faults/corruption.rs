//! One change somewhere in a data directory: a bit, a page of zeros, a file cut short, in fjall's
//! WAL, its tables, its manifests, or a file of the broker's own.
//!
//! Must hold: acknowledged messages exist unaltered; or the broker reports a loss, by quarantine,
//! an announced gap or an error where it is read; or it does not start and names the damage.
//! Silence is a violation, and so is any message that was never sent: a line in a log does not
//! count as a report. The result of plain fjall on the same copies is printed beside it. It never
//! changes two things at once.

use std::path::Path;
use std::time::Instant;

use crate::broker::{Broker, Launch, Start};
use crate::client::Client;
use crate::history::Violation;
use crate::mutation::{self, Mutation, Target};
use crate::plain_fjall::{self, Outcome};
use crate::report::Row;
use crate::script::Script;
use crate::setting::{Setting, copy};
use crate::workload::summary;

pub const NAME: &str = "corruption";

/// The result of one change.
enum Class {
    Harmless,
    Detected,
    Refused,
    /// It does not start and does not name the damage.
    Unnamed(String),
    Silent(String),
}

/// A directory to be copied and damaged.
struct Base {
    data: std::path::PathBuf,
    script: Script,
    targets: Vec<Target>,
    plain: String,
}

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut random = setting.random(NAME);
    let scratch = setting.scratch(NAME)?;
    let bases = [
        base(setting, &scratch, "tables", 2, 12).await?,
        base(setting, &scratch, "wal", 0, 8).await?,
    ];
    let mut row = Row::new(NAME);
    let mut plain = Row::new("… plain fjall");
    let (mut harmless, mut detected, mut refused, mut unnamed, mut silent) = (0, 0, 0, 0, 0);
    let mut plain_counts = [0; 3];
    for n in 0..setting.count(240, 1_000) {
        let base = &bases[n % bases.len()];
        let mutation = Mutation::random(&mut random, &base.targets)?;
        let at = scratch.join(format!("copy-{n}"));
        std::fs::create_dir_all(&at)?;
        let (data, for_plain) = (at.join("data"), at.join("plain"));
        copy(&base.data, &data)?;
        mutation.apply(&data)?;
        setting.remember(&data)?;
        copy(&data, &for_plain)?;
        let launch = Launch::new(&setting.weir, &data, &at).small_store();
        match classify(&launch, base.script.clone(), &mutation, &mut row).await? {
            Class::Harmless => harmless += 1,
            Class::Detected => detected += 1,
            Class::Refused => refused += 1,
            Class::Unnamed(what) => {
                unnamed += 1;
                row.violations.push(format!("copy {n}, {mutation}: nothing named: {what}"));
            }
            Class::Silent(what) => {
                silent += 1;
                row.violations.push(format!("copy {n}, {mutation}: {what}"));
                setting.keep(&format!("{NAME}-{n}"))?;
            }
        }
        row.cycles += 1;
        row.acknowledged += base.script.acknowledged();
        let outcome = plain_fjall::judge(&for_plain, &base.plain)?;
        plain_counts[outcome as usize] += 1;
        plain.cycles += 1;
        std::fs::remove_dir_all(&at)?;
    }
    row.note = format!(
        "harmless {harmless}, detected {detected}, refused {refused}, silent {silent}, \
         refused without a name {unnamed}"
    );
    plain.note = format!(
        "harmless {}, refused {}, silent {}",
        plain_counts[Outcome::Harmless as usize],
        plain_counts[Outcome::Refused as usize],
        plain_counts[Outcome::Silent as usize]
    );
    Ok(vec![row, plain])
}

/// A directory that was stopped N times in order, each time after the script, or else killed after
/// it once.
async fn base(
    setting: &Setting,
    scratch: &Path,
    name: &str,
    stops: usize,
    batches: u64,
) -> anyhow::Result<Base> {
    let data = scratch.join(name);
    let launch = Launch::new(&setting.weir, &data, scratch).small_store();
    let mut script = Script::new(batches, 250);
    for _ in 0..stops.max(1) {
        let mut broker = launch.open()?;
        script.run(&broker).await;
        anyhow::ensure!(script.ended.is_none(), "without any fault: {:?}", script.ended);
        if stops > 0 {
            broker.signal("TERM")?;
            anyhow::ensure!(broker.wait().is_some(), "it does not stop");
        }
        broker.kill();
    }
    let copied = scratch.join(format!("{name}-plain"));
    copy(&data, &copied)?;
    let plain = plain_fjall::contents(&copied)?;
    let plain = plain.ok_or_else(|| anyhow::anyhow!("plain fjall can't open what is whole"))?;
    let targets = mutation::targets(&data)?;
    Ok(Base { data, script, targets, plain })
}

async fn classify(
    launch: &Launch,
    mut script: Script,
    mutation: &Mutation,
    row: &mut Row,
) -> anyhow::Result<Class> {
    let mut broker = match launch.start() {
        Err(error) => return Ok(Class::Silent(format!("{error:#}"))),
        Ok(Start::Listening(broker)) => broker,
        Ok(Start::Ended { status, said }) => {
            let file = mutation.file.file_name().unwrap_or_default().to_string_lossy();
            let named = [&*file, "sequence", "journal/"].iter().any(|name| said.contains(name));
            return Ok(match (status.code(), named) {
                (Some(1), true) => Class::Refused,
                (Some(1), false) => Class::Unnamed(said.trim().to_owned()),
                _ => Class::Silent(format!("{status}: {}", said.trim())),
            });
        }
    };
    row.recovery.push(broker.started_in);
    let client = Client::new(&broker.address)?;
    let mut told = false;
    let mut silent = Vec::new();
    for topic in script.existing() {
        let quarantined = match client.topic(topic.name).await {
            Ok(Some(view)) => view.is_quarantined(),
            Ok(None) => {
                silent.push(format!("{} is gone", topic.name));
                continue;
            }
            Err(error) => answers_for_it(&error, &mut broker),
        };
        let (reading, outcome) = client.read(topic.name).await;
        let failed = outcome.as_ref().err();
        let refused = failed.is_some_and(|error| answers_for_it(error, &mut broker));
        topic.history.read(reading, Instant::now());
        let (missing, rest): (Vec<_>, Vec<_>) =
            topic.history.violations().into_iter().partition(is_missing);
        let (gaps, wrong): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|v| matches!(v, Violation::UnexpectedGap { .. }));
        told |= quarantined || refused || !gaps.is_empty();
        let excused = quarantined || refused;
        let unexcused = missing.into_iter().filter(|_| !excused);
        let violations: Vec<_> = wrong.into_iter().chain(unexcused).collect();
        silent.extend(summary(&violations).iter().map(|what| format!("{}: {what}", topic.name)));
        if let (Some(error), false) = (failed, refused) {
            silent.push(format!("{}: {error:#}", topic.name));
        }
    }
    Ok(match (silent.is_empty(), told) {
        (true, true) => Class::Detected,
        (true, false) => Class::Harmless,
        (false, _) => Class::Silent(silent.join("; ")),
    })
}

/// No wrong message was returned, but some are missing.
fn is_missing(violation: &Violation) -> bool {
    matches!(
        violation,
        Violation::LostAcknowledged { .. }
            | Violation::ReadThenGone { .. }
            | Violation::UnannouncedGap { .. }
    )
}

/// A reported error: a status that says so, or its end with code 1.
fn answers_for_it(error: &anyhow::Error, broker: &mut Broker) -> bool {
    let text = format!("{error:#}");
    text.contains("answers 5") || broker.has_ended()
}
