//! The durable watermark: two small files outside fjall that say how far the journal is safe.
//!
//! `DIR/durable` is written after every commit, and synced at most a second later and at a stop.
//! Recovery needs it to distinguish a torn tail, which was not acknowledged, from damage to
//! acknowledged commits; and to know whether the process was killed, which loses nothing, or the
//! power failed.
//!
//! The state serves this. Before `durable` is synced it is marked [`State::Image`], right after the
//! sync [`State::Live`], and that is not synced. A process that is killed leaves `Live`, for the
//! kernel still holds the page; a loss of power leaves the image, or another boot id, or a count of
//! commits that does not fit fjall's WAL. While `durable` is an image, `DIR/live` is the live one,
//! so that a kill finds one of them at any moment. A stop leaves [`State::Clean`]. Both hold
//!
//! ```text
//! magic "weirmark" · version u32 = 4 · state u32 · boot id 16 bytes · journal u64 · commits u64 ·
//! durable_commits u64 · next_sequence of both logs 2 × u64 · next_owner u32 · age_ms u64 · crc u32
//! ```
//!
//! Version 3 has no age. The age is written periodically while nothing is committed, so that time
//! in which the broker only ran counts.
//!
//! Invariants: `durable_commits` never claims more than a sync has proven; an unreadable file
//! counts as missing, and means that something may have been lost.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};

use super::JournalError;
use super::files::sync_folder;
use super::format::positions::Positions;
use crate::model::Log;

/// The file's name in the data directory.
pub(super) const FILE_NAME: &str = "durable";
/// The name of the one that stands in for it while it is synced.
const LIVE_NAME: &str = "live";

/// How long its content may stay unsynced.
const SYNC_WITHIN: Duration = Duration::from_secs(1);

const MAGIC: &[u8; 8] = b"weirmark";
const VERSION: u32 = 4;
const BYTES: usize = 88;
/// Version 3, which is read, too.
const BYTES_3: usize = 80;
const CRC_BYTES: usize = 4;

/// The state of the last end, by a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// Written and not synced: the process died, the machine did not.
    Live = 1,
    /// What a loss of power leaves.
    Image = 2,
    /// The journal was closed, everything synced.
    Clean = 3,
}

/// How far the journal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// Commits written.
    pub(super) commits: u64,
    /// Commits that a sync has proven durable.
    pub(super) durable_commits: u64,
    /// The next chunk's sequence in each log.
    pub(super) next_sequences: [u64; 2],
    /// The next owner's number.
    pub(super) next_owner: u32,
    /// How old the journal is.
    pub(super) age_ms: u64,
}

impl Extent {
    /// From the positions of the last commit.
    pub(super) fn of(positions: &Positions) -> Self {
        Self {
            commits: positions.commits,
            durable_commits: positions.durable_commits,
            next_sequences: Log::ALL.map(|log| positions.log(log).next_sequence),
            next_owner: positions.next_owner,
            age_ms: positions.age_ms,
        }
    }
}

/// The files' state when the journal was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    durable: Option<Mark>,
    live: Option<Mark>,
}

impl Marks {
    /// The files' contents, as far as they can be trusted.
    pub(super) fn read(directory: &Path) -> Result<Self, JournalError> {
        let read = |name| Mark::read(&directory.join(name));
        Ok(Self { durable: read(FILE_NAME)?, live: read(LIVE_NAME)? })
    }

    /// Commits known to be durable; `None` when no file has them.
    pub(super) fn durable_commits(&self) -> Option<u64> {
        self.extents().map(|extent| extent.durable_commits).max()
    }

    /// The journal's own number, if a file has it.
    pub(super) fn journal(&self) -> Option<u64> {
        self.durable.or(self.live).map(|mark| mark.journal)
    }

    /// The next chunk's sequence in each log, as far as is known.
    pub(super) fn next_sequences(&self) -> [u64; 2] {
        Log::ALL.map(|log| {
            self.extents().map(|extent| extent.next_sequences[log as usize]).max().unwrap_or(0)
        })
    }

    /// The next owner's number, as far as is known.
    pub(super) fn next_owner(&self) -> u32 {
        self.extents().map(|extent| extent.next_owner).max().unwrap_or(0)
    }

    /// How old the journal was at the least.
    pub(super) fn age_ms(&self) -> u64 {
        self.extents().map(|extent| extent.age_ms).max().unwrap_or(0)
    }

    /// Whether everything written before survived: `commits` is what fjall's WAL holds.
    pub(super) fn prove_complete(&self, commits: u64, boot_id: [u8; 16]) -> bool {
        let closed = |mark: &Mark| mark.state == State::Clean && mark.extent.commits == commits;
        // The mark is written after the commit, so a kill in between leaves it one behind.
        let same_boot = |mark: &Mark| {
            let written = mark.extent.commits..=mark.extent.commits + 1;
            let known = mark.boot_id == boot_id && boot_id != NO_BOOT;
            mark.state == State::Live && known && written.contains(&commits)
        };
        self.durable.as_ref().is_some_and(closed)
            || self.durable.iter().chain(&self.live).any(same_boot)
    }

