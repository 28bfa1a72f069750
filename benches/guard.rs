//! The WebSocket frame guard, which sees every byte that clients send before anything else does.
//!
//! ```text
//! cargo bench --bench guard
//! cargo bench --bench guard -- --save-baseline before   # then, after the change:
//! cargo bench --bench guard -- --baseline before
//! ```
//!
//! Masked binary frames come in pieces that know nothing of where frames end, and are taken as soon
//! as the guard waits for that; nothing is decoded. Small frames cost by the frame (elements are
//! frames), large ones, which the guard puts together, by the byte.

use std::hint::black_box;
use std::task::Poll;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use weir::edge::LimitSettings;
use weir::exposed::{GuardedSocket, IN_HAND_BYTES};

/// One final, masked, binary frame (RFC 6455 §5.2).
fn frame(payload_bytes: usize, random: &mut StdRng) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload_bytes {
        0..126 => frame.push(0x80 | payload_bytes as u8),
        126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    let masked = frame.len();
    // Mask and payload: neither means anything to the guard.
    frame.resize(masked + 4 + payload_bytes, 0);
    random.fill_bytes(&mut frame[masked..]);
    frame
}

/// What a client sends, as it comes.
struct Sent {
    pieces: Vec<Bytes>,
    frames: usize,
    frame_bytes: usize,
}

impl Sent {
    fn new(frames: usize, payload_bytes: usize, piece_bytes: usize) -> Self {
        let mut random = StdRng::seed_from_u64(payload_bytes as u64);
        let wire: Vec<_> = (0..frames).map(|_| frame(payload_bytes, &mut random)).collect();
        let frame_bytes = wire[0].len();
        let wire = Bytes::from(wire.concat());
        let pieces = (0..wire.len()).step_by(piece_bytes);
        let pieces = pieces.map(|at| wire.slice(at..wire.len().min(at + piece_bytes))).collect();
        Self { pieces, frames, frame_bytes }
    }

    fn socket(&self) -> GuardedSocket {
        let pieces = self.pieces.clone().into_iter().map(Some);
        GuardedSocket::new(pieces, LimitSettings::default().frame_bytes_max, IN_HAND_BYTES)
    }

    /// Takes everything through the guard.
    fn pass(&self, socket: &mut GuardedSocket) {
        let (mut bytes, mut taken) = (0, 0);
        loop {
            match socket.poll() {
                Poll::Ready(Some(piece)) => {
                    bytes += black_box(piece).expect("bytes").len();
                    continue;
                }
                Poll::Ready(None) => break,
                Poll::Pending => {}
            }
            let whole = bytes / self.frame_bytes;
            assert!(taken < whole, "it waits with nothing to take");
            (taken..whole).for_each(|_| socket.took_frame());
            taken = whole;
        }
        assert_eq!(bytes, self.frames * self.frame_bytes, "all of it");
    }
}

fn guard(criterion: &mut Criterion) {
    const KIB: usize = 1024;
    let mut group = criterion.benchmark_group("guard");
    for (name, sent) in [
        ("256-byte frames, one a piece", Sent::new(4_096, 256, 264)),
        ("256-byte frames in pieces of 64 KiB", Sent::new(4_096, 256, 64 * KIB)),
        ("16-byte frames in pieces of 64 KiB", Sent::new(32_768, 16, 64 * KIB)),
    ] {
        group.throughput(Throughput::Elements(sent.frames as u64));
        group.bench_function(name, |bencher| {
            let pass = |socket: &mut GuardedSocket| sent.pass(socket);
            bencher.iter_batched_ref(|| sent.socket(), pass, BatchSize::SmallInput);
        });
    }
    let sent = Sent::new(4, 1024 * KIB, 64 * KIB);
    group.throughput(Throughput::Bytes((sent.frames * sent.frame_bytes) as u64));
    group.bench_function("1 MiB frames in pieces of 64 KiB", |bencher| {
        let pass = |socket: &mut GuardedSocket| sent.pass(socket);
        bencher.iter_batched_ref(|| sent.socket(), pass, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, guard);
criterion_main!(benches);
