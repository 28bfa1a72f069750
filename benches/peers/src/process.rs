//! What /proc says of a server: processor time, bytes written to disk, memory.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

/// What a process, its descendants and the children it has waited for have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// `write_bytes`: what it made dirty or wrote directly, in whole pages, whether the disk has
    /// it by now or not.
    pub written_bytes: u64,
    /// The largest resident size so far. Of several processes it is the sum of theirs, in which
    /// shared pages count more than once.
    pub peak_memory_bytes: u64,
}

/// The usage of `pid` and its descendants.
pub fn usage(pid: u32) -> Result<Usage> {
    let mut sum = Usage::default();
    for pid in with_descendants(pid)? {
        // A child may have ended since; what it used is then its parent's.
        let Ok(one) = usage_of(pid) else { continue };
        sum.cpu_seconds += one.cpu_seconds;
        sum.written_bytes += one.written_bytes;
        sum.peak_memory_bytes += one.peak_memory_bytes;
    }
    Ok(sum)
}

/// The usage of `pid` alone.
pub fn usage_of(pid: u32) -> Result<Usage> {
    let fields = stat(pid)?;
    let ticks: u64 =
        fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        written_bytes: value(&io, "write_bytes:").context("/proc/PID/io")?,
        peak_memory_bytes: value(&status, "VmHWM:").context("/proc/PID/status")? * 1024,
    })
}

/// The fields of /proc/PID/stat from the state on: what stands before may hold spaces.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("/proc/PID/stat")?;
    Ok(fields.split_whitespace().map(String::from).collect())
}

fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn with_descendants(pid: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(one) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let parent = stat(one).ok().and_then(|fields| fields.get(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(one);
    }
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next) {
        all.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.peak_memory_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn a_child_is_a_descendant() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let all = with_descendants(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all.contains(&child.id()) && all.contains(&std::process::id()));
    }
}
