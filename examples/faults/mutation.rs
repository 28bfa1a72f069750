//! One thing changed in a data directory, as by a disk, a cable or an operator's mistake: a bit, a
//! page of zeros, a file cut short.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::Rng;
use rand::rngs::StdRng;

const PAGE: u64 = 4096;

/// The kind of a file, and how many of a hundred mutations it gets.
const PARTS: [(Part, u32); 4] =
    [(Part::Wal, 40), (Part::Table, 25), (Part::Manifest, 20), (Part::Own, 15)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Wal,
    Table,
    Manifest,
    /// The broker's own files beside the store.
    Own,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Bit { byte: u64, bit: u8 },
    ZeroPage { from: u64 },
    Truncate { to: u64 },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Mutation {
    pub part: Part,
    /// Below the data directory.
    pub file: PathBuf,
    change: Change,
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {:?}", self.part, self.file.display(), self.change)
    }
}

/// A file that can be changed, as far as it has data.
#[derive(Clone, Debug)]
pub struct Target {
    part: Part,
    file: PathBuf,
    bytes: u64,
}

/// The files of a directory that have a meaning.
pub fn targets(data: &Path) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.strip_prefix(data)?.to_owned();
            let Some(part) = part(&file) else { continue };
            let content = std::fs::read(&path)?;
            // Preallocated space is zero.
            let bytes = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if bytes > 0 {
                targets.push(Target { part, file, bytes: bytes as u64 });
            }
        }
    }
    targets.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(targets)
}

fn part(file: &Path) -> Option<Part> {
    let name = file.file_name()?.to_str()?;
    let folder = file.parent()?.file_name().and_then(|name| name.to_str());
    match (folder, name) {
        (_, "lock") => None,
        (None, _) => Some(Part::Own),
        (_, name) if name.ends_with(".jnl") => Some(Part::Wal),
        (Some("tables"), _) => Some(Part::Table),
        _ => Some(Part::Manifest),
    }
}

impl Mutation {
    /// Any change of any file, parts of the directory in their shares.
    pub fn random(random: &mut StdRng, targets: &[Target]) -> anyhow::Result<Self> {
        let mut lot = random.random_range(0..100);
        let chosen = PARTS.iter().find(|(_, share)| {
            let here = lot < *share;
            lot = lot.saturating_sub(*share);
            here
        });
        let of_part: Vec<_> =
            targets.iter().filter(|target| chosen.is_some_and(|c| c.0 == target.part)).collect();
        // A part that this directory has not gives its share to all.
        let choice = if of_part.is_empty() { targets.iter().collect() } else { of_part };
        anyhow::ensure!(!choice.is_empty(), "a data directory has files");
        let Target { part, file, bytes } = choice[random.random_range(0..choice.len())].clone();
        let byte = random.random_range(0..bytes);
        let change = match random.random_range(0..3) {
            0 => Change::Bit { byte, bit: random.random_range(0..8) },
            1 => Change::ZeroPage { from: byte / PAGE * PAGE },
            _ => Change::Truncate { to: byte },
        };
        Ok(Self { part, file, change })
    }

    /// Changes a directory.
    pub fn apply(&self, data: &Path) -> anyhow::Result<()> {
        let path = data.join(&self.file);
        let file = std::fs::File::options().read(true).write(true).open(&path);
        let file = file.with_context(|| format!("{} can't be changed", path.display()))?;
        use std::os::unix::fs::FileExt;
        match self.change {
            Change::Bit { byte, bit } => {
                let mut value = [0];
                file.read_exact_at(&mut value, byte)?;
                file.write_all_at(&[value[0] ^ 1 << bit], byte)?;
            }
            Change::ZeroPage { from } => {
                let bytes = PAGE.min(file.metadata()?.len() - from);
                file.write_all_at(&vec![0; bytes as usize], from)?;
            }
            Change::Truncate { to } => file.set_len(to)?,
        }
        Ok(())
    }
}
