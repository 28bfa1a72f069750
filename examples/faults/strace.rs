//! Faults at a chosen system call, by strace.
//!
//! strace counts each thread's calls for itself: a fault at the third `fdatasync` comes when the
//! first thread gets there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rand::rngs::StdRng;
use rand::seq::index;

use crate::broker::{Launch, Start};
use crate::script::Script;

/// The action on a process.
#[derive(Clone, Debug)]
pub struct Injection {
    pub call: &'static str,
    /// In strace's syntax: `signal=KILL`, `error=EIO`.
    pub fault: &'static str,
    /// At the nth call.
    pub nth: usize,
    /// Only at calls for one of these files, if any are given.
    pub files: Vec<PathBuf>,
}

/// How a process that went through a script ended.
pub struct Attempt {
    pub script: Script,
    pub status: Option<ExitStatus>,
    pub said: String,
    /// The fault occurred.
    pub struck: bool,
}

/// Why nothing can be injected here, if so.
pub fn unavailable() -> Option<String> {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    match tried {
        Err(error) => Some(format!("no strace: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    }
}

fn wrapper(log: &Path, calls: &str) -> Vec<OsString> {
    // With -D the harness's child is the broker, not strace. With --seccomp-bpf no signal is injected.
    let mut words: Vec<OsString> = ["strace", "-D", "-f", "-qq", "-o"].map(Into::into).into();
    words.push(log.into());
    words.push("-e".into());
    words.push(format!("trace={calls}").into());
    words
}

/// The broker runs the script and is stopped by SIGTERM, unless the fault ends it before.
pub async fn attempt(
    launch: &Launch,
    scratch: &Path,
    script: Script,
    injection: &Injection,
) -> anyhow::Result<Attempt> {
    let log = scratch.join("strace");
    let Injection { call, fault, nth, files } = injection;
    let mut words = wrapper(&log, call);
    for file in files {
        words.push("-P".into());
        words.push(file.into());
    }
    words.push("-e".into());
    words.push(format!("inject={call}:{fault}:when={nth}").into());
    let (script, status, said) = go_through(&launch.clone().under(words), script).await?;
    use std::os::unix::process::ExitStatusExt;
    let killed = status.is_some_and(|status| status.signal() == Some(9));
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    Ok(Attempt { script, status, said, struck: killed || log.contains("(INJECTED)") })
}

/// How often each call occurs at most in one thread during the script.
pub async fn count(
    launch: &Launch,
    scratch: &Path,
    script: Script,
    calls: &[&'static str],
) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let log = scratch.join("strace");
    let words = wrapper(&log, &calls.join(","));
    let (script, status, said) = go_through(&launch.clone().under(words), script).await?;
    anyhow::ensure!(script.ended.is_none(), "without any fault: {:?} {said}", script.ended);
    anyhow::ensure!(status.is_some_and(|status| status.success()), "no clean stop: {status:?}");
    let log = std::fs::read_to_string(&log)?;
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let call = rest.trim_start().split('(').next().unwrap_or_default();
        *counts.entry((thread, call)).or_default() += 1;
    }
    let most = |call: &&'static str| {
        let of_call = counts.iter().filter(|((_, counted), _)| counted == call);
        (*call, of_call.map(|(_, count)| *count).max().unwrap_or(0))
    };
    Ok(calls.iter().map(most).collect())
}

async fn go_through(
    launch: &Launch,
    mut script: Script,
) -> anyhow::Result<(Script, Option<ExitStatus>, String)> {
    match launch.start()? {
        Start::Ended { status, said } => {
            script.ended = Some("it did not start".into());
            Ok((script, Some(status), said))
        }
        Start::Listening(mut broker) => {
            script.run(&broker).await;
            if script.ended.is_none() {
                // It may have been ended meanwhile.
                let _ = broker.signal("TERM");
            }
            let status = broker.wait();
            Ok((script, status, broker.said()))
        }
    }
}

/// Up to so many of the numbers from 1 to `count`: the first ones, and others at random.
pub fn sample(random: &mut StdRng, count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (1..=count).collect();
    }
    let first = most.div_ceil(3);
    let mut picked: BTreeSet<usize> = (1..=first).collect();
    picked.extend(index::sample(random, count - first, most - first).iter().map(|n| n + first + 1));
    picked.into_iter().collect()
}

/// Newest of fjall's WAL files.
pub fn newest_wal(data: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(data.join("journal")).ok()?;
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "jnl")).max_by_key(number)
}
