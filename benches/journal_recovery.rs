//! Opening a journal that was stopped, and one that was copied while it ran, as a crash leaves it.
//!
//! ```text
//! cargo bench --bench journal_recovery
//! cargo bench --bench journal_recovery -- --save-baseline before   # then, after the change:
//! cargo bench --bench journal_recovery -- --baseline before
//! ```
//!
//! 200,000 messages of 256 bytes, in few topics and in 1,000. Elements are messages: all of those
//! that the journal holds, though an opening that goes well looks at the newest only. Each opening
//! has a copy of its own, synced before, since a crash of the process leaves nothing unsynced that
//! was acknowledged; copying is not measured, and the copies are in the file system's cache.

mod stand;

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::Runtime;
use weir::clock::Clock;
use weir::journal::{JournalError, JournalObserver, StorageSettings};
use weir::model::PlacedBlock;
use weir::topics::{CatalogueEvent, Opened, Topics, TopicsObserver};

const MESSAGES: u64 = 200_000;
const PAYLOAD_BYTES: usize = 256;
const BLOCK_MESSAGES: u64 = 8;
/// Blocks under way at once.
const WAVE: u64 = 1_000;

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, blocks: &[Arc<PlacedBlock>]) {
        black_box(blocks);
    }

    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

impl TopicsObserver for Ignored {
    fn changed(&self, _: &CatalogueEvent) {}
}

fn open(path: &Path) -> Opened {
    let settings = StorageSettings { path: path.to_owned(), ..StorageSettings::default() };
    Topics::open(&settings, Clock::system(), Arc::new(Ignored)).expect("it opens")
}

/// Copies a data directory and makes the copy durable.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
            File::open(&target).and_then(|file| file.sync_all()).expect("synced");
        }
    }
}

/// The files below a folder, with their sizes.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.append(&mut files(&entry.path())),
            metadata => drop(found.insert(entry.path(), metadata.map_or(0, |it| it.len()))),
        }
    }
    found
}

/// Waits until fjall has written its memtables out: files that come and go while they are copied
/// make a state that there never was.
fn settle(directory: &Path) {
    let mut before = files(directory);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = files(directory);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Makes a journal of so many topics, as it is while it runs and as it is when it has stopped.
fn make(runtime: &Runtime, topics: usize, running: &Path, stopped: &Path) {
    let journal = open(stopped).topics;
    let topics = stand::topics(runtime, &journal, topics);
    let mut random = StdRng::seed_from_u64(topics.len() as u64);
    let mut turns = topics.iter().cycle();
    let mut left = MESSAGES / BLOCK_MESSAGES;
    while left > 0 {
        let wave = left.min(WAVE);
        let blocks = turns.by_ref().take(wave as usize).map(|topic| {
            let block = stand::block(BLOCK_MESSAGES, PAYLOAD_BYTES, &mut random);
            (*topic, block)
        });
        stand::append(&journal, blocks);
        left -= wave;
    }
    settle(stopped);
    copy(stopped, running);
    runtime.block_on(journal.stop()).expect("it stops");
}

/// How long opening it takes, of this many copies together.
fn openings(runtime: &Runtime, made: &Path, copies: u64) -> Duration {
    let directory = made.with_extension("copy");
    let mut taken = Duration::ZERO;
    for _ in 0..copies {
        copy(made, &directory);
        let begun = Instant::now();
        let opened = open(&directory);
        taken += begun.elapsed();
        let heads = opened.records.iter().filter_map(|topic| opened.topics.extent(topic.id));
        assert_eq!(heads.map(|extent| extent.messages).sum::<u64>(), MESSAGES, "all is there");
        runtime.block_on(opened.topics.stop()).expect("it stops");
        std::fs::remove_dir_all(&directory).expect("removed");
    }
    taken
}

fn recovery(criterion: &mut Criterion) {
    let runtime = stand::runtime();
    for topics in [4, 1_000] {
        let directory = tempfile::tempdir_in(".").expect("a directory");
        let [running, stopped] = ["running", "stopped"].map(|name| directory.path().join(name));
        // Made when the first of them is picked.
        let made = LazyCell::new(|| make(&runtime, topics, &running, &stopped));
        let mut group = criterion.benchmark_group(format!("open, {topics} topics"));
        group.throughput(Throughput::Elements(MESSAGES)).sample_size(10);
        for (ending, from) in [("after a stop", &stopped), ("after a crash", &running)] {
            group.bench_function(ending, |bencher| {
                LazyCell::force(&made);
                bencher.iter_custom(|copies| openings(&runtime, from, copies));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, recovery);
criterion_main!(benches);
