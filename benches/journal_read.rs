//! Reading the journal back, through the queue that polls and tails read from.
//!
//! ```text
//! cargo bench --bench journal_read
//! cargo bench --bench journal_read -- --save-baseline before   # then, after the change:
//! cargo bench --bench journal_read -- --baseline before
//! ```
//!
//! **Sequentially:** 256 messages a read, each read going on where the one before it ended, and from
//! the beginning again at the end. **By time:** the offset of the first message at a time drawn at
//! random. Elements are messages, and searches.
//!
//! Every message was a commit (or every 64) of its own, so blocks of one are the worst case: a chunk,
//! an index entry and a lookup a message. The tail cache is off and the journal was opened anew, so
//! each read takes another thread, an index page and chunks, whose checksums are checked. `warm` has
//! all of it in fjall's block cache; `no block cache` reads tables from the file system's cache each
//! time. No case reads from the disk itself.

mod stand;

use std::cell::OnceCell;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weir::clock::Clock;
use weir::journal::StorageSettings;
use weir::model::{Timestamp, TopicId};
use weir::queue::{Embedded, Feed, Queue, ReadLimits};
use weir::topics::Topics;

const MESSAGES: u64 = 16_384;
const READ: ReadLimits = ReadLimits { messages: 256, bytes: u64::MAX };
const BLOCK_CACHES: [(&str, u64); 2] = [("warm", 64 * 1024 * 1024), ("no block cache", 0)];

/// A journal with one topic that has been filled and stopped.
struct Filled {
    directory: TempDir,
    topic: TopicId,
    /// When its messages were published.
    times: Range<u64>,
}

/// Small memtables, so that what is read stands in tables as older messages do.
fn settings(directory: &TempDir, block_cache_bytes: u64) -> StorageSettings {
    let path = directory.path().join("data");
    StorageSettings {
        path,
        block_cache_bytes,
        memtable_bytes: 1024 * 1024,
        ..StorageSettings::default()
    }
}

/// A queue without a tail cache, and its journal.
fn open(settings: &StorageSettings, clock: Clock) -> (Queue, Topics) {
    let feed = Feed::new(0);
    let opened =
        Topics::open(settings, clock, feed.observer(|error| panic!("{error}"))).expect("it opens");
    (Queue::Embedded(Embedded::new(opened.topics.clone(), feed).expect("a thread")), opened.topics)
}

impl Filled {
    /// A millisecond passes whenever the journal looks at the time.
    fn new(runtime: &Runtime, block_messages: u64, payload_bytes: usize) -> Self {
        let directory = tempfile::tempdir_in(".").expect("a directory");
        let begin = Timestamp::default().0 + 1;
        let time = Arc::new(AtomicU64::new(begin));
        let ticks = time.clone();
        let clock = Clock::from_fn(move || Timestamp(ticks.fetch_add(1, Ordering::Relaxed)));
        let (_, journal) = open(&settings(&directory, 0), clock);
        let topic = stand::topics(runtime, &journal, 1)[0];
        let mut random = StdRng::seed_from_u64(block_messages ^ payload_bytes as u64);
        for _ in 0..MESSAGES / block_messages {
            let block = stand::block(block_messages, payload_bytes, &mut random);
            stand::append(&journal, std::iter::once((topic, block)));
        }
        runtime.block_on(journal.stop()).expect("it stops");
        Self { directory, topic, times: begin..time.load(Ordering::Relaxed) }
    }
}

/// Reads the next messages, and after the last ones the first.
fn read_on(runtime: &Runtime, queue: &Queue, topic: TopicId, from: &mut u64) {
    let blocks = runtime.block_on(queue.read(topic, *from, READ)).expect("blocks");
    *from = blocks.last().expect("a block").end_offset() % MESSAGES;
    black_box(blocks);
}

fn sequentially(criterion: &mut Criterion) {
    let runtime = stand::runtime();
    for payload_bytes in [256, 1_024] {
        for block_messages in [1, 64] {
            let name = format!("{payload_bytes} B a message, blocks of {block_messages}");
            let mut group = criterion.benchmark_group(format!("read sequentially, {name}"));
            group.throughput(Throughput::Elements(READ.messages));
            let fill = || Filled::new(&runtime, block_messages, payload_bytes);
            with_caches(&mut group, &runtime, fill, |bencher, filled, queue| {
                let mut from = 0;
                bencher.iter(|| read_on(&runtime, queue, filled.topic, &mut from));
            });
        }
    }
}

fn by_time(criterion: &mut Criterion) {
    let runtime = stand::runtime();
    for block_messages in [1, 64] {
        let mut group =
            criterion.benchmark_group(format!("find by time, blocks of {block_messages}"));
        group.throughput(Throughput::Elements(1));
        let fill = || Filled::new(&runtime, block_messages, 256);
        with_caches(&mut group, &runtime, fill, |bencher, filled, queue| {
            let mut random = StdRng::seed_from_u64(1);
            bencher.iter(|| {
                let time = Timestamp(random.random_range(filled.times.clone()));
                let found = runtime.block_on(queue.offset_at(filled.topic, time));
                black_box(found.expect("an offset"))
            });
        });
    }
}

/// Measures with each of the caches. The journal is filled when the first of them is picked.
fn with_caches(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    fill: impl Fn() -> Filled,
    mut measure: impl FnMut(&mut Bencher<'_>, &Filled, &Queue),
) {
    let filled = OnceCell::new();
    for (name, bytes) in BLOCK_CACHES {
        let opened = OnceCell::new();
        group.bench_function(name, |bencher| {
            let filled = filled.get_or_init(&fill);
            let (queue, _) = opened.get_or_init(|| {
                let opened = open(&settings(&filled.directory, bytes), Clock::system());
                let mut from = 0;
                (0..MESSAGES / READ.messages)
                    .for_each(|_| read_on(runtime, &opened.0, filled.topic, &mut from));
                opened
            });
            measure(bencher, filled, queue);
        });
        if let Some((_, journal)) = opened.into_inner() {
            runtime.block_on(journal.stop()).expect("it stops");
        }
    }
}

criterion_group!(benches, sequentially, by_time);
criterion_main!(benches);
