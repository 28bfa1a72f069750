//! Whatever comes on a socket and in whatever pieces, the frame guard passes it on as it is up to
//! the first frame that may not be sent, holds no more than it may, and is never stuck.

#![no_main]

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use actix_http::ws::{Codec, ProtocolError};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::Decoder;
use weir::exposed::GuardedSocket;
use weir_fuzz::frames::{self, Frames};

const HEADER_BYTES_MAX: usize = 14;

/// What the first bytes of the input decide.
struct Plan<'a> {
    frame_bytes_max: usize,
    bytes_max: usize,
    /// Sizes of the pieces, over and over; 0: nothing has come yet.
    cuts: &'a [u8],
    /// How many frames the session takes when it gets bytes, over and over; 8 and more: it pauses.
    taking: &'a [u8],
}

impl<'a> Plan<'a> {
    fn read(input: &'a [u8; 16]) -> Self {
        let number = |at: usize| usize::from(u16::from_le_bytes([input[at], input[at + 1]]));
        Self {
            frame_bytes_max: number(0) % 2_048,
            bytes_max: 1 + number(2) % 1_024,
            cuts: &input[4..10],
            taking: &input[10..15],
        }
    }

    fn pieces(&self, wire: &[u8]) -> Vec<Option<Bytes>> {
        let mut rest = wire;
        let mut pieces = Vec::new();
        let nothing = self.cuts.iter().all(|cut| *cut == 0);
        for cut in self.cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let cut = if nothing { 1_000 } else { usize::from(*cut) };
            let piece = rest.split_off(..cut.min(rest.len())).unwrap();
            pieces.push((!piece.is_empty()).then(|| Bytes::copy_from_slice(piece)));
        }
        pieces
    }
}

/// More bytes of frames than this say nothing new, and take long.
const WIRE_BYTES_MAX: usize = 4_096;

/// The input as a list of frames that may be sent, three bytes a frame.
fn valid_frames(input: &[u8], frame_bytes_max: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut fragmented = false;
    for spec in input.chunks_exact(3) {
        if wire.len() > WIRE_BYTES_MAX {
            break;
        }
        let (kind, form, bytes) = (spec[0], spec[1] % 3, usize::from(spec[2]) * 5);
        let first = match (kind % 8, fragmented) {
            (0, _) => 0x89,
            (1, _) => 0x8a,
            (2, _) => 0x88,
            (3 | 4, false) => 0x80 | kind % 2 + 1,
            (_, false) => kind % 2 + 1,
            (3 | 4, true) => 0x80,
            (_, true) => 0x00,
        };
        let control = first & 8 != 0;
        if !control {
            fragmented = first & 0x80 == 0;
        }
        let bytes = bytes.min(frame_bytes_max).min(if control { 125 } else { usize::MAX });
        let mut payload = vec![spec[2]; bytes];
        match (first, payload.as_mut_slice()) {
            (0x88, [high, low, reason @ ..]) => {
                [*high, *low] = 1000u16.to_be_bytes();
                reason.fill(b'x');
            }
            (0x88, _) => payload.clear(),
            _ => {}
        }
        frames::write(&mut wire, first, form, [kind, form, 3, 4], &payload);
    }
    wire
}

/// The connection's reader and its session: what was yielded, and how much of it was taken.
struct Session {
    codec: Codec,
    buffer: BytesMut,
    yielded: Vec<u8>,
    taken: usize,
    /// The reader has found something that it can't take.
    broken: bool,
}

impl Session {
    /// Takes the next frame, if it has come whole.
    fn take(&mut self, socket: &GuardedSocket, expected: &Frames) -> bool {
        if self.broken {
            return false;
        }
        match self.codec.decode(&mut self.buffer) {
            Ok(None) => return false,
            Ok(Some(_)) => {
                let frame = expected.whole.get(self.taken).expect("no frame that may not be sent");
                assert_eq!(self.yielded.len() - self.buffer.len(), frame.end, "the next frame");
                self.taken += 1;
                socket.took_frame();
            }
            Err(
                ProtocolError::ContinuationNotStarted
                | ProtocolError::ContinuationStarted
                | ProtocolError::ContinuationFragment(_),
            ) => self.broken = true,
            // A header that has not come whole may tell the reader enough.
            Err(error) => {
                let in_header = self.taken == expected.whole.len() && expected.begun.is_none();
                assert!(in_header, "the guard let through what the reader refuses: {error}");
                self.broken = true;
            }
        }
        true
    }

