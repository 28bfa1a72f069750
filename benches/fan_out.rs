//! What one more tail costs: a block turned into the frame that tails are sent.
//!
//! ```text
//! cargo bench --bench fan_out
//! cargo bench --bench fan_out -- --save-baseline before   # then, after the change:
//! cargo bench --bench fan_out -- --baseline before
//! ```
//!
//! The `first` tail writes the block's JSON and leaves it in the block, unless it is larger than
//! what the tail cache reckons with; each one `after it` is sent that, or writes the records again. Elements are messages. Payloads are 256 random bytes (base64 in the frame), or
//! JSON of 256 bytes (as it is). The socket's own work, a header and a copy, is not in here.

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytestring::ByteString;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use weir::edge::wire::{Form, Gaps, ReadBudget, Shown, messages_frame};
use weir::exposed::TAIL_FRAME;
use weir::model::{
    BlockBuilder, Epoch, JournalAge, PlacedBlock, ReceiptKey, Record, Timestamp, TopicId,
};
use weir::queue::ReadBlock;

const BYTES: usize = 256;

/// A JSON string of [`BYTES`] bytes.
fn text(random: &mut StdRng) -> Vec<u8> {
    // Base64 makes four bytes of three, and two are the quotes.
    let mut bytes = vec![0; (BYTES - 2) * 3 / 4];
    random.fill_bytes(&mut bytes);
    format!("\"{}\"", STANDARD_NO_PAD.encode(bytes)).into_bytes()
}

fn bytes(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    random.fill_bytes(&mut bytes);
    bytes
}

fn block(messages: u64, content_type: &str, payload: fn(&mut StdRng) -> Vec<u8>) -> PlacedBlock {
    let mut random = StdRng::seed_from_u64(messages);
    let mut builder = BlockBuilder::default();
    for _ in 0..messages {
        let payload = payload(&mut random);
        builder.push(&Record::of(content_type, &payload)).expect("within limits");
    }
    let block = builder.finish().expect("messages");
    PlacedBlock {
        stream: TopicId(1).outgoing(),
        epoch: Epoch::FIRST,
        base_offset: messages,
        count: block.count(),
        ingest_base: messages,
        published_at: Timestamp(messages),
        age: JournalAge(messages),
        body: block.body().clone(),
    }
}

/// The same block, which was not read yet.
fn unread(block: &PlacedBlock) -> Arc<ReadBlock> {
    ReadBlock::new(Arc::new(block.clone()))
}

/// The frame a tail makes of a block.
fn frame(receipts: &ReceiptKey, block: &Arc<ReadBlock>) -> ByteString {
    let shown = Shown {
        form: Form::Json,
        gaps: Gaps::StopAt,
        page_bytes: TAIL_FRAME.bytes,
        body_bytes: usize::MAX,
        until: u64::MAX,
        frames: true,
        shared: true,
        receipts,
        now: JournalAge(0),
    };
    let mut budget = ReadBudget::new(TAIL_FRAME.messages, u64::MAX);
    let page = shown.page(&mut budget, std::slice::from_ref(block), block.base_offset, None);
    let page = page.expect("records");
    match page.block.as_ref().and_then(|block| block.json()) {
        Some(json) => json.frame().clone(),
        None => messages_frame(&page.body),
    }
}

fn fan_out(criterion: &mut Criterion) {
    let receipts = ReceiptKey::new([1; 16]);
    for messages in [1, 64] {
        let mut group = criterion.benchmark_group(format!("a tail's frame, a block of {messages}"));
        group.throughput(Throughput::Elements(messages));
        for (content, block) in [
            ("JSON", block(messages, "application/json", text)),
            ("bytes", block(messages, "application/octet-stream", bytes)),
        ] {
            group.bench_function(format!("{content}, first"), |bencher| {
                let frame = |block: &mut Arc<ReadBlock>| black_box(frame(&receipts, block));
                bencher.iter_batched_ref(|| unread(&block), frame, BatchSize::SmallInput);
            });
            let block = unread(&block);
            frame(&receipts, &block);
            group.bench_function(format!("{content}, after it"), |bencher| {
                bencher.iter(|| black_box(frame(&receipts, black_box(&block))));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
