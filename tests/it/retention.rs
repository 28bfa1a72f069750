//! What is not kept goes, its space comes back, and nothing else goes with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use tempfile::tempdir;
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{JournalError, JournalObserver, StorageSettings};
use weir::model::{
    AckLevel, BlockBuilder, Incarnation, NotStored, Outcome, PlacedBlock, ReadError, ReadLimits,
    Record, Timestamp, TopicId, TopicName, TopicSettings,
};
use weir::topics::{Append, CatalogueEvent, TopicChange, Topics, TopicsObserver};

use crate::damage::copy_used;
use crate::support::eventually;

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    fn failed(&self, error: &JournalError) {
        panic!("the journal failed: {error}");
    }
}

impl TopicsObserver for Ignored {
    fn changed(&self, _: &CatalogueEvent) {}
}

/// Both of a clock's times, as the test sets them.
#[derive(Default)]
struct Time {
    wall_ms: AtomicU64,
    uptime_ms: AtomicU64,
}

impl Time {
    fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.uptime_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

fn open(directory: &Path, time: &Arc<Time>) -> Topics {
    let settings = StorageSettings {
        path: directory.to_owned(),
        memtable_bytes: 1024 * 1024,
        wal_bytes_max: 192 * 1024 * 1024,
        retention_interval_ms: 100,
        ..StorageSettings::default()
    };
    let (wall, uptime) = (time.clone(), time.clone());
    let clock = Clock::from_fn(move || Timestamp(wall.wall_ms.load(Ordering::SeqCst)))
        .with_uptime(move || Duration::from_millis(uptime.uptime_ms.load(Ordering::SeqCst)));
    Topics::open(&settings, clock, Arc::new(Ignored)).unwrap().topics
}

async fn create(journal: &Topics, name: &str, retention_ms: u64, retention_bytes: u64) -> TopicId {
    let settings = TopicSettings {
        ack_level: AckLevel::Os,
        retention_ms,
        retention_bytes,
        ..TopicSettings::default()
    };
    let name = TopicName::new(name).unwrap();
    let change = TopicChange::Ensure { name, settings, topics_max: usize::MAX };
    journal.change(change).await.unwrap().record.id
}

/// One message, filled so that nothing can make it smaller.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let mut payload = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(number).fill_bytes(&mut payload);
    payload
}

async fn append(journal: &Topics, topic: TopicId, payload: &[u8]) {
    let mut builder = BlockBuilder::default();
    builder.push(&Record::of("x/y", payload)).unwrap();
    let (reply, answer) = oneshot::channel();
    let block = builder.finish().unwrap();
    journal.append(Append { topic, incarnation: Incarnation(0), lane: None, block, reply });
    answer.await.unwrap().unwrap();
}

fn first(journal: &Topics, topic: TopicId) -> u64 {
    journal.extent(topic).unwrap().first
}

pub fn disk_bytes(directory: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        // A table may go while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() {
            disk_bytes(&entry.path())
        } else {
            std::os::unix::fs::MetadataExt::blocks(&metadata) * 512
        };
    }
    bytes
}

/// The tables of the keyspace that holds the blocks.
fn data_tables(directory: &Path) -> std::path::PathBuf {
    directory.join("journal/keyspaces/1")
}

