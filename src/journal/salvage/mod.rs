//! Before fjall opens: its files are checked, its WAL is repaired, and what was lost is reported.
//!
//! fjall silently drops the rest of a WAL after a byte it does not understand, refuses the whole
//! directory on most others, and refuses even a torn tail that was never synced (DESIGN §4). So the
//! WAL is read first by `wal`, `plan` decides, and if something is wrong the file is written anew
//! with every batch that is complete. Durable commits that are missing are reported as [`Hole`]s;
//! `recovery` finds out what they took with them.
//!
//! Invariants: a file is copied to `DIR/aside` before it is changed; nothing is ever deleted; at
//! any moment a crash leaves either the old file or the new one; batches beyond the durable
//! watermark that survived are written again and synced, since after a failed sync the kernel may
//! take pages for clean that never reached the disk.

pub(super) mod manifest;
mod plan;
pub(super) mod wal;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) use plan::Hole;
use plan::{FoundFile, Kept, Plan};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use wal::Piece;

use super::JournalError;
use super::files::sync_folder;
use super::watermark::Marks;

/// The folder for files that were found damaged, in the data directory.
pub(super) const ASIDE: &str = "aside";

/// The WAL's state.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// Durable commits that are missing.
    pub(super) holes: Vec<Hole>,
    /// Commits up to here are known to be durable.
    pub(super) durable_commits: u64,
}

/// Repairs the WAL of the database in `DIR/journal`, by the watermark files.
///
/// # Errors
/// A file can't be read or written, or the WAL has no batch of this journal.
pub(super) fn salvage(directory: &Path, marks: &Marks) -> Result<Salvaged, JournalError> {
    let paths = wal_files(&directory.join("journal"))?;
    let mut found = Vec::new();
    for path in &paths {
        // One file at a time, so that memory is bounded by one.
        let bytes = read(path)?;
        found.push(FoundFile { pieces: wal::scan(&bytes) });
    }
    let durable_commits = marks.durable_commits();
    let plan = plan::plan(&found, durable_commits.unwrap_or(0), marks.journal());
    let strange = found.iter().zip(&paths).find(|(file, _)| !file.pieces.is_empty());
    if let (Some((_, path)), None, None) = (strange, plan.last, durable_commits) {
        let what = "holds nothing that this version of weir wrote".into();
        return Err(JournalError::BadFile { path: path.clone(), what });
    }
    let mut aside = Aside::new(directory);
    for ((path, file), kept) in paths.iter().zip(&found).zip(&plan.files) {
        put_right(path, file, kept, plan.durable, &mut aside)?;
    }
    report(&plan, &aside);
    Ok(Salvaged { holes: plan.holes, durable_commits: plan.durable })
}

/// fjall's WAL files, oldest first.
pub(super) fn wal_files(database: &Path) -> Result<Vec<PathBuf>, JournalError> {
    Ok(numbered_wal_files(database)?.into_iter().map(|(_, path)| path).collect())
}

/// The number of the WAL file that fjall writes to; `None` where there is none.
pub(super) fn newest_wal_file(database: &Path) -> Result<Option<u64>, JournalError> {
    Ok(numbered_wal_files(database)?.last().map(|(number, _)| *number))
}

