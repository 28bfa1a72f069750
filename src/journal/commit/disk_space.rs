//! Stopping before the disk is full.
//!
//! fjall ends for good at the first ENOSPC, so publishing is refused while there is still room for
//! what was taken: what is in memory and has yet to be written as tables, and
//! `storage.free_bytes_min` (an eighth of the file system, if that is less) to spare. Reads,
//! deletions and retention go on, and so does publishing once there is room again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::journal::store::Store;
use crate::journal::{AppendRefused, JournalError, StorageSettings};

/// How old a look at the disk may be.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How many bytes may be written before the next look.
const LOOK_AGAIN_BYTES: usize = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct DiskSpace {
    path: PathBuf,
    free_bytes_min: u64,
    looked: Option<Instant>,
    written: usize,
    refusal: Option<AppendRefused>,
}

impl DiskSpace {
    pub(super) fn new(settings: &StorageSettings) -> Self {
        let (path, free_bytes_min) = (settings.path.clone(), settings.free_bytes_min);
        Self { path, free_bytes_min, looked: None, written: 0, refusal: None }
    }

    /// Counts what was written.
    pub(super) fn written(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Why nothing more can be taken now, if so. Looks at the disk when the last look is old.
    pub(super) fn refusal(&mut self, store: &Store) -> Option<AppendRefused> {
        let recent = self.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN_AFTER);
        if !recent || self.written >= LOOK_AGAIN_BYTES {
            self.looked = Some(Instant::now());
            self.written = 0;
            self.look(store.unflushed_bytes());
        }
        self.refusal
    }

    /// When to look again without a request; only while the disk is full.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.refusal.as_ref().and(self.looked).map(|looked| looked + LOOK_AGAIN_AFTER)
    }

    fn look(&mut self, unflushed: u64) {
        let was_full = self.refusal.is_some();
        self.refusal = match free_and_total(&self.path) {
            Ok((free, total)) => {
                let needed = self.free_bytes_min.min(total / 8).saturating_add(unflushed);
                (free < needed).then_some(AppendRefused::StorageFull { free, needed })
            }
            // A file system that does not tell is not a full one.
            Err(_) => None,
        };
        match &self.refusal {
            Some(why) if !was_full => tracing::error!(%why, "publishing is refused"),
            None if was_full => tracing::info!("there is room on the disk again"),
            _ => {}
        }
    }
}

/// Bytes that are free for us, and bytes there are.
fn free_and_total(path: &Path) -> Result<(u64, u64), JournalError> {
    let found = rustix::fs::statvfs(path).map_err(|error| JournalError::Directory {
        path: path.to_owned(),
        error: std::sync::Arc::new(error.into()),
    })?;
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_too_little_room_is_full_and_says_how_much_is_missing() {
        let settings = StorageSettings { path: "/".into(), ..StorageSettings::default() };
        let mut space = DiskSpace::new(&settings);
        let (_, total) = free_and_total(&space.path).unwrap();
        space.look(0);
        assert!(space.refusal.is_none());
        space.look(total + 1);
        let Some(AppendRefused::StorageFull { free, needed }) = space.refusal else { panic!() };
        assert!(free < needed);
        space.look(0);
        assert!(space.refusal.is_none(), "it goes on by itself");
    }
}
