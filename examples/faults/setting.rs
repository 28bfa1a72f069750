//! Settings common to all faults: the broker to attack, how long, with which choices, and where.
//!
//! Everything is created below one directory of this run's, `weir-faults-PID` in the temporary
//! directory; it is removed with the run, mounts first. Remains of an earlier run that was ended by
//! force are removed at the start.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk;

const PREFIX: &str = "weir-faults-";

/// See the module.
pub struct Setting {
    pub weir: PathBuf,
    pub long: bool,
    seed: u64,
    keep: bool,
    root: PathBuf,
}

impl Setting {
    pub fn new(weir: Option<PathBuf>, long: bool, seed: u64, keep: bool) -> anyhow::Result<Self> {
        let weir = match weir {
            Some(weir) => weir,
            None => {
                let own = std::env::current_exe()?;
                let release = own.parent().and_then(Path::parent);
                release.context("this example lies in target/…/examples")?.join("weir")
            }
        };
        ensure!(weir.is_file(), "no broker at {}: cargo build --release", weir.display());
        let weir = weir.canonicalize()?;
        remove_leftovers();
        let root = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&root)?;
        Ok(Self { weir, long, seed, keep, root })
    }

    /// N in a short run, M in a long one.
    pub fn count(&self, short: usize, long: usize) -> usize {
        if self.long { long } else { short }
    }

    /// The choices of one fault; the same for the same seed, whatever else runs.
    pub fn random(&self, fault: &str) -> StdRng {
        let name = fault.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
        StdRng::seed_from_u64(self.seed ^ name)
    }

    /// A new directory.
    pub fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Copies a data directory as it is now, in case the next step fails.
    pub fn remember(&self, data: &Path) -> anyhow::Result<()> {
        if self.keep && data.exists() {
            let memory = self.root.join("remembered");
            if memory.exists() {
                std::fs::remove_dir_all(&memory)?;
            }
            copy(data, &memory)?;
        }
        Ok(())
    }

    /// Moves the last copy to where it outlives this run.
    pub fn keep(&self, name: &str) -> anyhow::Result<()> {
        let memory = self.root.join("remembered");
        if self.keep && memory.exists() {
            let kept = std::env::temp_dir().join(format!("weir-kept-{name}-{}", self.seed));
            if kept.exists() {
                std::fs::remove_dir_all(&kept)?;
            }
            std::fs::rename(&memory, &kept)?;
            println!("kept {}", kept.display());
        }
        Ok(())
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// A copy with its holes.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("cp");
    command.args(["-r", "--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    let copied = command.status()?;
    ensure!(copied.success(), "{} can't be copied: {copied}", from.display());
    Ok(())
}

fn remove(root: &Path) {
    disk::unmount_below(root);
    if let Err(error) = std::fs::remove_dir_all(root) {
        eprintln!("{} stays: {error}", root.display());
    }
}

/// The remains of runs that have ended.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|process| !is_alive(process)) {
            end_brokers_on(&entry.path());
            remove(&entry.path());
        }
    }
}

/// A process that has ended and was not waited for yet runs no program any more.
fn is_alive(process: &str) -> bool {
    std::fs::read_link(Path::new("/proc").join(process).join("exe")).is_ok()
}

/// Ends brokers that an earlier run started on a directory of its own and left behind.
fn end_brokers_on(root: &Path) {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Ok(command) = std::fs::read(process.path().join("cmdline")) else { continue };
        let words: Vec<_> = command.split(|byte| *byte == 0).collect();
        let serves = words.get(1).is_some_and(|word| *word == b"serve");
        let below = |word: &&[u8]| Path::new(OsStr::from_bytes(word)).starts_with(root);
        if serves && words.iter().any(below) {
            let _ = Command::new("kill").arg("-KILL").arg(process.file_name()).status();
        }
    }
}
