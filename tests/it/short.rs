//! The log of records that die young: its space comes back without copying, and damage in it is said.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::tempdir;
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{
    Findings, Journal, JournalError, JournalObserver, StorageSettings, StreamReadError,
};
use weir::model::{OwnerId, PlacedBlock, ReadLimits, StreamId};

use crate::retention::disk_bytes;
use crate::support::eventually;
use crate::units::copy;
use crate::units::machine::{Asked, Change, Small, payload};

const SHORT: usize = 1;

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    fn failed(&self, _: &JournalError) {}
}

fn open(directory: &Path, tolerant: bool) -> Result<(Journal<Small>, Findings), JournalError> {
    let settings = StorageSettings {
        path: directory.to_owned(),
        memtable_bytes: 1024 * 1024,
        retention_interval_ms: 100,
        ..StorageSettings::default()
    };
    let make = |_: &Path| Ok(Small { tolerant, ..Small::default() });
    let view = |machine: &Small| machine.findings.clone();
    Journal::open(&settings, Clock::system(), Arc::new(Ignored), make, view)
}

async fn owner(journal: &Journal<Small>) -> [StreamId; 2] {
    let (reply, answer) = oneshot::channel();
    journal.ask(Asked::Open(reply));
    answer.await.unwrap().streams
}

async fn change(journal: &Journal<Small>, owner: OwnerId, change: Change) {
    let (reply, answer) = oneshot::channel();
    journal.ask(Asked::Change(owner, change, reply));
    answer.await.unwrap().unwrap();
}

fn append(side: usize, length: u16) -> Change {
    Change { appends: vec![(side, vec![length], false)], ..Change::default() }
}

#[tokio::test]
async fn short_lived_records_give_their_space_back_but_what_stays_is_not_copied() {
    let directory = tempdir().unwrap();
    let (journal, _) = open(directory.path(), false).unwrap();
    let tables = directory.path().join("journal/keyspaces/4");
    let [lasting, busy] = [owner(&journal).await, owner(&journal).await];
    change(&journal, lasting[0].into(), append(SHORT, 100)).await;
    const ROUNDS: u64 = 800;
    for n in 0..ROUNDS {
        let trim = Some((SHORT, n.saturating_sub(3)));
        let mut both = Change { trim, ..append(SHORT, 60_000) };
        both.appends.push((0, vec![200], true));
        change(&journal, busy[0].into(), both).await;
    }
    let streams = journal.streams();
    let brief = || streams.extent(busy[SHORT]).unwrap();
    assert!(brief().first >= ROUNDS - 5);
    // One record that stays holds all behind it: nothing in this log is ever copied.
    assert!(disk_bytes(&tables) > ROUNDS * 60_000 / 2);
    change(&journal, lasting[0].into(), Change { trim: Some((SHORT, 1)), ..Change::default() })
        .await;
    let little = 12 * 1024 * 1024;
    eventually("the space is back", async || disk_bytes(&tables) < little).await;
    let limits = ReadLimits { messages: u64::MAX, bytes: u64::MAX };
    for (stream, length) in [(busy[0], 200), (busy[SHORT], 60_000)] {
        let first = streams.extent(stream).unwrap().first;
        let blocks = streams.read(stream, first, u64::MAX, limits).unwrap();
        let records = blocks.iter().flat_map(|block| block.records().map(Result::unwrap));
        let mut next = first;
        for (offset, record) in records {
            assert_eq!((offset, record.payload), (next, &payload(next, length)[..]));
            next += 1;
        }
        assert_eq!(next, ROUNDS);
    }
    journal.stop().await.unwrap();
}

/// Reads a stream; what is not there must be said.
fn look(journal: &Journal<Small>, findings: &Findings, stream: StreamId, side: usize, count: u64) {
    let suspected = findings.suspect[side].as_ref().is_some_and(|found| found.suspects(stream));
    let Some(extent) = journal.streams().extent(stream) else {
        return assert!(findings.damaged, "{stream} is gone");
    };
    let missing = findings.missing.get(&stream).cloned().unwrap_or_default();
    let limits = ReadLimits { messages: 1, bytes: 1 };
    let mut next = extent.first;
    while next < extent.head {
        match journal.streams().read(stream, next, u64::MAX, limits) {
            Ok(blocks) => {
                let Some(block) = blocks.first() else { break };
                for offset in next..block.base_offset {
                    assert!(missing.iter().any(|gap| gap.contains(offset)), "{offset} is missing");
                }
                for (offset, record) in block.records().map(Result::unwrap) {
                    let length = (offset % 97) as u16;
                    assert_eq!(record.payload, payload(offset, length), "altered");
                }
                next = block.end_offset();
            }
            Err(StreamReadError::Damaged(gap)) => next = gap.end(),
            Err(_) => next += 1,
        }
    }
    assert!(extent.head == count || suspected || !missing.is_empty(), "{stream}: {extent:?}");
}

#[tokio::test]
async fn whatever_is_damaged_in_either_log_nothing_is_silently_wrong() {
    const COUNT: u64 = 600;
    let directory = tempdir().unwrap();
    let [whole, damaged] = ["whole", "damaged"].map(|name| directory.path().join(name));
    let (journal, _) = open(&whole, false).unwrap();
    let streams = owner(&journal).await;
    for n in 0..COUNT {
        let length = vec![(n % 97) as u16];
        let appends = (0..2).map(|side| (side, length.clone(), true)).collect();
        let synced = n % 7 == 0 || n == COUNT - 1;
        change(&journal, streams[0].into(), Change { appends, synced, ..Change::default() }).await;
    }
    let killed = directory.path().join("killed");
    copy(&whole, &killed);
    journal.stop().await.unwrap();
    let wal = killed.join("journal/0.jnl");
    let used = std::fs::read(&wal).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let mut said = 0;
    for case in 0..60 {
        let _ = std::fs::remove_dir_all(&damaged);
        copy(&killed, &damaged);
        let mut bytes = std::fs::read(&wal).unwrap();
        let mut random = StdRng::seed_from_u64(case);
        bytes[random.random_range(0..used)] ^= 1 << random.random_range(0..8);
        std::fs::write(damaged.join("journal/0.jnl"), bytes).unwrap();
        let Ok((journal, findings)) = open(&damaged, true) else { continue };
        for (side, stream) in streams.into_iter().enumerate() {
            look(&journal, &findings, stream, side, COUNT);
        }
        said += usize::from(findings.damaged);
        journal.stop().await.unwrap();
    }
    assert!(said > 30, "{said} of 60 were holes");
}
