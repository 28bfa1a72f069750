//! The part of a snapshot that a copy needs, put aside in a file without a name, so that the
//! snapshot need not live for as long as a slow reader takes: fjall keeps every memtable since it
//! was taken, which is as much memory as is published meanwhile.
//!
//! State comes first, as frames ready to go out, then pages: key, length and value of each.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::journal::JournalError;
use crate::journal::index::{Page, PageStart};
use crate::model::StreamId;

/// Being written.
pub(super) struct SpoolWriter {
    file: BufWriter<File>,
    state_bytes: u64,
}

/// To be read once, in order.
pub(super) struct Spool {
    file: BufReader<File>,
    state_bytes_left: u64,
}

/// State is given so many bytes at a time.
const STATE_PIECE_BYTES: u64 = 64 * 1024;

fn failed(error: io::Error) -> JournalError {
    JournalError::Backup(Arc::new(error))
}

impl SpoolWriter {
    /// A new one, on the disk of this folder.
    pub(super) fn create_in(folder: &Path) -> Result<Self, JournalError> {
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        Ok(Self { file: BufWriter::new(file), state_bytes: 0 })
    }

    /// A frame of state; all of them before the first page.
    pub(super) fn state(&mut self, frame: &[u8]) -> Result<(), JournalError> {
        self.state_bytes += frame.len() as u64;
        self.file.write_all(frame).map_err(failed)
    }

    pub(super) fn page(&mut self, stream: StreamId, page: &Page) -> Result<(), JournalError> {
        let Some(start) = page.start() else { return Ok(()) };
        let key = Page::key(stream, start);
        let value = page.encode(&key);
        let mut write = || {
            self.file.write_all(&key)?;
            self.file.write_all(&(value.len() as u32).to_le_bytes())?;
            self.file.write_all(&value)
        };
        write().map_err(failed)
    }

    pub(super) fn finish(self) -> Result<Spool, JournalError> {
        let finished = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let mut file = finished.map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(Spool { file: BufReader::new(file), state_bytes_left: self.state_bytes })
    }
}

impl Spool {
    /// The next bytes of state; none once all have been given.
    pub(super) fn state(&mut self) -> Result<Option<Bytes>, JournalError> {
        let bytes = self.state_bytes_left.min(STATE_PIECE_BYTES);
        self.state_bytes_left -= bytes;
        let mut piece = vec![0; bytes as usize];
        self.file.read_exact(&mut piece).map_err(failed)?;
        Ok((bytes > 0).then(|| piece.into()))
    }

    /// The next page, once all state has been given.
    pub(super) fn page(&mut self) -> Result<Option<(StreamId, Page)>, JournalError> {
        let mut key = Page::key(StreamId(0), PageStart::at(0));
        if self.file.by_ref().take(1).read(&mut key[..1]).map_err(failed)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.file.read_exact(&mut key[1..]).map_err(failed)?;
        self.file.read_exact(&mut length).map_err(failed)?;
        let mut value = vec![0; u32::from_le_bytes(length) as usize];
        self.file.read_exact(&mut value).map_err(failed)?;
        let page = Page::decode(&key, &value).ok().zip(Page::parse_key(&key));
        let malformed = || failed(io::Error::from(io::ErrorKind::InvalidData));
        page.map(|(page, (stream, _))| Some((stream, page))).ok_or_else(malformed)
    }
}
