//! The guard between a socket's bytes and actix-web-actors' reader.
//!
//! That reader takes whatever its stream yields into a buffer without bound, and the codec checks a
//! frame's size only when the whole frame is there. So the guard parses the frame headers as the
//! bytes pass (RFC 6455 §5.2), refuses a declared length over the limit and any breach of the
//! standard at once, and yields no more than a budget of bytes until the session has taken the
//! frames it already got. A frame that has begun passes to its end, since it can't be taken before;
//! its length has been checked. A frame larger than the budget is held here until it is complete:
//! the codec would reserve memory for its declared length at once, whether the bytes ever arrive or
//! not.
//!
//! A refused frame and a broken connection are ends of the stream here: on an error that reader
//! would discard the complete frames it still holds.
//!
//! Invariants: bytes yielded and not taken ≤ budget + one frame; what a frame cost on the wire is
//! counted exactly (a drift of a few bytes a frame grows into megabytes); while the session is
//! paused nothing is yielded; memory follows the bytes that came, not those that were declared.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut};
use futures_util::Stream;

use super::header::{FrameHeader, HEADER_BYTES_MAX, Refusal};
use super::unfinished::Unfinished;
use crate::edge::admission::Admission;

/// What guard and session share.
#[derive(Debug)]
pub(crate) struct Budget {
    frame_bytes_max: usize,
    bytes_max: usize,
    in_hand: Cell<usize>,
    /// Wire bytes of the frames that were yielded complete and not taken, oldest first.
    frames: RefCell<VecDeque<usize>>,
    paused: Cell<bool>,
    unheard: Cell<bool>,
    refused: Cell<Option<Refusal>>,
    /// The large frame that is arriving.
    unfinished: RefCell<Unfinished>,
    waker: RefCell<Option<Waker>>,
}

impl Budget {
    /// Yields frames up to `frame_bytes_max`, `bytes_max` bytes at a time.
    #[cfg(any(test, fuzzing, feature = "exposed"))]
    pub(crate) fn new(frame_bytes_max: usize, bytes_max: usize) -> Rc<Self> {
        Self::charging(frame_bytes_max, bytes_max, None)
    }

    /// The same; frames that are held until they are complete are charged to a budget.
    pub(super) fn charging(
        frame_bytes_max: usize,
        bytes_max: usize,
        budget: Option<Admission>,
    ) -> Rc<Self> {
        Rc::new(Self {
            unfinished: RefCell::new(Unfinished::new(budget)),
            frame_bytes_max,
            bytes_max,
            in_hand: Cell::new(0),
            frames: RefCell::default(),
            paused: Cell::new(false),
            unheard: Cell::new(false),
            refused: Cell::new(None),
            waker: RefCell::default(),
        })
    }

    /// The session has taken a frame.
    pub(crate) fn took_frame(&self) {
        let bytes = self.frames.borrow_mut().pop_front().unwrap_or(0);
        self.in_hand.set(self.in_hand.get().saturating_sub(bytes));
        self.wake();
    }

    /// Stops reading the socket, or continues.
    pub(crate) fn pause(&self, paused: bool) {
        if self.paused.replace(paused) && !paused {
            self.wake();
        }
    }

    /// Stops reading the socket while the client does not read its answers, or continues.
    pub(super) fn unheard(&self, unheard: bool) {
        if self.unheard.replace(unheard) && !unheard {
            self.wake();
        }
    }

    /// The socket is not being read, by the broker's choice.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.get() || self.unfinished.borrow().is_waiting()
    }

    /// When a frame began that is held until it is complete.
    pub(super) fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished.borrow().since()
    }

    /// Why a frame was refused, if one was.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.refused.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The guard's position in the stream of frames.
#[derive(Debug)]
enum Place {
    /// Within a frame's header, of which these bytes are known.
    Header { bytes: [u8; HEADER_BYTES_MAX], known: usize },
    /// Within a frame's payload.
    Payload { left: usize, header: FrameHeader },
}

const FRAME_START: Place = Place::Header { bytes: [0; HEADER_BYTES_MAX], known: 0 };

/// The length of a frame that is held until it is complete, as long as there is no room for it.
fn needs_room(place: &Place, budget: &Budget) -> Option<usize> {
    let Place::Payload { header, left } = place else { return None };
    let large = header.payload_bytes > budget.bytes_max as u64 && *left > 0;
    (large && !budget.unfinished.borrow().is_reserved()).then_some(header.payload_bytes as usize)
}

/// The guarded stream.
pub(crate) struct FrameGuard<S> {
    stream: S,
    budget: Rc<Budget>,
    place: Place,
    /// Read and not yielded yet.
    held: Bytes,
    /// A frame larger than the budget, as far as it has arrived.
    large: BytesMut,
    /// The payload of a close frame, as far as it has arrived.
    close: Vec<u8>,
}

/// What may leave [`FrameGuard::held`] now: first bytes for the reader, then bytes of a large frame
/// that is incomplete.
struct Passed {
    ready: usize,
    large: usize,
}

