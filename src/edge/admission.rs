//! A byte budget: what all clients together may have in flight.
//!
//! actix's mailboxes are no backpressure, so memory is bounded here: a block or a body is admitted
//! only with a [`Permit`] for its bytes. The permit travels with the block and is released with its
//! last clone, so that neither a lost socket nor a slow disk releases it too soon. Output to
//! readers has such a budget too.
//!
//! A waiter is in one of two lines, requests or sockets, first come first served; the lines
//! take turns, and waiters are never overtaken. So sockets that send at full speed take at most
//! every other turn from requests, however many they are.
//!
//! A part of the budget is kept for small pieces: a client that sends a message now and then does
//! not queue behind clients that send at full speed.
//!
//! Invariant: permits never cover more than the budget.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// The largest piece that may use the part that is kept for small ones.
const SMALL_BYTES: usize = 16 * 1024;
/// Which part of the budget that is.
const SMALL_SHARE: usize = 8;
/// Requests that may wait at once: each holds a piece of its body that is not admitted.
const REQUESTS_WAITING_MAX: usize = 1_024;

/// The budget. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Admission {
    main: Room,
    small: Room,
}

/// Waiters; each kind in a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// HTTP requests.
    Requests,
    /// WebSockets.
    Sockets,
}

/// A part of the budget.
#[derive(Clone, Debug)]
struct Room {
    state: Arc<Mutex<State>>,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    bytes_free: usize,
    lines: [VecDeque<Waiter>; 2],
    /// The line that is served next.
    turn: usize,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    granted: oneshot::Sender<Permit>,
}

/// Bytes admitted, until this is dropped.
#[derive(Debug, Default)]
pub struct Permit(Vec<Held>);

#[derive(Debug)]
struct Held {
    room: Room,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

impl Permit {
    /// Joins another permit to this one.
    pub fn merge(&mut self, mut other: Self) {
        for mut held in std::mem::take(&mut other.0) {
            let same =
                self.0.iter_mut().find(|mine| Arc::ptr_eq(&mine.room.state, &held.room.state));
            match same {
                Some(mine) => mine.bytes += std::mem::take(&mut held.bytes),
                None => self.0.push(held),
            }
        }
    }

    /// The bytes it covers.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|held| held.bytes).sum()
    }

    /// Releases everything beyond N bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let mut kept = 0;
        for held in &mut self.0 {
            let surplus = held.bytes - held.bytes.min(bytes.saturating_sub(kept));
            held.bytes -= surplus;
            kept += held.bytes;
            held.room.give_back(surplus);
        }
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    /// Takes the next waiter off its line, if there is room for it.
    fn next(&mut self) -> Option<Waiter> {
        for line in &mut self.lines {
            while line.front().is_some_and(|waiter| waiter.granted.is_closed()) {
                line.pop_front();
            }
        }
        if self.lines[self.turn].is_empty() {
            self.turn = 1 - self.turn;
        }
        let line = &mut self.lines[self.turn];
        if line.front()?.bytes > self.bytes_free {
            return None;
        }
        let waiter = line.pop_front()?;
        self.bytes_free -= waiter.bytes;
        self.turn = 1 - self.turn;
        Some(waiter)
    }
}

impl Room {
    fn new(bytes_max: usize) -> Self {
        let state = State { bytes_free: bytes_max, lines: Default::default(), turn: 0 };
        Self { state: Arc::new(Mutex::new(state)), bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, bytes: usize) -> Permit {
        Permit(vec![Held { room: self.clone(), bytes }])
    }

    /// Admits bytes while the lines are empty.
    fn try_take(&self, bytes: usize) -> Option<Permit> {
        let mut state = self.lock();
        if state.waiting() > 0 || state.bytes_free < bytes {
            return None;
        }
        state.bytes_free -= bytes;
        Some(self.permit(bytes))
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.lock().bytes_free += bytes;
            self.serve();
        }
    }