fn numbered_wal_files(database: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let entries = std::fs::read_dir(database).map_err(|e| failed(database, e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed(database, e))?.path();
        let number =
            path.extension().is_some_and(|e| e == "jnl").then(|| path.file_stem()).flatten();
        if let Some(number) = number.and_then(|stem| stem.to_str()?.parse::<u64>().ok()) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

/// What the WAL's older files take on the disk, whose content becomes tables when fjall opens; 0 if
/// there are none.
pub(super) fn older_wal_bytes(directory: &Path) -> u64 {
    let files = wal_files(&directory.join("journal")).unwrap_or_default();
    let older = files.split_last().map_or(&[][..], |(_, older)| older);
    // Most of a file is a hole that fjall preallocates.
    let found = older.iter().filter_map(|path| std::fs::metadata(path).ok());
    found.map(|file| file.blocks() * 512).sum()
}

fn put_right(
    path: &Path,
    found: &FoundFile,
    kept: &[Kept],
    durable: u64,
    aside: &mut Aside,
) -> Result<(), JournalError> {
    let as_found = |(piece, kept): (&Piece, &Kept)| match piece {
        Piece::Batch(batch) => *batch == kept.batch && batch.intact && batch.seqno == kept.seqno,
        Piece::Damage(_) => false,
    };
    let prefix = found.pieces.iter().zip(kept).take_while(|pair| as_found(*pair)).count();
    if prefix < kept.len() {
        aside.keep(path)?;
        return write_anew(path, kept);
    }
    let end = kept.last().map_or(0, |kept| kept.batch.range.end);
    if kept.is_empty() && !found.pieces.is_empty() {
        // No file is left empty: that would look like one whose content was lost.
        aside.keep(path)?;
        return std::fs::remove_file(path)
            .and_then(|()| sync_folder(path))
            .map_err(|e| failed(path, e));
    }
    if found.pieces.len() > kept.len() {
        aside.keep_from(path, end)?;
        let file = OpenOptions::new().write(true).open(path).map_err(|e| failed(path, e))?;
        file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(|e| failed(path, e))?;
    }
    let beyond = kept.iter().find(|kept| kept.batch.positions.commits > durable);
    match beyond {
        Some(first) => write_again(path, first.batch.range.start..end),
        None => Ok(()),
    }
}

/// Writes the same bytes to the same place and syncs them.
fn write_again(path: &Path, range: Range<usize>) -> Result<(), JournalError> {
    let bytes = read(path)?;
    let rewrite = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&bytes[range.clone()], range.start as u64)?;
        file.sync_all()
    };
    rewrite().map_err(|e| failed(path, e))
}

/// Writes the batches that stay as a file of their own, which then replaces the old one.
fn write_anew(path: &Path, kept: &[Kept]) -> Result<(), JournalError> {
    let bytes = read(path)?;
    let mut content = Vec::with_capacity(bytes.len());
    for Kept { batch, seqno } in kept {
        wal::put_batch(&mut content, &bytes[batch.items.clone()], batch.item_count, *seqno);
    }
    let new = path.with_extension("salvaged");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        sync_folder(path)
    };
    write().map_err(|e| failed(path, e))
}

/// Copies files unchanged.
struct Aside {
    folder: PathBuf,
    stamp: u128,
    kept: Vec<PathBuf>,
}

impl Aside {
    fn new(directory: &Path) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { folder: directory.join(ASIDE), stamp: since_epoch.as_millis(), kept: Vec::new() }
    }

    fn keep(&mut self, path: &Path) -> Result<(), JournalError> {
        self.keep_from(path, 0)
    }

    /// Copies what follows this byte, if nothing before it changes: a full disk may have no room
    /// for more.
    fn keep_from(&mut self, path: &Path, from: usize) -> Result<(), JournalError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = if from > 0 { format!("-from-{from}") } else { String::new() };
        let copy = self.folder.join(format!("{}-{name}{place}", self.stamp));
        let keep = || {
            std::fs::create_dir_all(&self.folder)?;
            // A copy, not a link: the file may be cut in place.
            let bytes = read(path).map_err(io::Error::other)?;
            copy_used(bytes.get(from..).unwrap_or_default(), &copy)?;
            sync_folder(&copy)
        };
        keep().map_err(|e| failed(&copy, e))?;
        self.kept.push(copy);
        Ok(())
    }
}

/// Writes a file without the zeros at its end.
fn copy_used(bytes: &[u8], to: &Path) -> io::Result<()> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut file = File::create(to)?;
    file.write_all(&bytes[..used])?;
    file.sync_all()
}

