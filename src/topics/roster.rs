//! The roster: the list of topics, stored a second time, outside fjall.
//!
//! A topic's record is one small value. If damage destroyed it with all of the topic's messages,
//! nothing in the journal would show that the topic ever existed. So `DIR/topics` has a line a
//! topic, `crc32c as 8 hex digits · space · JSON`, appended and synced before the commit that
//! creates it (or before the one that deletes it), and sorted out at every start.
//!
//! Invariants: it is read only if `salvage` has found that durable commits are missing; it may list
//! a topic too many (a crash before the commit), never one too few; a line that can't be read is
//! skipped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::TopicRecord;
use crate::journal::{JournalError, sync_folder};
use crate::model::{TopicId, TopicName};

/// Its name in the data directory.
pub(super) const FILE_NAME: &str = "topics";

/// A topic as the roster lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) id: TopicId,
    pub(super) name: TopicName,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// The file while the journal is open. Only the writer writes it.
#[derive(Debug)]
pub(super) struct Roster {
    path: PathBuf,
    file: File,
}

/// The existing topics in the roster.
pub(super) fn listed(directory: &Path) -> Result<Vec<Listed>, JournalError> {
    let path = directory.join(FILE_NAME);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JournalError::Directory { path, error: Arc::new(error) }),
    };
    let listed = text.split(|byte| *byte == b'\n').filter_map(parse);
    // The last line of each counts.
    let topics: BTreeMap<_, _> = listed.map(|listed| (listed.id, listed)).collect();
    Ok(topics.into_values().filter(|topic| !topic.deleted).collect())
}

fn parse(line: &[u8]) -> Option<Listed> {
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    (crc == crc32c::crc32c(json)).then(|| serde_json::from_slice(json).ok()).flatten()
}

fn line(listed: &Listed) -> String {
    let json = serde_json::to_string(listed).expect("a listed topic is plain data");
    format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()))
}

impl Roster {
    /// Rewrites the roster with these topics, if it differs, and opens it.
    pub(super) fn create<'a>(
        directory: &Path,
        topics: impl Iterator<Item = &'a TopicRecord>,
    ) -> Result<Self, JournalError> {
        let path = directory.join(FILE_NAME);
        let mut lines: Vec<_> = topics.map(|record| line(&Listed::of(record, false))).collect();
        lines.sort_unstable();
        let text = lines.concat();
        // On a full disk nothing can be written, and nothing has to be.
        let same = std::fs::read(&path).is_ok_and(|found| found == text.as_bytes());
        let write = || {
            if !same {
                let new = path.with_extension("new");
                let mut file = File::create(&new)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&new, &path)?;
                sync_folder(&path)?;
            }
            OpenOptions::new().append(true).open(&path)
        };
        let file = write().map_err(|error| failed(&path, error))?;
        Ok(Self { path, file })
    }

    /// Lists topics that are new and, marked so, deleted ones; durable when it returns.
    pub(super) fn note(&mut self, topics: &[(TopicRecord, bool)]) -> Result<(), JournalError> {
        let text: String =
            topics.iter().map(|(record, deleted)| line(&Listed::of(record, *deleted))).collect();
        let append = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        append.map_err(|error| failed(&self.path, error))
    }
}

impl Listed {
    fn of(record: &TopicRecord, deleted: bool) -> Self {
        Self { id: record.id, name: record.name.clone(), deleted }
    }
}

fn failed(path: &Path, error: io::Error) -> JournalError {
    JournalError::Directory { path: path.to_owned(), error: Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, TopicSettings};

    fn record(id: u32, name: &str) -> TopicRecord {
        let name = TopicName::new(name).unwrap();
        TopicRecord::new(TopicId(id), name, Epoch::FIRST, TopicSettings::default())
    }

    fn names(directory: &Path) -> Vec<String> {
        let listed = listed(directory).unwrap();
        listed.iter().map(|listed| listed.name.to_string()).collect()
    }

    #[test]
    fn topics_are_listed_until_they_are_deleted_and_a_torn_line_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(names(path).is_empty());
        let mut roster = Roster::create(path, [record(0, "a")].iter()).unwrap();
        roster.note(&[(record(1, "b"), false), (record(2, "c"), false)]).unwrap();
        roster.note(&[(record(0, "a"), true)]).unwrap();
        assert_eq!(names(path), ["b", "c"]);
        let mut text = std::fs::read(path.join(FILE_NAME)).unwrap();
        text.truncate(text.len() - 3);
        let at = text.iter().position(|byte| *byte == b'b').unwrap();
        std::fs::write(path.join(FILE_NAME), &text).unwrap();
        assert_eq!(names(path), ["a", "b", "c"], "the deletion is torn");
        text[at] = b'x';
        std::fs::write(path.join(FILE_NAME), &text).unwrap();
        assert_eq!(names(path), ["a", "c"]);
    }
}
