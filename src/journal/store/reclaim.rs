//! Reclaiming disk space.
//!
//! fjall has no public call for this, so the keyspace's doc-hidden tree is reached here and
//! nowhere else. Off the writer thread only: a flush waits for fjall's workers.

use fjall::AbstractTree;

use super::Store;
use crate::journal::JournalError;
use crate::model::{Log, Sequence};

impl Store {
    /// Drops the tables that hold nothing but chunks before `floor`. Chunks in memory are written
    /// out first, else their tables would come later and stay.
    pub(in crate::journal) fn drop_chunks_before(
        &self,
        log: Log,
        floor: Sequence,
    ) -> Result<(), JournalError> {
        let keyspace = self.log(log);
        keyspace.rotate_memtable_and_wait()?;
        let range = 0u64.to_be_bytes()..floor.0.to_be_bytes();
        keyspace.tree.drop_range::<[u8; 8], _>(range).map_err(fjall::Error::from)?;
        Ok(())
    }

    /// Releases the dropped tables' files. fjall keeps them for as long as it knows an older
    /// version of the tree, and forgets those when a memtable is rotated, provided something was
    /// committed since.
    pub(in crate::journal) fn release_dropped(&self) -> Result<(), JournalError> {
        self.index.rotate_memtable()?;
        self.meta.rotate_memtable()?;
        Ok(())
    }

    /// Bytes that tables of a log's chunks take on disk.
    pub(in crate::journal) fn chunk_table_bytes(&self, log: Log) -> u64 {
        self.log(log).disk_space()
    }

    /// Full memtables that are being written as tables, or wait for that.
    pub(in crate::journal) fn sealed_memtables(&self) -> usize {
        let keyspaces = self.logs.iter().chain([&self.index, &self.meta]);
        keyspaces.map(|keyspace| keyspace.sealed_memtable_count()).sum()
    }

    /// Bytes written and not yet in tables: what the disk must still have room for.
    pub(in crate::journal) fn unflushed_bytes(&self) -> u64 {
        self.database.write_buffer_size()
    }
}