const FOR_EVER: u64 = 1 << 40;
const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn messages_go_by_the_age_of_the_journal_and_a_clock_that_jumps_wipes_nothing() {
    let directory = tempdir().unwrap();
    let time = Arc::new(Time::default());
    let mut journal = open(directory.path(), &time);
    let brief = create(&journal, "brief", HOUR_MS, FOR_EVER).await;
    let long = create(&journal, "long", 10 * HOUR_MS, FOR_EVER).await;
    for topic in [brief, long] {
        append(&journal, topic, b"1").await;
    }
    time.pass(HOUR_MS / 2);
    append(&journal, brief, b"2").await;
    // Ten years at once, as a clock that was set wrong does it; and over a restart, too.
    time.wall_ms.fetch_add(10 * 365 * 24 * HOUR_MS, Ordering::SeqCst);
    append(&journal, brief, b"3").await;
    journal.stop().await.unwrap();
    drop(journal);
    journal = open(directory.path(), &time);
    time.pass(HOUR_MS / 2 + 1);
    eventually("the first message goes", async || first(&journal, brief) == 1).await;
    assert_eq!(first(&journal, long), 0);
    let limits = ReadLimits { messages: 10, bytes: u64::MAX };
    assert!(matches!(journal.read(brief, 0, limits), Err(ReadError::Gone { first: 1 })));
    assert_eq!(journal.read(brief, 1, limits).unwrap().len(), 2);
    time.wall_ms.store(5, Ordering::SeqCst);
    append(&journal, brief, b"4").await;
    let blocks = journal.read(brief, 1, limits).unwrap();
    assert!(blocks.is_sorted_by_key(|block| block.published_at), "nor do times run backwards");
    time.pass(2 * HOUR_MS);
    eventually("the rest goes", async || first(&journal, brief) == 4).await;
    append(&journal, brief, b"5").await;
    journal.stop().await.unwrap();
    drop(journal);
    journal = open(directory.path(), &time);
    let extent = journal.extent(brief).unwrap();
    assert_eq!((extent.first, extent.head, extent.messages), (4, 5, 1));
    journal.stop().await.unwrap();
}