    #[cfg(test)]
    pub(super) fn of(journal: u64, extent: Extent) -> Self {
        let mark = Mark { state: State::Live, boot_id: NO_BOOT, journal, extent };
        Self { durable: Some(mark), live: None }
    }

    fn extents(&self) -> impl Iterator<Item = Extent> {
        self.durable.into_iter().chain(self.live).map(|mark| mark.extent)
    }
}

/// The content of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    state: State,
    boot_id: [u8; 16],
    journal: u64,
    extent: Extent,
}

impl Mark {
    fn read(path: &Path) -> Result<Option<Self>, JournalError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(JournalError::Directory { path: path.to_owned(), error: Arc::new(error) })
            }
        }
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut out = Vec::with_capacity(BYTES);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.state as u32);
        out.put_slice(&self.boot_id);
        out.put_u64_le(self.journal);
        out.put_u64_le(self.extent.commits);
        out.put_u64_le(self.extent.durable_commits);
        self.extent.next_sequences.iter().for_each(|next| out.put_u64_le(*next));
        out.put_u32_le(self.extent.next_owner);
        out.put_u64_le(self.extent.age_ms);
        out.put_u32_le(crc32c::crc32c(&out));
        out.try_into().expect("the fields fill it exactly")
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if !matches!(bytes.len(), BYTES | BYTES_3) || !bytes.starts_with(MAGIC) {
            return None;
        }
        let (fields, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        if crc32c::crc32c(fields).to_le_bytes() != crc {
            return None;
        }
        let mut rest = &fields[MAGIC.len()..];
        match (rest.get_u32_le(), bytes.len()) {
            (VERSION, BYTES) | (3, BYTES_3) => {}
            _ => return None,
        }
        let state = match rest.get_u32_le() {
            1 => State::Live,
            2 => State::Image,
            3 => State::Clean,
            _ => return None,
        };
        let mut boot_id = [0; 16];
        rest.copy_to_slice(&mut boot_id);
        let journal = rest.get_u64_le();
        let commits = rest.get_u64_le();
        let durable_commits = rest.get_u64_le();
        let next_sequences = [rest.get_u64_le(), rest.get_u64_le()];
        let next_owner = rest.get_u32_le();
        let age_ms = rest.try_get_u64_le().unwrap_or(0);
        let extent = Extent { commits, durable_commits, next_sequences, next_owner, age_ms };
        Some(Self { state, boot_id, journal, extent })
    }
}

/// The files while the journal is open. Only the writer writes them.
#[derive(Debug)]
pub(super) struct Watermark {
    path: PathBuf,
    durable: File,
    live: File,
    boot_id: [u8; 16],
    journal: u64,
    /// When the last image was made.
    imaged: Instant,
    /// The last extent noted.
    noted: Extent,
    /// It was noted since.
    unsynced: bool,
}