impl<S> FrameGuard<S> {
    pub(crate) fn new(stream: S, budget: Rc<Budget>) -> Self {
        Self {
            stream,
            budget,
            place: FRAME_START,
            held: Bytes::new(),
            large: BytesMut::new(),
            close: Vec::new(),
        }
    }

    /// How many of the held bytes may pass now; up to a frame that is too long, which is refused.
    fn pass(&mut self) -> Passed {
        let budget = &self.budget;
        let mut passed = 0;
        let mut frame_start = 0;
        while passed < self.held.len() {
            let at_start = matches!(self.place, Place::Header { known: 0, .. });
            if at_start && budget.in_hand.get() >= budget.bytes_max {
                break;
            }
            if needs_room(&self.place, budget).is_some() {
                break;
            }
            let before = passed;
            match &mut self.place {
                Place::Header { bytes, known } => {
                    // Nearly always the whole header is here; else it is put together.
                    let mut header = match known {
                        0 => FrameHeader::parse(&self.held[passed..]),
                        _ => None,
                    };
                    if let Some(header) = &header {
                        passed += header.header_bytes;
                    } else {
                        bytes[*known] = self.held[passed];
                        *known += 1;
                        passed += 1;
                        header = FrameHeader::parse(&bytes[..*known]);
                    }
                    if let Some(header) = header {
                        if let Err(refusal) = header.check(budget.frame_bytes_max as u64) {
                            budget.refused.set(Some(refusal));
                            return Passed { ready: frame_start, large: 0 };
                        }
                        let left = header.payload_bytes as usize;
                        self.place = Place::Payload { left, header };
                    }
                }
                Place::Payload { left, header } => {
                    let step = (*left).min(self.held.len() - passed);
                    if header.is_close() {
                        self.close.extend_from_slice(&self.held[passed..passed + step]);
                    }
                    *left -= step;
                    passed += step;
                }
            }
            budget.in_hand.set(budget.in_hand.get() + passed - before);
            if let Place::Payload { left: 0, header } = self.place {
                if header.is_close()
                    && let Err(refusal) = header.check_close(&self.close)
                {
                    budget.refused.set(Some(refusal));
                    return Passed { ready: frame_start, large: 0 };
                }
                self.close.clear();
                let wire_bytes = header.header_bytes + header.payload_bytes as usize;
                budget.frames.borrow_mut().push_back(wire_bytes);
                self.place = FRAME_START;
                frame_start = passed;
            }
        }
        let unfinished_large = matches!(self.place, Place::Payload { header, .. }
            if header.payload_bytes > budget.bytes_max as u64);
        let ready = if unfinished_large { frame_start } else { passed };
        Passed { ready, large: passed - ready }
    }

    /// Takes off what the reader gets next, once there is something.
    fn yield_passed(&mut self, passed: &Passed) -> Option<Bytes> {
        let ready = self.held.split_to(passed.ready);
        let whole = if self.large.is_empty() || ready.is_empty() {
            ready
        } else {
            self.large.extend_from_slice(&ready);
            self.budget.unfinished.borrow_mut().finish();
            self.large.split().freeze()
        };
        self.large.extend_from_slice(&self.held.split_to(passed.large));
        (!whole.is_empty()).then_some(whole)
    }
}