#[tokio::test]
async fn the_disk_stays_within_its_bound_though_long_lived_messages_lie_between_the_others() {
    let directory = tempdir().unwrap();
    let time = Arc::new(Time::default());
    let mut journal = open(directory.path(), &time);
    let brief = create(&journal, "brief", HOUR_MS, 256 * 1024).await;
    let long = create(&journal, "long", 10 * HOUR_MS, FOR_EVER).await;
    const ROUNDS: u64 = 1_500;
    for number in 0..ROUNDS {
        append(&journal, long, &payload(number, 300)).await;
        append(&journal, brief, &payload(number, 60_000)).await;
        if number == ROUNDS / 2 {
            journal.stop().await.unwrap();
            drop(journal);
            journal = open(directory.path(), &time);
        }
    }
    let kept = || {
        let bytes = |topic| journal.extent(topic).unwrap().bytes;
        bytes(brief) + bytes(long)
    };
    let written = ROUNDS * 60_300;
    eventually("retention is done", async || kept() < 1024 * 1024).await;
    // The store's log has a bound of its own.
    let tables = data_tables(directory.path());
    let bound = || kept() * 3 / 2 + 20 * 1024 * 1024;
    eventually("the space is back", async || disk_bytes(&tables) < bound()).await;
    assert!(written > bound(), "it means something");
    let check = |journal: &Topics| {
        let limits = ReadLimits { messages: FOR_EVER, bytes: FOR_EVER };
        let blocks = journal.read(long, 0, limits).unwrap();
        let mut number = 0;
        for (offset, record) in blocks.iter().flat_map(|b| b.records().map(Result::unwrap)) {
            assert_eq!(offset, number);
            assert_eq!(record.payload, payload(number, 300));
            number += 1;
        }
        assert_eq!(number, ROUNDS);
    };
    check(&journal);
    journal.stop().await.unwrap();
    drop(journal);
    journal = open(directory.path(), &time);
    check(&journal);
    journal.stop().await.unwrap();
    drop(journal);

    // A hole in the store's log has the journal read again, where blocks stand that were copied
    // forward, in another order than their offsets': nothing else is called lost for that.
    let mut set_aside = 0;
    for part in 1..6 {
        let damaged = tempdir().unwrap();
        copy_used(directory.path(), damaged.path());
        damage_log(damaged.path(), part);
        let journal = open(damaged.path(), &time);
        let mut readable = 0;
        for offset in 0..ROUNDS {
            match journal.read(long, offset, ReadLimits { messages: 1, bytes: 1 }) {
                Ok(blocks) => {
                    let (_, record) = blocks[0].records().next().unwrap().unwrap();
                    assert_eq!(record.payload, payload(offset, 300));
                    readable += 1;
                }
                Err(ReadError::Damaged(_) | ReadError::Ahead { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(readable + 120 >= ROUNDS, "part {part}: one chunk is lost, {readable} are left");
        journal.stop().await.unwrap();
        set_aside += usize::from(damaged.path().join("aside").exists());
    }
    assert_eq!(set_aside, 5, "every one of them was a hole");
}

/// Flips a bit so many sixths into the newest file of the store's log.
fn damage_log(directory: &Path, sixths: usize) {
    let files = std::fs::read_dir(directory.join("journal")).unwrap().flatten();
    let logs =
        files.map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "jnl"));
    let log = logs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used * sixths / 6] ^= 1;
    std::fs::write(&log, bytes).unwrap();
}

#[tokio::test]
async fn a_deleted_topic_gives_its_space_back_and_its_id_is_never_used_again() {
    let directory = tempdir().unwrap();
    let time = Arc::new(Time::default());
    let mut journal = open(directory.path(), &time);
    let doomed = create(&journal, "doomed", HOUR_MS, FOR_EVER).await;
    let kept = create(&journal, "kept", HOUR_MS, FOR_EVER).await;
    append(&journal, kept, b"here").await;
    for number in 0..1_500 {
        append(&journal, doomed, &payload(number, 60_000)).await;
    }
    assert!(disk_bytes(&data_tables(directory.path())) > 80 * 1024 * 1024);
    let name = TopicName::new("doomed").unwrap();
    journal.change(TopicChange::Delete { name }).await.unwrap();
    // A crash at once: what was to be done is done by the next start.
    journal.stop().await.unwrap();
    drop(journal);
    journal = open(directory.path(), &time);
    // Its tables are gone; what the store's log holds goes when the next tables are written.
    let tables = data_tables(directory.path());
    let little = 20 * 1024 * 1024;
    eventually("the space is back", async || disk_bytes(&tables) < little).await;
    let again = create(&journal, "doomed", HOUR_MS, FOR_EVER).await;
    assert!(again.0 > kept.0);
    assert_eq!(journal.extent(again).unwrap().head, 0);
    let limits = ReadLimits { messages: 10, bytes: FOR_EVER };
    assert_eq!(journal.read(kept, 0, limits).unwrap().len(), 1);
    journal.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_id_is_remembered_though_its_message_and_the_process_are_gone() {
    let directory = tempdir().unwrap();
    let time = Arc::new(Time::default());
    let mut journal = open(directory.path(), &time);
    let settings =
        TopicSettings { retention_ms: 1_000, dedup_window_ms: HOUR_MS, ..TopicSettings::default() };
    let name = TopicName::new("t").unwrap();
    let change = TopicChange::Ensure { name, settings, topics_max: 10 };
    let topic = journal.change(change).await.unwrap().record.id;
    let publish = async |journal: &Topics, id: &str| {
        let mut builder = BlockBuilder::new(journal.message_id_key().clone());
        builder.push(&Record { message_id: Some(id), ..Record::json(b"1") }).unwrap();
        let (reply, answer) = oneshot::channel();
        let block = builder.finish().unwrap();
        journal.append(Append { topic, incarnation: Incarnation(0), lane: None, block, reply });
        let appended = answer.await.unwrap().unwrap();
        appended.outcomes().next().unwrap()
    };
    // More than a page, so that ids are saved while the journal is in use.
    for n in 0..300 {
        assert_eq!(publish(&journal, &format!("m{n}")).await, Outcome::Stored(n));
    }
    journal.stop().await.unwrap();
    drop(journal);
    journal = open(directory.path(), &time);
    assert_eq!(publish(&journal, "m7").await, Outcome::Not(NotStored::Duplicate(Some(7))));
    time.pass(2_000);
    eventually("all of them go", async || first(&journal, topic) == 300).await;
    for _ in 0..2 {
        for n in [0, 1, 255, 256, 299] {
            let known = Outcome::Not(NotStored::Duplicate(Some(n)));
            assert_eq!(publish(&journal, &format!("m{n}")).await, known);
        }
        journal.stop().await.unwrap();
        drop(journal);
        journal = open(directory.path(), &time);
    }
    time.pass(HOUR_MS);
    assert_eq!(publish(&journal, "m0").await, Outcome::Stored(300), "the window has an end");
    journal.stop().await.unwrap();
}

#[tokio::test]
async fn deleting_a_topic_that_was_trimmed_takes_nothing_else_along() {
    let directory = tempdir().unwrap();
    let time = Arc::new(Time::default());
    let mut journal = open(directory.path(), &time);
    let kept = create(&journal, "kept", HOUR_MS, FOR_EVER).await;
    // The low watermark comes to lie in the middle of a page.
    let brief = create(&journal, "brief", HOUR_MS, 6_000_000).await;
    for number in 0..600 {
        if number % 10 == 0 {
            append(&journal, kept, &payload(number, 200)).await;
        }
        append(&journal, brief, &payload(number, 60_000)).await;
    }
    let trimmed = async |journal: &Topics, topic| {
        let little = async || journal.extent(topic).unwrap().bytes < 6_100_000;
        eventually("the topic is trimmed", little).await;
    };
    trimmed(&journal, brief).await;
    journal.stop().await.unwrap();
    drop(journal);
    journal = open(directory.path(), &time);
    for number in 0..50 {
        append(&journal, brief, &payload(number, 60_000)).await;
    }
    trimmed(&journal, brief).await;
    let name = TopicName::new("brief").unwrap();
    journal.change(TopicChange::Delete { name }).await.unwrap();
    // Enough for the floor to be raised far beyond.
    let filler = create(&journal, "filler", HOUR_MS, 100_000).await;
    for number in 0..900 {
        append(&journal, filler, &payload(number, 60_000)).await;
    }
    trimmed(&journal, filler).await;
    let tables = data_tables(directory.path());
    let little = 30 * 1024 * 1024;
    eventually("the space is back", async || disk_bytes(&tables) < little).await;
    let limits = ReadLimits { messages: FOR_EVER, bytes: FOR_EVER };
    let blocks = journal.read(kept, 0, limits).unwrap();
    let found = blocks.iter().flat_map(|b| b.records().map(Result::unwrap));
    let found: Vec<_> = found.map(|(_, record)| record.payload.to_vec()).collect();
    let expected: Vec<_> = (0..60).map(|n| payload(n * 10, 200)).collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
    journal.stop().await.unwrap();
}

#[tokio::test]
async fn blocks_without_messages_hold_nothing_up() {
    let directory = tempdir().unwrap();
    let time = Arc::new(Time::default());
    let mut journal = open(directory.path(), &time);
    let brief = create(&journal, "brief", HOUR_MS, FOR_EVER).await;
    for number in 0..900 {
        append(&journal, brief, &payload(number, 60_000)).await;
        if number % 300 == 7 {
            // Another window is a block of its own, which no page will know.
            let name = TopicName::new("brief").unwrap();
            let change = serde_json::json!({ "dedup_window_ms": 1_000 + number });
            let change = serde_json::from_value(change).unwrap();
            let defaults = TopicSettings::default();
            journal.change(TopicChange::Merge { name, change, defaults }).await.unwrap();
        }
        if number == 450 {
            journal.stop().await.unwrap();
            drop(journal);
            journal = open(directory.path(), &time);
        }
    }
    assert!(disk_bytes(&data_tables(directory.path())) > 40 * 1024 * 1024);
    time.pass(2 * HOUR_MS);
    eventually("all of them go", async || first(&journal, brief) == 900).await;
    let tables = data_tables(directory.path());
    let little = 20 * 1024 * 1024;
    eventually("the space is back", async || disk_bytes(&tables) < little).await;
    assert_eq!(journal.extent(brief).unwrap().head, 900);
    journal.stop().await.unwrap();
}