/// A file up to the end of its last data: of the 64 MiB that fjall reserves for a WAL file most
/// are a hole that was never written.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, JournalError> {
    let read = || {
        let file = File::open(path)?;
        let mut bytes = vec![0; usize::try_from(data_end(&file)?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(|e| failed(path, e))
}

fn data_end(file: &File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut end = 0;
    while end < len {
        match seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = seek(file, SeekFrom::Hole(data))?,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            // A file system that does not report holes.
            Err(_) => return Ok(len),
        }
    }
    Ok(end)
}

fn failed(path: &Path, error: io::Error) -> JournalError {
    JournalError::Directory { path: path.to_owned(), error: Arc::new(error) }
}

fn report(plan: &Plan, aside: &Aside) {
    for path in &aside.kept {
        tracing::warn!(?path, "a file of the store's log was repaired; this is how it was");
    }
    if plan.cut_batches > 0 {
        let batches = plan.cut_batches;
        tracing::warn!(batches, "commits that were never durable followed a hole and are dropped");
    }
    for hole in &plan.holes {
        let (from, to) = hole.commits.clone().into_inner();
        tracing::error!(from, to, "durable commits are missing from the store's log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::salvage::wal::tests::sample;
    use crate::journal::watermark::Extent;

    fn marks(durable_commits: u64) -> Marks {
        Marks::of(0, Extent { commits: 9, durable_commits, ..Extent::default() })
    }

    fn directory(files: &[Vec<u8>]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("journal")).unwrap();
        for (n, content) in files.iter().enumerate() {
            std::fs::write(directory.path().join(format!("journal/{n}.jnl")), content).unwrap();
        }
        directory
    }

    fn content(directory: &tempfile::TempDir, n: usize) -> Vec<u8> {
        std::fs::read(directory.path().join(format!("journal/{n}.jnl"))).unwrap()
    }

    fn aside(directory: &tempfile::TempDir) -> usize {
        std::fs::read_dir(directory.path().join(ASIDE)).map_or(0, Iterator::count)
    }

    #[test]
    fn a_sound_wal_is_not_touched() {
        let files = [[sample(1, 0), sample(2, 1), vec![0; 4096]].concat(), sample(3, 2)];
        let directory = directory(&files);
        let salvaged = salvage(directory.path(), &marks(3)).unwrap();
        assert!(salvaged.holes.is_empty());
        assert_eq!(salvaged.durable_commits, 3);
        assert_eq!([content(&directory, 0), content(&directory, 1)], files);
        assert_eq!(aside(&directory), 0);
    }

    #[test]
    fn a_log_that_is_not_ours_is_refused_and_left_alone() {
        let directory = directory(&[vec![7; 500]]);
        assert!(salvage(directory.path(), &Marks::default()).is_err());
        assert_eq!((content(&directory, 0).len(), aside(&directory)), (500, 0));
        assert!(salvage(directory.path(), &marks(2)).is_ok(), "ours, and damaged as a whole");
    }

    #[test]
    fn a_torn_tail_is_cut_and_kept_aside() {
        let torn = [sample(1, 0), sample(2, 1), sample(3, 1)[..200].to_vec(), vec![0; 999]];
        let directory = directory(&[torn.concat()]);
        let salvaged = salvage(directory.path(), &marks(1)).unwrap();
        assert!(salvaged.holes.is_empty());
        assert_eq!(content(&directory, 0), [sample(1, 0), sample(2, 1)].concat());
        assert_eq!(aside(&directory), 1);
        salvage(directory.path(), &marks(1)).unwrap();
        assert_eq!(aside(&directory), 1, "once repaired it stays so");
    }

    #[test]
    fn damage_in_the_middle_leaves_every_whole_batch_and_is_reported() {
        let mut damaged = sample(2, 1);
        damaged[50] ^= 4;
        let directory = directory(&[[sample(1, 0), damaged, sample(3, 2)].concat()]);
        let salvaged = salvage(directory.path(), &marks(0)).unwrap();
        assert_eq!(salvaged.holes.len(), 1);
        assert_eq!(salvaged.holes[0].commits, 2..=2);
        assert_eq!(content(&directory, 0), [sample(1, 0), sample(3, 2)].concat());
        assert_eq!(aside(&directory), 1);
    }

    #[test]
    fn a_damaged_start_marker_is_mended() {
        let mut damaged = sample(2, 1);
        damaged[0] ^= 4;
        damaged[9] ^= 128;
        let directory = directory(&[[sample(1, 0), damaged, sample(3, 2)].concat()]);
        assert!(salvage(directory.path(), &marks(0)).unwrap().holes.is_empty());
        let pieces = wal::scan(&content(&directory, 0));
        let whole = |piece: &Piece| matches!(piece, Piece::Batch(batch) if batch.intact);
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(whole));
    }
}
