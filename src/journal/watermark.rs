//! The durable watermark: a small file outside fjall that says how far the journal is safe.
//!
//! `DIR/durable`, 64 bytes, written in place after every commit and itself synced at most a second
//! later and at a stop. Recovery needs it to tell a torn tail, which nobody was promised, from
//! damage to what was; and to know whether the power was lost or only the process died:
//!
//! ```text
//! magic "weirmark" · version u32 = 1 · state u32 · boot id 16 bytes · commits u64 ·
//! durable_commits u64 · next_sequence u64 · crc u32 · reserved u32
//! ```
//!
//! The state is the trick. Before the file is synced it is marked [`State::Image`], right after
//! the sync [`State::Live`], which is not synced. A process that is killed leaves `Live`, as the
//! kernel still holds the page; a loss of power leaves the image, or another boot id, or a count
//! of commits that does not fit fjall's WAL. A stop in order leaves [`State::Clean`].
//!
//! Invariants: `durable_commits` never claims more than a sync has proven; a file that can't be
//! read is as good as none, and means that something may have been lost.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};

use super::JournalError;
use super::salvage::sync_folder;

/// Its name in the data directory.
pub(super) const FILE_NAME: &str = "durable";

/// How long what it says may stand unsynced.
const SYNC_WITHIN: Duration = Duration::from_secs(1);

const MAGIC: &[u8; 8] = b"weirmark";
const VERSION: u32 = 1;
const BYTES: usize = 64;
const CRC_AT: usize = 56;

/// What a file that is found says of the end before.
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
    /// The next chunk's sequence.
    pub(super) next_sequence: u64,
}

/// What the file said when the journal was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) state: State,
    pub(super) boot_id: [u8; 16],
    pub(super) extent: Extent,
}

impl Mark {
    /// The file's content; `None` when there is none that can be trusted.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, JournalError> {
        let path = directory.join(FILE_NAME);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JournalError::Directory { path, error: Arc::new(error) }),
        }
    }

    /// Whether all that was written before is there: `commits` is what fjall's WAL holds.
    pub(super) fn proves_complete(&self, commits: u64, boot_id: [u8; 16]) -> bool {
        match self.state {
            State::Clean => commits == self.extent.commits,
            // The mark is written after the commit, so a kill in between leaves it one behind.
            State::Live => {
                self.boot_id == boot_id
                    && (self.extent.commits..=self.extent.commits + 1).contains(&commits)
            }
            State::Image => false,
        }
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut out = Vec::with_capacity(BYTES);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.state as u32);
        out.put_slice(&self.boot_id);
        out.put_u64_le(self.extent.commits);
        out.put_u64_le(self.extent.durable_commits);
        out.put_u64_le(self.extent.next_sequence);
        out.put_u32_le(crc32c::crc32c(&out));
        out.put_u32_le(0);
        out.try_into().expect("the fields fill it exactly")
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != BYTES || !bytes.starts_with(MAGIC) {
            return None;
        }
        let crc = u32::from_le_bytes(bytes[CRC_AT..CRC_AT + 4].try_into().ok()?);
        if crc32c::crc32c(&bytes[..CRC_AT]) != crc {
            return None;
        }
        let mut rest = &bytes[MAGIC.len()..];
        if rest.get_u32_le() != VERSION {
            return None;
        }
        let state = match rest.get_u32_le() {
            1 => State::Live,
            2 => State::Image,
            3 => State::Clean,
            _ => return None,
        };
        let mut boot_id = [0; 16];
        rest.copy_to_slice(&mut boot_id);
        let commits = rest.get_u64_le();
        let durable_commits = rest.get_u64_le();
        let next_sequence = rest.get_u64_le();
        Some(Self { state, boot_id, extent: Extent { commits, durable_commits, next_sequence } })
    }
}

/// The file while the journal is open. Only the writer writes it.
#[derive(Debug)]
pub(super) struct Watermark {
    path: PathBuf,
    file: File,
    boot_id: [u8; 16],
    /// What was last written and is not synced yet, and since when.
    unsynced: Option<(Extent, Instant)>,
}

