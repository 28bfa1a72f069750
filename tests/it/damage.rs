//! A data directory with one wrong bit, zeroed page or missing end, anywhere: whatever is given is
//! right, and what is missing is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::tempdir;
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{JournalError, JournalObserver, StorageSettings};
use weir::model::{
    BlockBuilder, Incarnation, PlacedBlock, ReadError, ReadLimits, Record, TopicName, TopicSettings,
};
use weir::topics::{Append, CatalogueEvent, Opened, TopicChange, Topics, TopicsObserver};

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    fn failed(&self, _: &JournalError) {}
}

impl TopicsObserver for Ignored {
    fn changed(&self, _: &CatalogueEvent) {}
}

fn settings(path: &Path) -> StorageSettings {
    StorageSettings {
        path: path.to_owned(),
        memtable_bytes: 1024 * 1024,
        ..StorageSettings::default()
    }
}

fn open(path: &Path) -> Result<Opened, JournalError> {
    Topics::open(&settings(path), Clock::system(), Arc::new(Ignored))
}

/// What every topic holds, by name.
type Truth = BTreeMap<String, Vec<Vec<u8>>>;

async fn append(journal: &Topics, name: &str, payload: Vec<u8>, truth: &mut Truth) {
    let change = TopicChange::Ensure {
        name: TopicName::new(name).unwrap(),
        settings: TopicSettings::default(),
        topics_max: 100,
    };
    let topic = journal.change(change).await.unwrap().record.id;
    let mut builder = BlockBuilder::default();
    builder.push(&Record::of("x/y", &payload)).unwrap();
    let (reply, answer) = oneshot::channel();
    let block = builder.finish().unwrap();
    journal.append(Append { topic, incarnation: Incarnation(0), lane: None, block, reply });
    answer.await.unwrap().unwrap();
    truth.entry(name.to_owned()).or_default().push(payload);
}

/// A directory with tables, pages and a WAL, as a kill leaves it.
async fn make(path: &Path) -> Truth {
    let mut truth = Truth::new();
    let mut random = StdRng::seed_from_u64(7);
    let journal = open(path).unwrap().topics;
    for n in 0..300u64 {
        let mut payload = vec![0; 8_000 + n as usize];
        random.fill(&mut payload[..]);
        append(&journal, ["a", "b", "c"][n as usize % 3], payload, &mut truth).await;
    }
    journal.stop().await.unwrap();
    drop(journal);
    let journal = open(path).unwrap().topics;
    for n in 0..200u64 {
        let mut payload = vec![0; 100 + n as usize];
        random.fill(&mut payload[..]);
        let name = ["a", "b", "d"][n as usize % 3];
        append(&journal, name, payload, &mut truth).await;
    }
    let copy = path.with_extension("killed");
    copy_used(path, &copy);
    journal.stop().await.unwrap();
    truth
}

/// Copies without the zeros that fjall keeps in advance at the end of its WAL.
pub fn copy_used(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_used(&entry.path(), &target);
            continue;
        }
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if entry.path().extension().is_some_and(|e| e == "jnl") {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(used + 64);
        }
        std::fs::write(target, bytes).unwrap();
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else if entry.metadata().unwrap().len() > 0 {
            found.push(entry.path());
        }
    }
}

/// Damages one file and says how.
fn damage(directory: &Path, random: &mut StdRng) -> String {
    let mut found = Vec::new();
    files(directory, &mut found);
    found.sort();
    // Tables and their lists are many small files; half of the damage is for the WAL and our own.
    let own =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "jnl") || path.ends_with("durable");
    let own = found.iter().filter(|path| own(path));
    let chosen: Vec<_> = if random.random() { own.collect() } else { found.iter().collect() };
    let path = chosen[random.random_range(0..chosen.len())];
    let mut bytes = std::fs::read(path).unwrap();
    let at = random.random_range(0..bytes.len());
    let how = match random.random_range(0..10) {
        0 => {
            bytes.truncate(at);
            "cut off"
        }
        1 => {
            let page = at / 4096 * 4096;
            let end = bytes.len().min(page + 4096);
            bytes[page..end].fill(0);
            "a page zeroed"
        }
        _ => {
            bytes[at] ^= 1 << random.random_range(0..8);
            "a bit flipped"
        }
    };
    std::fs::write(path, bytes).unwrap();
    format!("{how} at {at} of {path:?}")
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Found {
    Harmless,
    Said,
    Refused,
}

/// Opens and reads everything; panics when something is wrong and nobody says so.
async fn look(directory: &Path, truth: &Truth, how: &str) -> Found {
    let Opened { topics: journal, records } = match open(directory) {
        Ok(opened) => opened,
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.contains('/') || error.contains("sequence"),
                "{how}: names no file: {error}"
            );
            return Found::Refused;
        }
    };
    let mut said = false;
    for (name, payloads) in truth {
        let record = records.iter().find(|record| record.name.as_str() == name);
        let record = record.unwrap_or_else(|| panic!("{how}: {name} is gone"));
        let extent = journal.extent(record.id).unwrap();
        said |= extent.damaged;
        let mut next = 0;
        while next < extent.head {
            let limits = ReadLimits { messages: 1, bytes: u64::MAX };
            match journal.read(record.id, next, limits) {
                Ok(blocks) => {
                    for (offset, found) in
                        blocks.iter().flat_map(|b| b.records().map(Result::unwrap))
                    {
                        assert_eq!(found.payload, payloads[offset as usize], "{how}: altered");
                        assert_eq!(offset, next, "{how}: {name}: {next} is passed over");
                        next = offset + 1;
                    }
                    assert!(!blocks.is_empty(), "{how}: {name}: nothing at {next}");
                }
                Err(ReadError::Damaged(gap)) => {
                    said = true;
                    next = gap.end();
                }
                Err(_) => {
                    said = true;
                    next += 1;
                }
            }
        }
        let whole = extent.head == payloads.len() as u64;
        assert!(whole || extent.damaged, "{how}: {name} ends at {}", extent.head);
    }
    journal.stop().await.unwrap();
    if said { Found::Said } else { Found::Harmless }
}

#[tokio::test]
async fn whatever_is_damaged_nothing_is_silently_wrong() {
    let directory = tempdir().unwrap();
    let whole = directory.path().join("whole");
    let truth = make(&whole).await;
    let killed = whole.with_extension("killed");
    assert_eq!(look(&killed, &truth, "nothing").await, Found::Harmless);
    std::fs::remove_dir_all(&killed).unwrap();
    let mut count = BTreeMap::new();
    let cases = std::env::var("WEIR_TEST_DAMAGES").map_or(150, |cases| cases.parse().unwrap());
    let mut truth = None;
    for case in 0..cases {
        if case % 50 == 0 {
            // A fresh one: what is killed is never twice the same.
            let _ = std::fs::remove_dir_all(&whole);
            let _ = std::fs::remove_dir_all(&killed);
            truth = Some(make(&whole).await);
        }
        let copy = directory.path().join("copy");
        copy_used(&killed, &copy);
        let how = format!("case {case}: {}", damage(&copy, &mut StdRng::seed_from_u64(case)));
        let found = look(&copy, truth.as_ref().unwrap(), &how).await;
        *count.entry(found).or_insert(0) += 1;
        std::fs::remove_dir_all(&copy).unwrap();
    }
    println!("{cases} damaged directories: {count:?}, silently wrong: 0");
}
