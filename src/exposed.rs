//! Access for the fuzz targets (`tests/fuzz`) and the benches to codecs that are otherwise private.
//! Built for them only: by cargo-fuzz, and with the feature `exposed`.
//!
//! Nothing is decided here: the targets state what must hold, the benches what is measured.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, LocalBoxStream, StreamExt};

use crate::edge::error::Problem;
use crate::edge::wire::transcode;
use crate::edge::ws::guard::{Budget, FrameGuard};
use crate::edge::ws::{session, tail};
use crate::journal::format::chunk::{self, Bodies, Found, Part, Place};
use crate::journal::format::entry::Moment;
use crate::model::{
    Block, BlockHeader, BlockKind, Epoch, Log, PlacedBlock, Sequence, StreamId, Timestamp,
};
use crate::queue::ReadLimits;

/// Counts how often a socket's reader was called back.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A socket's bytes behind the frame guard, and the session's calls to it.
pub struct GuardedSocket {
    guard: FrameGuard<LocalBoxStream<'static, Result<Bytes, PayloadError>>>,
    budget: Rc<Budget>,
    calls: Arc<Calls>,
    waker: Waker,
}

impl GuardedSocket {
    /// A socket on which these pieces arrive; `None` if nothing has arrived yet.
    pub fn new(
        mut pieces: impl Iterator<Item = Option<Bytes>> + 'static,
        frame_bytes_max: usize,
        bytes_max: usize,
    ) -> Self {
        let pieces = stream::poll_fn(move |_| match pieces.next() {
            Some(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            Some(None) => Poll::Pending,
            None => Poll::Ready(None),
        });
        let budget = Budget::new(frame_bytes_max, bytes_max);
        let guard = FrameGuard::new(pieces.boxed_local(), budget.clone());
        let calls = Arc::<Calls>::default();
        Self { guard, budget, waker: calls.clone().into(), calls }
    }

    /// What the reader gets next.
    pub fn poll(&mut self) -> Poll<Option<Result<Bytes, PayloadError>>> {
        Pin::new(&mut self.guard).poll_next(&mut Context::from_waker(&self.waker))
    }

    /// The session has taken a frame.
    pub fn took_frame(&self) {
        self.budget.took_frame();
    }

    /// The session stops reading, or continues.
    pub fn pause(&self, paused: bool) {
        self.budget.pause(paused);
    }

    /// A frame was refused.
    pub fn has_refused(&self) -> bool {
        self.budget.refused().is_some()
    }

    /// How often the reader was woken.
    pub fn calls(&self) -> usize {
        self.calls.0.load(Ordering::Relaxed)
    }
}

/// Bytes of frames that a session is given before it has taken the ones it has.
pub const IN_HAND_BYTES: usize = session::IN_HAND_BYTES_MAX;

/// How much goes into one frame of a tail.
pub const TAIL_FRAME: ReadLimits = tail::FRAME;

/// The chunk of these blocks, each of which is a part of its own: stream, first offset, block.
pub fn chunk(sequence: u64, parts: &[(u32, u64, Block)]) -> Bytes {
    let moment = Moment { published_at: Timestamp(1), age_ms: 1 };
    let header = |(_, base_offset, block): &(u32, u64, Block)| BlockHeader {
        epoch: Epoch::FIRST,
        number: 1,
        base_offset: *base_offset,
        count: block.count(),
        ingest_base: *base_offset,
        ingest_count: block.count(),
        published_at: moment.published_at,
        age_ms: moment.age_ms,
        ..BlockHeader::default()
    };
    let headers: Vec<_> = parts.iter().map(header).collect();
    let parts: Vec<_> = parts
        .iter()
        .zip(&headers)
        .map(|((stream, _, block), header)| Part {
            stream: StreamId(*stream),
            header,
            bodies: Bodies::Sent(std::slice::from_ref(block)),
        })
        .collect();
    chunk::encode(place(sequence), 1, moment, &parts).value
}

fn place(sequence: u64) -> Place {
    Place { log: Log::Blocks, sequence: Sequence(sequence) }
}

/// The blocks with messages of a chunk, each with its error.
///
/// # Errors
/// The error of the chunk as a whole.
pub fn blocks(
    sequence: u64,
    chunk: &Bytes,
) -> Result<Vec<Result<PlacedBlock, &'static str>>, String> {
    let read = |Found { stream, entry, .. }| {
        chunk::verify(chunk, &entry).map(|()| chunk::block(stream, chunk, &entry))
    };
    let directory = chunk::directory(place(sequence), chunk).map_err(|error| error.to_string())?;
    let messages =
        directory.blocks.into_iter().filter(|found| found.header.kind == BlockKind::Data);
    Ok(messages.map(read).collect())
}

/// The same, as if every body had the checksum of its entry, since a checksum can be forged.
pub fn blocks_unchecked(sequence: u64, chunk: &Bytes) -> Vec<PlacedBlock> {
    let Ok(directory) = chunk::directory(place(sequence), chunk) else { return Vec::new() };
    let messages =
        directory.blocks.into_iter().filter(|found| found.header.kind == BlockKind::Data);
    let there = messages.filter(|Found { entry, .. }| {
        entry.position as usize + entry.bytes as usize <= chunk.len()
    });
    there.map(|Found { stream, entry, .. }| chunk::block(stream, chunk, &entry)).collect()
}

/// A MessagePack value as JSON.
///
/// # Errors
/// It has no such form, or one longer than `bytes_max`.
pub fn msgpack_to_json(value: &[u8], bytes_max: usize) -> Result<Vec<u8>, Problem> {
    transcode::to_json(value, bytes_max)
}

/// Appends JSON to MessagePack; `None` where it has no such form.
pub fn append_json_to_msgpack(out: &mut Vec<u8>, json: &[u8]) -> Option<()> {
    transcode::append_json(out, json)
}