    fn taken_bytes(&self, expected: &Frames) -> usize {
        self.taken.checked_sub(1).map_or(0, |last| expected.whole[last].end)
    }
}

fn run(plan: &Plan<'_>, wire: &[u8]) -> (Session, bool) {
    let expected = frames::find(wire, plan.frame_bytes_max);
    let frame_max = plan.frame_bytes_max.max(125) + HEADER_BYTES_MAX;
    let pieces = plan.pieces(wire);
    let piece_max = pieces.iter().flatten().map(Bytes::len).max().unwrap_or(0);
    // What has come so far, and whether the guard waits for more of it.
    let came = Rc::new(Cell::new(0));
    let waits = Rc::new(Cell::new(false));
    let (counts, notes) = (came.clone(), waits.clone());
    let pieces = pieces.into_iter().inspect(move |piece| {
        counts.set(counts.get() + piece.as_ref().map_or(0, Bytes::len));
        notes.set(piece.is_none());
    });
    let mut socket = GuardedSocket::new(pieces, plan.frame_bytes_max, plan.bytes_max);
    let codec = Codec::new().max_size(plan.frame_bytes_max.max(125));
    let mut session =
        Session { codec, buffer: BytesMut::new(), yielded: Vec::new(), taken: 0, broken: false };

    for taking in plan.taking.iter().cycle() {
        if *taking >= 8 && !socket.has_refused() {
            let calls = socket.calls();
            socket.pause(true);
            assert!(socket.poll().is_pending(), "nothing passes while paused");
            socket.pause(false);
            assert!(socket.calls() > calls, "called back after the pause");
        }
        waits.set(false);
        match socket.poll() {
            Poll::Ready(Some(bytes)) => {
                let bytes = bytes.expect("no errors pass");
                assert!(!bytes.is_empty());
                session.yielded.extend_from_slice(&bytes);
                session.buffer.extend_from_slice(&bytes);
                for _ in 0..taking % 8 {
                    session.take(&socket, &expected);
                }
            }
            Poll::Ready(None) => break,
            Poll::Pending if waits.get() => {}
            Poll::Pending => {
                let calls = socket.calls();
                assert!(session.take(&socket, &expected), "stuck with nothing to take");
                assert!(session.broken || socket.calls() > calls, "called back for a frame taken");
            }
        }
        if session.broken {
            break;
        }
        let taken = session.taken_bytes(&expected);
        let in_hand = session.yielded.len() - taken;
        assert!(in_hand < plan.bytes_max + frame_max, "{in_hand} bytes in hand");
        let held = came.get() - taken;
        assert!(held < plan.bytes_max + frame_max + piece_max, "{held} bytes in all");
    }
    while session.take(&socket, &expected) && !session.broken {}
    assert!(wire.starts_with(&session.yielded), "what came, as it came");
    if session.broken {
        return (session, socket.has_refused());
    }
    assert_eq!(socket.has_refused(), expected.refused.is_some());
    assert!(matches!(socket.poll(), Poll::Ready(None)), "an end is an end");
    assert_eq!(session.taken, expected.whole.len(), "all that may be taken was");
    let yielded = session.yielded.len();
    match (expected.refused, expected.begun) {
        (Some(refused), _) => {
            assert!(yielded >= refused.start && yielded < refused.end.max(refused.payload));
        }
        // Of a frame that is larger than the budget nothing passes but bytes of its header.
        (None, Some(begun)) if begun.end - begun.payload > plan.bytes_max => {
            assert!(yielded >= begun.start && yielded < begun.payload);
        }
        (None, _) => assert_eq!(yielded, wire.len()),
    }
    (session, socket.has_refused())
}

// 16 bytes: the plan, and whether what follows is taken as it is (even) or says which frames to
// write (odd).
fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<16>() else { return };
    let plan = Plan::read(head);
    if head[15] % 2 == 0 {
        run(&plan, rest);
        return;
    }
    let wire = valid_frames(rest, plan.frame_bytes_max);
    let (session, refused) = run(&plan, &wire);
    assert!(!refused && !session.broken, "every frame may be sent");
    assert_eq!(session.yielded, wire);
});