    /// Serves the next waiters, as far as there is room.
    fn serve(&self) {
        // Not under the lock: a waiter that has left since releases its room at once.
        while let Some(Waiter { bytes, granted }) = {
            let mut state = self.lock();
            state.next()
        } {
            drop(granted.send(self.permit(bytes)));
        }
    }

    /// Joins a line; `None` if the line is full.
    fn line_up(&self, kind: Line, bytes: usize, waiting_max: usize) -> Option<Turn> {
        let (granted, grant) = oneshot::channel();
        {
            let mut state = self.lock();
            let line = &mut state.lines[kind as usize];
            if line.len() >= waiting_max {
                line.retain(|waiter| !waiter.granted.is_closed());
                if line.len() >= waiting_max {
                    return None;
                }
            }
            line.push_back(Waiter { bytes, granted });
        }
        // Room may have come free since the caller looked.
        self.serve();
        Some(Turn { room: self.clone(), grant })
    }
}

/// A place in a line; leaving it holds up no other waiter.
struct Turn {
    room: Room,
    grant: oneshot::Receiver<Permit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.grant.close();
        // A grant that was not received is dropped with the channel, and serves the next waiter.
        self.room.serve();
    }
}

impl Turn {
    async fn wait(mut self) -> Permit {
        (&mut self.grant).await.expect("a waiter is served")
    }
}

impl Admission {
    /// A budget of N bytes.
    pub fn new(bytes_max: usize) -> Self {
        let small = bytes_max / SMALL_SHARE;
        Self { main: Room::new(bytes_max - small), small: Room::new(small) }
    }

    /// Lets bytes in if there is room right now, and no waiter.
    pub fn try_admit(&self, bytes: usize) -> Option<Permit> {
        self.try_admit_part(bytes, bytes)
    }

    /// The same for a part of something that has, or will have, `whole` bytes: a large whole does
    /// not use the room for small pieces, however small its parts are.
    pub fn try_admit_part(&self, bytes: usize, whole: usize) -> Option<Permit> {
        let small = || (whole <= SMALL_BYTES).then(|| self.small.try_take(bytes)).flatten();
        self.main.try_take(self.cost(bytes)).or_else(small)
    }

    /// Waits for room, first come first served in its line.
    pub fn admit(&self, kind: Line, bytes: usize) -> impl Future<Output = Permit> + use<> {
        let bytes = self.cost(bytes);
        let taken = self.main.try_take(bytes);
        let granted = match &taken {
            Some(_) => None,
            None => self.main.line_up(kind, bytes, usize::MAX),
        };
        async move {
            match (taken, granted) {
                (Some(permit), _) => permit,
                (None, Some(turn)) => turn.wait().await,
                (None, None) => unreachable!("that line may be of any length"),
            }
        }
    }

    /// The same for a part of a request, which waits at most this long; `None` if no room came in
    /// time, or too many wait already.
    pub async fn admit_within(&self, bytes: usize, whole: usize, wait: Duration) -> Option<Permit> {
        if let Some(permit) = self.try_admit_part(bytes, whole) {
            return Some(permit);
        }
        if wait.is_zero() {
            return None;
        }
        let turn = self.main.line_up(Line::Requests, self.cost(bytes), REQUESTS_WAITING_MAX)?;
        tokio::time::timeout(wait, turn.wait()).await.ok()
    }

    /// Bytes in flight.
    pub fn admitted(&self) -> usize {
        let out = |room: &Room| room.bytes_max - room.lock().bytes_free;
        out(&self.main) + out(&self.small)
    }

    /// Waiters.
    pub fn waiting(&self) -> usize {
        self.main.lock().waiting()
    }

    /// How much of the budget is free, in eighths.
    pub fn eighths_free(&self) -> usize {
        self.main.lock().bytes_free * 8 / self.main.bytes_max.max(1)
    }

