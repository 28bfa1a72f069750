//! Messages as they come in, many at once, and as they go out, a page at a time.
//!
//! ```text
//! cargo bench --bench wire
//! cargo bench --bench wire -- --save-baseline before   # then, after the change:
//! cargo bench --bench wire -- --baseline before
//! ```
//!
//! **In:** 64 messages in one frame or body are found, read, checked and put in a block, as sockets
//! and `POST …/messages` do it. **Out:** a page of 1,000 messages, which stand in blocks of 64 that
//! nobody has read before, in the forms a poll can have. Elements are messages.
//!
//! A message's payload is a JSON object of about 256 bytes, most of them digits and text drawn at
//! random, or 256 random bytes (base64 where the form is JSON). `For comparison` is the least there is
//! to find out: that a frame is JSON.

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use weir::edge::LimitSettings;
use weir::edge::wire::{
    Form, Gaps, RawMessages, ReadBudget, Sender, Shown, check_payload, lines, to_msgpack,
};
use weir::model::{
    Block, BlockBuilder, Epoch, JournalAge, MessageIdKey, PlacedBlock, ReceiptKey, Record,
    Timestamp, TopicId,
};
use weir::queue::ReadBlock;

const BATCH: usize = 64;
const PAGE: usize = 1_000;
const BYTES: usize = 256;

/// What a device might say.
fn reading(random: &mut StdRng) -> Value {
    let values: Vec<f64> = (0..6).map(|_| random.random_range(-1e3..1e3)).collect();
    let note = Alphanumeric.sample_string(random, 64);
    json!({ "device": random.random::<u32>(), "values": values, "ok": true, "note": note })
}

fn readings(count: usize) -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(count as u64);
    (0..count).map(|_| reading(&mut random)).collect()
}

fn bytes(count: usize) -> Vec<[u8; BYTES]> {
    let mut random = StdRng::seed_from_u64(count as u64);
    (0..count).map(|_| random.random()).collect()
}

fn builder() -> BlockBuilder {
    BlockBuilder::new(MessageIdKey::new([1; 16]))
}

/// Makes a block of what was found, as both doors do.
fn collect(RawMessages(found): RawMessages<'_>, sender: Sender, bytes_max: usize) -> Block {
    let mut builder = builder();
    for raw in found {
        let message = raw.message(sender).expect("a message");
        message.push_to(&mut builder, bytes_max).expect("within limits");
    }
    builder.finish().expect("messages")
}

fn collect_lines(body: &[u8], count_max: usize, bytes_max: usize) -> Block {
    let mut builder = builder();
    for payload in lines(body, count_max).expect("lines") {
        check_payload("application/json", payload, bytes_max).expect("JSON");
        builder.push(&Record::json(payload)).expect("within limits");
    }
    builder.finish().expect("messages")
}

/// A message with bytes as bin.
#[derive(Serialize)]
struct Bin<'a> {
    id: usize,
    #[serde(with = "serde_bytes")]
    data: &'a [u8],
}

