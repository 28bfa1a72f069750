//! The journal's group commit beside a bare file with the same group commit, in one run.
//!
//! ```text
//! cargo bench --bench journal
//! ```
//!
//! Both keep so many 256-byte messages in flight, one a block, and answer them when fdatasync has
//! returned. The bare file is a preallocated segment to which the bytes are appended, nothing else.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{Append, Journal, JournalError, JournalObserver, StorageSettings, TopicChange};
use weir::model::{
    Block, BlockBuilder, Incarnation, PlacedBlock, Record, TopicId, TopicName, TopicSettings,
};

const PAYLOAD_BYTES: usize = 256;
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, blocks: &[Arc<PlacedBlock>]) {
        black_box(blocks);
    }

    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

fn block(seed: u64) -> Block {
    let mut state = seed | 1;
    let payload: Vec<u8> = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(PAYLOAD_BYTES)
    .collect();
    let mut builder = BlockBuilder::default();
    builder.push(&Record::of("application/octet-stream", &payload)).expect("within limits");
    builder.finish().expect("one message")
}

fn append_all(journal: &Journal, topic: TopicId, blocks: &[Block]) {
    let answers: Vec<_> = blocks
        .iter()
        .map(|block| {
            let (reply, answer) = oneshot::channel();
            let (incarnation, block) = (Incarnation(0), block.clone());
            journal.append(Append { topic, incarnation, lane: None, block, reply });
            answer
        })
        .collect();
    for answer in answers {
        answer.blocking_recv().expect("an answer").expect("stored");
    }
}

fn append(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let path = directory.path().join("data");
    let settings = StorageSettings { path, ..StorageSettings::default() };
    let opened = Journal::open(&settings, Clock::system(), Arc::new(Ignored)).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let name = TopicName::new("bench").expect("a name");
    let change =
        TopicChange::Ensure { name, settings: TopicSettings::default(), topics_max: usize::MAX };
    let changed = runtime.block_on(opened.journal.change_topic(change)).expect("a topic");
    let file = File::create(directory.path().join("bare")).expect("a file");
    file.set_len(SEGMENT_BYTES).expect("preallocated");
    file.sync_all().expect("synced");

    for in_flight in [1, 64, 1_000] {
        let blocks: Vec<_> = (0..in_flight).map(block).collect();
        let mut group = criterion.benchmark_group(format!("append, {in_flight} in flight"));
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function("journal", |bencher| {
            bencher.iter(|| append_all(&opened.journal, changed.record.id, &blocks));
        });
        let bytes: Vec<u8> = blocks.iter().flat_map(|block| block.body().to_vec()).collect();
        let mut position = 0;
        group.bench_function("bare file", |bencher| {
            bencher.iter(|| {
                if position + bytes.len() as u64 > SEGMENT_BYTES {
                    position = 0;
                }
                file.write_all_at(&bytes, position).expect("written");
                file.sync_data().expect("synced");
                position += bytes.len() as u64;
            });
        });
        group.finish();
    }
    runtime.block_on(opened.journal.stop()).expect("it stops");
}

criterion_group!(benches, append);
criterion_main!(benches);