    /// A piece never costs more than the whole budget, else it could never be admitted.
    fn cost(&self, bytes: usize) -> usize {
        bytes.min(self.main.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_waits_until_somebody_leaves() {
        let admission = Admission::new(8 * 100_000);
        let first = admission.try_admit(600_000).unwrap();
        assert!(admission.try_admit(100_001).is_none());
        let waiting = tokio::spawn(admission.admit(Line::Sockets, 1_000_000));
        drop(first);
        let all = waiting.await.unwrap();
        assert!(admission.try_admit(SMALL_BYTES + 1).is_none(), "a piece over it takes all of it");
        drop(all);
        assert!(admission.try_admit(700_000).is_some());
    }

    #[tokio::test]
    async fn small_pieces_have_room_of_their_own_and_no_more() {
        let admission = Admission::new(8 * 100_000);
        let large = admission.try_admit(700_000).unwrap();
        let mut small = admission.try_admit(SMALL_BYTES).unwrap();
        while let Some(more) = admission.try_admit(SMALL_BYTES) {
            small.merge(more);
        }
        assert_eq!(admission.admitted(), 700_000 + 100_000 / SMALL_BYTES * SMALL_BYTES);
        drop((large, small));
        assert_eq!(admission.admitted(), 0);
    }

    #[test]
    fn requests_and_sockets_take_turns_however_many_sockets_wait() {
        let admission = Admission::new(8 * 100_000);
        let mut held = admission.try_admit(700_000);
        let mut sockets: Vec<_> =
            (0..10).map(|_| Some(admission.admit(Line::Sockets, 700_000).boxed())).collect();
        let mut requests: Vec<_> =
            (0..3).map(|_| Some(admission.admit(Line::Requests, 700_000).boxed())).collect();
        let mut order = String::new();
        while held.take().is_some() {
            for (name, line) in [('s', &mut sockets), ('r', &mut requests)] {
                for waiter in line {
                    let granted = waiter.as_mut().and_then(|waiter| waiter.now_or_never());
                    if granted.is_some() {
                        order.push(name);
                        (*waiter, held) = (None, granted);
                    }
                }
            }
        }
        assert!(order == "rsrsrssssssss" || order == "srsrsrsssssss", "{order}");
        assert_eq!(admission.admitted(), 0);
    }

    #[test]
    fn nobody_overtakes_who_waits_and_who_leaves_the_line_holds_nobody_up() {
        let admission = Admission::new(8 * 100_000);
        let held = admission.try_admit(300_000).unwrap();
        let leaving = admission.admit(Line::Sockets, 600_000);
        let mut waiting = admission.admit(Line::Sockets, 500_000).boxed();
        assert!(admission.try_admit(100_000).is_none(), "there is room, but others wait for more");
        assert!((&mut waiting).now_or_never().is_none());
        drop(leaving);
        drop(held);
        assert!(waiting.now_or_never().is_some());
        assert_eq!((admission.admitted(), admission.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_request_waits_for_a_bounded_time_and_in_a_line_of_bounded_length() {
        let admission = Admission::new(8 * 100_000);
        let held = admission.try_admit(700_000).unwrap();
        let wait = Duration::from_millis(1);
        assert!(admission.admit_within(20_000, 20_000, wait).await.is_none(), "in vain");
        let wait = Duration::from_secs(60);
        let mut line: Vec<_> = (0..REQUESTS_WAITING_MAX)
            .map(|_| admission.admit_within(20_000, 20_000, wait).boxed())
            .collect();
        assert!(line.iter_mut().all(|waiter| waiter.now_or_never().is_none()));
        let refused = admission.admit_within(20_000, 20_000, wait).now_or_never();
        assert!(matches!(refused, Some(None)), "the line is full");
        drop(held);
        assert!(line.remove(0).await.is_some());
    }

    #[test]
    fn a_permit_gives_back_what_is_not_needed() {
        let admission = Admission::new(8 * 100_000);
        let mut permit = admission.try_admit(100_000).unwrap();
        permit.shrink(200_000);
        assert_eq!(admission.admitted(), 100_000);
        permit.shrink(30_000);
        assert_eq!(admission.admitted(), 30_000);
        drop(permit);
        assert_eq!(admission.admitted(), 0);
    }
}