fn decode(criterion: &mut Criterion) {
    let limits = LimitSettings::default();
    let (count_max, bytes_max) = (limits.batch_messages_max, limits.message_bytes_max);
    let readings = readings(BATCH);
    let with_id = |(id, data)| json!({ "id": id, "data": data });
    let messages: Vec<_> = readings.iter().enumerate().map(with_id).collect();
    let payloads = bytes(BATCH);
    let with_base64 = |(id, data)| json!({ "id": id, "data_base64": STANDARD.encode(data) });
    let base64: Vec<_> = payloads.iter().enumerate().map(with_base64).collect();
    let bin: Vec<_> = payloads.iter().enumerate().map(|(id, data)| Bin { id, data }).collect();
    let without_id: Vec<_> = readings.iter().map(|data| json!({ "data": data })).collect();
    let frames = [("JSON frame", &messages), ("JSON frame, base64", &base64)];
    let frames = frames.map(|(name, frame)| (name, json!(frame).to_string()));
    let binary = [
        ("MessagePack frame", to_msgpack(&messages)),
        ("MessagePack frame, bin", to_msgpack(&bin)),
    ];
    let batch = json!({ "messages": without_id }).to_string();
    let ndjson: String = readings.iter().map(|data| format!("{data}\n")).collect();

    let mut group = criterion.benchmark_group("decode 64 messages");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, frame) in &frames {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let found = RawMessages::in_frame(black_box(frame), count_max).expect("a frame");
                black_box(collect(found, Sender::Socket, bytes_max))
            });
        });
    }
    for (name, frame) in &binary {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let found = RawMessages::in_binary_frame(black_box(frame), count_max);
                black_box(collect(found.expect("a frame"), Sender::Socket, bytes_max))
            });
        });
    }
    group.bench_function("NDJSON body", |bencher| {
        let body = ndjson.as_bytes();
        bencher.iter(|| black_box(collect_lines(black_box(body), count_max, bytes_max)));
    });
    group.bench_function("vnd.weir.messages+json body", |bencher| {
        bencher.iter(|| {
            let found = RawMessages::in_batch(black_box(batch.as_bytes()), count_max);
            black_box(collect(found.expect("a batch"), Sender::Request, bytes_max))
        });
    });
    group.bench_function("for comparison: JSON frame as one raw value", |bencher| {
        bencher.iter(|| {
            let raw: &RawValue = serde_json::from_str(black_box(&frames[0].1)).expect("JSON");
            black_box(raw.get().len())
        });
    });
    group.finish();
}

/// Blocks of a page's messages; clones share bytes, but not what readers have left in them.
fn blocks(records: &[Record<'_>]) -> Vec<Arc<ReadBlock>> {
    let mut offset = 0;
    let block = |records: &[Record<'_>]| {
        let mut builder = builder();
        records.iter().for_each(|record| builder.push(record).expect("within limits"));
        let block = builder.finish().expect("messages");
        let base_offset = offset;
        offset += u64::from(block.count());
        ReadBlock::new(Arc::new(PlacedBlock {
            stream: TopicId(1).outgoing(),
            epoch: Epoch::FIRST,
            base_offset,
            count: block.count(),
            ingest_base: base_offset,
            published_at: Timestamp(offset),
            age: JournalAge(offset),
            body: block.body().clone(),
        }))
    };
    records.chunks(BATCH).map(block).collect()
}

fn encode(criterion: &mut Criterion) {
    let receipts = ReceiptKey::new([1; 16]);
    let readings: Vec<_> = readings(PAGE).iter().map(Value::to_string).collect();
    let readings: Vec<_> =
        readings.iter().map(|payload| Record::json(payload.as_bytes())).collect();
    let bytes = bytes(PAGE);
    let bytes: Vec<_> =
        bytes.iter().map(|bytes| Record::of("application/octet-stream", bytes)).collect();

    let mut group = criterion.benchmark_group("encode a page of 1000 messages");
    group.throughput(Throughput::Elements(PAGE as u64));
    for (content, records) in [("JSON", readings), ("bytes", bytes)] {
        for (name, form) in
            [("JSON", Form::Json), ("NDJSON", Form::Lines), ("MessagePack", Form::MessagePack)]
        {
            let shown = Shown {
                form,
                gaps: Gaps::PassOver,
                page_bytes: u64::MAX,
                body_bytes: usize::MAX,
                frames: false,
                until: u64::MAX,
                shared: true,
                receipts: &receipts,
                now: JournalAge(0),
            };
            group.bench_function(format!("{content} as {name}"), |bencher| {
                let page = |blocks: &mut Vec<Arc<ReadBlock>>| {
                    let mut budget = ReadBudget::new(PAGE as u64, u64::MAX);
                    let page = shown.page(&mut budget, blocks, 0, None).expect("records");
                    assert_eq!(page.messages, PAGE as u64);
                    black_box(page)
                };
                bencher.iter_batched_ref(|| blocks(&records), page, BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