impl Watermark {
    /// Opens or makes the file and leaves a synced image of `extent` in it.
    pub(super) fn create(
        directory: &Path,
        boot_id: [u8; 16],
        extent: Extent,
    ) -> Result<Self, JournalError> {
        let path = directory.join(FILE_NAME);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let opened = opened.and_then(|file| {
            file.set_len(BYTES as u64)?;
            Ok(file)
        });
        let file = opened
            .map_err(|e| JournalError::Directory { path: path.clone(), error: Arc::new(e) })?;
        let watermark = Self { path, file, boot_id, unsynced: None };
        watermark.write(State::Image, extent)?;
        let synced = watermark.file.sync_all().and_then(|()| sync_folder(&watermark.path));
        synced.map_err(|e| watermark.failed(e))?;
        watermark.write(State::Live, extent)?;
        Ok(watermark)
    }

    /// Notes how far the journal is now.
    pub(super) fn note(&mut self, extent: Extent) -> Result<(), JournalError> {
        self.write(State::Live, extent)?;
        let since = self.unsynced.map_or_else(Instant::now, |(_, since)| since);
        self.unsynced = Some((extent, since));
        if since.elapsed() >= SYNC_WITHIN { self.sync() } else { Ok(()) }
    }

    /// When it wants to be synced, should nothing be noted before.
    pub(super) fn sync_at(&self) -> Option<Instant> {
        self.unsynced.map(|(_, since)| since + SYNC_WITHIN)
    }

    /// Makes what was noted durable.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        let Some((extent, _)) = self.unsynced.take() else { return Ok(()) };
        self.write(State::Image, extent)?;
        self.file.sync_data().map_err(|e| self.failed(e))?;
        self.write(State::Live, extent)
    }

    /// Says, durably, that everything up to here is synced and nothing follows.
    pub(super) fn close(&mut self, extent: Extent) -> Result<(), JournalError> {
        self.unsynced = None;
        self.write(State::Clean, extent)?;
        self.file.sync_all().map_err(|e| self.failed(e))
    }

    fn write(&self, state: State, extent: Extent) -> Result<(), JournalError> {
        let bytes = Mark { state, boot_id: self.boot_id, extent }.encode();
        self.file.write_all_at(&bytes, 0).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: std::io::Error) -> JournalError {
        JournalError::Directory { path: self.path.clone(), error: Arc::new(error) }
    }
}

/// The number this boot of the machine has; all zeros where the kernel does not tell.
pub(super) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).unwrap_or_default().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: [u8; 16] = [7; 16];
    const EXTENT: Extent = Extent { commits: 9, durable_commits: 8, next_sequence: 20 };

    #[test]
    fn a_killed_process_leaves_a_live_mark_and_a_stop_a_clean_one() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(directory.path()).unwrap(), None);
        let mut watermark = Watermark::create(directory.path(), BOOT, Extent::default()).unwrap();
        watermark.note(EXTENT).unwrap();
        let mark = Mark::read(directory.path()).unwrap().unwrap();
        assert_eq!(mark, Mark { state: State::Live, boot_id: BOOT, extent: EXTENT });
        assert!(mark.proves_complete(9, BOOT) && mark.proves_complete(10, BOOT));
        assert!(!mark.proves_complete(8, BOOT), "a commit is missing");
        assert!(!mark.proves_complete(11, BOOT), "the mark is too old for this WAL");
        assert!(!mark.proves_complete(9, [8; 16]), "another boot");
        watermark.close(EXTENT).unwrap();
        let mark = Mark::read(directory.path()).unwrap().unwrap();
        assert!(mark.proves_complete(9, [8; 16]) && !mark.proves_complete(8, BOOT));
    }

    #[test]
    fn what_power_loss_leaves_proves_nothing_and_a_flipped_bit_is_noticed() {
        let mark = Mark { state: State::Image, boot_id: BOOT, extent: EXTENT };
        assert!(!mark.proves_complete(9, BOOT));
        let mut bytes = mark.encode();
        for bit in 0..(CRC_AT + 4) * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