impl<S> Stream for FrameGuard<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let guard = self.get_mut();
        if guard.budget.refused().is_some() {
            return Poll::Ready(None);
        }
        if guard.budget.paused.get() || guard.budget.unheard.get() {
            *guard.budget.waker.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        loop {
            if let Some(bytes) = needs_room(&guard.place, &guard.budget) {
                let mut unfinished = guard.budget.unfinished.borrow_mut();
                std::task::ready!(unfinished.poll_reserve(bytes, context));
            }
            let passed = guard.pass();
            if let Some(bytes) = guard.yield_passed(&passed) {
                return Poll::Ready(Some(Ok(bytes)));
            }
            if guard.budget.refused().is_some() {
                return Poll::Ready(None);
            }
            if needs_room(&guard.place, &guard.budget).is_some() {
                continue;
            }
            if !guard.held.is_empty() {
                *guard.budget.waker.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            match Pin::new(&mut guard.stream).poll_next(context) {
                Poll::Ready(Some(Ok(bytes))) => guard.held = bytes,
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;
    use proptest::prelude::*;

    use super::*;

    /// A masked frame with the length written in the given form: 0 short, 2 or 8 bytes.
    fn frame(payload_bytes: usize, length_bytes: usize) -> Vec<u8> {
        let mut frame = vec![0x82];
        match length_bytes {
            0 => frame.push(0x80 | payload_bytes as u8),
            2 => {
                frame.push(0x80 | 126);
                frame.extend((payload_bytes as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload_bytes as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(vec![7; payload_bytes]);
        frame
    }

    fn guard(
        pieces: Vec<Vec<u8>>,
        budget: &Rc<Budget>,
    ) -> FrameGuard<impl Stream<Item = Result<Bytes, PayloadError>> + Unpin> {
        let pieces = pieces.into_iter().map(|piece| Ok(Bytes::from(piece)));
        FrameGuard::new(futures_util::stream::iter(pieces), budget.clone())
    }

    fn poll<S>(guard: &mut FrameGuard<S>) -> Poll<Option<Result<Bytes, PayloadError>>>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    {
        Pin::new(guard).poll_next(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_before_its_payload_comes() {
        let budget = Budget::new(1_000, 100);
        let mut header = frame(0, 8);
        header[2..10].copy_from_slice(&(1u64 << 40).to_be_bytes());
        let small = frame(3, 0);
        let mut guard = guard(vec![[&small[..], &header].concat()], &budget);
        let before = poll(&mut guard);
        assert!(
            matches!(before, Poll::Ready(Some(Ok(bytes))) if bytes == small),
            "what came before"
        );
        assert_eq!(budget.refused(), Some(Refusal::TooLarge));
        assert!(matches!(poll(&mut guard), Poll::Ready(None)));
    }

    #[test]
    fn a_frame_of_exactly_the_limit_passes() {
        let budget = Budget::new(1_000, 100);
        let mut guard = guard(vec![frame(1_000, 2)], &budget);
        assert!(matches!(poll(&mut guard), Poll::Ready(Some(Ok(bytes))) if bytes.len() == 1_008));
    }

    #[test]
    fn a_frame_larger_than_the_budget_is_held_until_it_is_whole() {
        let budget = Budget::new(1_000, 100);
        let (small, large) = (frame(5, 0), frame(500, 2));
        let (begun, rest) = large.split_at(200);
        let (more, last) = rest.split_at(200);
        let begun = [&small, begun].concat();
        let mut guard = guard(vec![begun, more.to_vec(), last.to_vec(), small.clone()], &budget);
        let mut next = || match poll(&mut guard) {
            Poll::Ready(Some(Ok(bytes))) => bytes.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(next(), small);
        assert_eq!(next(), large, "in one piece");
        budget.took_frame();
        budget.took_frame();
        assert_eq!(next(), small);
    }

    #[test]
    fn a_broken_connection_ends_the_stream_after_what_came() {
        let budget = Budget::new(1_000, 100);
        let pieces = [Ok(Bytes::from(frame(1, 0))), Err(PayloadError::Incomplete(None))];
        let mut guard = FrameGuard::new(futures_util::stream::iter(pieces), budget);
        assert!(matches!(poll(&mut guard), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(poll(&mut guard), Poll::Ready(None)));
    }

    #[test]
    fn each_close_frame_is_looked_at_by_itself() {
        let budget = Budget::new(1_000, 100);
        let close = [0x88, 0x84, 0, 0, 0, 0, 0x03, 0xe8, b'o', b'k'];
        let masked = [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2];
        let wire = [&close[..], &masked].concat();
        let mut guard = guard(vec![wire.clone()], &budget);
        assert!(matches!(poll(&mut guard), Poll::Ready(Some(Ok(bytes))) if bytes == wire));
        assert_eq!(budget.refused(), None);
    }

    #[test]
    fn nothing_passes_while_paused() {
        let budget = Budget::new(1_000, 100);
        let mut guard = guard(vec![frame(1, 0)], &budget);
        budget.pause(true);
        budget.unheard(true);
        assert!(poll(&mut guard).is_pending());
        budget.pause(false);
        assert!(poll(&mut guard).is_pending());
        budget.unheard(false);
        assert!(poll(&mut guard).is_ready());
    }

    proptest! {
        #[test]
        fn however_the_bytes_come_in_the_hand_never_holds_more_than_budget_and_a_frame(
            frames in proptest::collection::vec((0usize..126, prop_oneof![Just(0usize), Just(2), Just(8)]), 1..60),
            cuts in proptest::collection::vec(1usize..200, 1..60),
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(bytes, form)| frame(*bytes, *form)).collect();
            let mut pieces = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                pieces.push(rest.split_off(..rest.len().min(*cut)).unwrap().to_vec());
            }
            let budget = Budget::new(200, 64);
            let mut guard = guard(pieces, &budget);
            let mut seen = Vec::new();
            let mut taken = 0;
            loop {
                match poll(&mut guard) {
                    Poll::Ready(Some(bytes)) => seen.extend_from_slice(&bytes.unwrap()),
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        prop_assert!(!budget.frames.borrow().is_empty(), "stuck with nothing to take");
                        budget.took_frame();
                        taken += 1;
                    }
                }
                prop_assert!(budget.in_hand.get() <= 64 + 200 + HEADER_BYTES_MAX);
            }
            prop_assert_eq!(seen, wire);
            while taken < frames.len() {
                budget.took_frame();
                taken += 1;
            }
            prop_assert_eq!(budget.in_hand.get(), 0, "every byte of every frame was given back");
        }
    }
}