impl Watermark {
    /// Opens or makes the files and leaves an image of `extent` in them.
    pub(super) fn create(
        directory: &Path,
        boot_id: [u8; 16],
        journal: u64,
        extent: Extent,
    ) -> Result<Self, JournalError> {
        let path = directory.join(FILE_NAME);
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            // A shorter one is of an earlier version, and stays as it is until it is written.
            if file.metadata()?.len() > BYTES as u64 {
                file.set_len(BYTES as u64)?;
            }
            Ok::<_, std::io::Error>(file)
        };
        let opened =
            open(&path).and_then(|durable| Ok((durable, open(&directory.join(LIVE_NAME))?)));
        let (durable, live) = opened
            .map_err(|e| JournalError::Directory { path: path.clone(), error: Arc::new(e) })?;
        let imaged = Instant::now();
        let mut watermark =
            Self { path, durable, live, boot_id, journal, imaged, noted: extent, unsynced: false };
        watermark.image(extent)?;
        // New files reach the disk with any sync: their content must be an image.
        let synced = watermark.live.sync_all().and_then(|()| watermark.durable.sync_all());
        let synced = synced.and_then(|()| sync_folder(&watermark.path));
        synced.map_err(|e| watermark.failed(e))?;
        watermark.image(extent)?;
        Ok(watermark)
    }

    /// Notes how far the journal is now; to be called before any request is answered.
    pub(super) fn note(&mut self, extent: Extent) -> Result<(), JournalError> {
        if self.imaged.elapsed() >= SYNC_WITHIN {
            // The live mark may have reached the disk meanwhile.
            return self.image(extent);
        }
        (self.noted, self.unsynced) = (extent, true);
        self.write(&self.durable, State::Live, extent)
    }

    /// Notes how old the journal is, for a kill; a loss of power may forget it.
    pub(super) fn note_age(&mut self, age_ms: u64) -> Result<(), JournalError> {
        self.noted.age_ms = age_ms;
        self.write(&self.durable, State::Live, self.noted)
    }

    /// When it must be synced, if nothing is noted before.
    pub(super) fn sync_at(&self) -> Option<Instant> {
        self.unsynced.then(|| self.imaged + SYNC_WITHIN)
    }

    /// Makes what was noted durable.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        if self.unsynced { self.image(self.noted) } else { Ok(()) }
    }

    /// Leaves an image on the disk, and a live mark in memory all the while.
    fn image(&mut self, extent: Extent) -> Result<(), JournalError> {
        self.write(&self.live, State::Live, extent)?;
        self.write(&self.durable, State::Image, extent)?;
        self.durable.sync_data().map_err(|e| self.failed(e))?;
        self.write(&self.durable, State::Live, extent)?;
        self.write(&self.live, State::Image, extent)?;
        self.imaged = Instant::now();
        (self.noted, self.unsynced) = (extent, false);
        Ok(())
    }

    /// Records, durably, that everything up to here is synced and nothing follows.
    pub(super) fn close(&mut self, extent: Extent) -> Result<(), JournalError> {
        self.unsynced = false;
        self.write(&self.durable, State::Clean, extent)?;
        self.durable.sync_all().map_err(|e| self.failed(e))
    }

    fn write(&self, file: &File, state: State, extent: Extent) -> Result<(), JournalError> {
        let bytes = Mark { state, boot_id: self.boot_id, journal: self.journal, extent }.encode();
        file.write_all_at(&bytes, 0).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: std::io::Error) -> JournalError {
        JournalError::Directory { path: self.path.clone(), error: Arc::new(error) }
    }
}

/// Stands for a boot that the kernel does not report; it never equals another one.
const NO_BOOT: [u8; 16] = [0; 16];

/// The number of this boot of the machine; [`NO_BOOT`] if the kernel does not report it.
pub(super) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).unwrap_or_default().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: [u8; 16] = [7; 16];
    const EXTENT: Extent = Extent {
        commits: 9,
        durable_commits: 8,
        next_sequences: [20, 7],
        next_owner: 3,
        age_ms: 50,
    };

    #[test]
    fn a_killed_process_leaves_a_live_mark_and_a_stop_a_clean_one() {
        let directory = tempfile::tempdir().unwrap();
        let marks = || Marks::read(directory.path()).unwrap();
        assert_eq!(marks(), Marks::default());
        assert!(!marks().prove_complete(0, BOOT));
        let mut watermark =
            Watermark::create(directory.path(), BOOT, 3, Extent::default()).unwrap();
        watermark.note(EXTENT).unwrap();
        assert_eq!((marks().durable_commits(), marks().next_sequences()), (Some(8), [20, 7]));
        assert_eq!(marks().journal(), Some(3));
        assert!(marks().prove_complete(9, BOOT) && marks().prove_complete(10, BOOT));
        assert!(!marks().prove_complete(8, BOOT), "a commit is missing");
        assert!(!marks().prove_complete(11, BOOT), "the mark is too old for this WAL");
        assert!(!marks().prove_complete(9, [8; 16]), "another boot");
        watermark.note_age(70).unwrap();
        assert_eq!((marks().age_ms(), marks().durable_commits()), (70, Some(8)));
        assert!(marks().prove_complete(9, BOOT), "it was killed while it was idle");
        watermark.close(EXTENT).unwrap();
        assert!(marks().prove_complete(9, [8; 16]) && !marks().prove_complete(8, BOOT));
    }

    #[test]
    fn what_power_loss_leaves_proves_nothing() {
        let image = Mark { state: State::Image, boot_id: BOOT, journal: 3, extent: EXTENT };
        let marks = Marks { durable: Some(image), live: Some(image) };
        assert_eq!(marks.durable_commits(), Some(8));
        assert!(!marks.prove_complete(9, BOOT));
        let live = Mark { state: State::Live, ..image };
        let marks = Marks { live: Some(live), ..marks };
        assert!(marks.prove_complete(9, BOOT), "a kill while the image is synced");
        let unknown = Mark { boot_id: NO_BOOT, ..live };
        let marks = Marks { durable: None, live: Some(unknown) };
        assert!(!marks.prove_complete(9, NO_BOOT), "a boot that is not known is never the same");
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mark = Mark { state: State::Live, boot_id: BOOT, journal: 3, extent: EXTENT };
        let mut bytes = mark.encode();
        for bit in 0..BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
