//! Output to readers: one byte budget for pages in every form, messages, events, tails and backups.
//!
//! An answer is sent piece by piece, as its connection takes it. A [`Taker`] asks for room before a
//! piece is made and holds it until the connection asks for the next one, so a reader that reads
//! nothing holds one piece. Pieces are short while the budget is scarce: then many readers that
//! read nothing leave room for those that do.
//!
//! A reader that holds room and takes less than a floor is cut off from outside, since neither
//! timers nor mailbox of a connection run while its client does not read: when it was below the
//! floor for a whole `stall_timeout_ms` (longer, where the piece in hand alone would be above it),
//! or, while others wait for room, when it has held a piece for 2 s. (A reader that takes nothing
//! at all is also disconnected by the kernel; see `connections`.)
//!
//! Invariant: beside the room that is held, an open connection has at most [`UNCHARGED_BYTES`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::LimitSettings;
use super::admission::{Admission, Line, Permit};
use super::connections::ReadingEnd;

/// What a connection collects before it writes, whatever the answer's pieces are.
pub const UNCHARGED_BYTES: usize = 16 * 1024;
/// Piece sizes while nearly all the room is free, while there is plenty, while there is little, and
/// while there is hardly any.
const PIECE_BYTES_MOST: usize = 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;
const PIECE_BYTES_SCARCE: usize = 16 * 1024;
const PIECE_BYTES_LEAST: usize = 8 * 1024;
/// How long a piece may be held while others wait for room.
const PRESSED_MS: u64 = 2_000;
/// How often slow readers are looked for.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// See the module. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Outgoing(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: Admission,
    takers: DashMap<u64, Arc<Slot>>,
    next_id: AtomicU64,
    window: Duration,
    floor_bytes_per_s: u64,
}

/// A reader's side.
#[derive(Debug)]
pub struct Taker {
    outgoing: Outgoing,
    id: u64,
    slot: Arc<Slot>,
    held: Option<Permit>,
}

#[derive(Debug)]
struct Slot {
    connection: Option<ReadingEnd>,
    line: Line,
    pace: Mutex<Pace>,
}

/// How fast a reader takes its pieces.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Since when, and how many bytes, the connection has the piece in hand.
    piece: Option<(Instant, usize)>,
    /// Since when it has always had one, and the bytes it took from then on.
    window: Option<(Instant, u64)>,
}

impl Outgoing {
    /// As large as the settings say, with nothing in flight.
    pub fn new(limits: &LimitSettings) -> Self {
        Self(Arc::new(Shared {
            room: Admission::new(limits.outgoing_bytes_max),
            takers: DashMap::new(),
            next_id: AtomicU64::new(0),
            window: Duration::from_millis(limits.stall_timeout_ms),
            floor_bytes_per_s: limits.reader_bytes_per_s_min,
        }))
    }

    /// For an answer on this connection.
    pub fn taker(&self, connection: Option<ReadingEnd>, line: Line) -> Taker {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot { connection, line, pace: Mutex::default() });
        self.0.takers.insert(id, slot.clone());
        Taker { outgoing: self.clone(), id, slot, held: None }
    }

    /// How long a piece is to be now.
    pub fn piece_bytes(&self) -> usize {
        match self.0.room.eighths_free() {
            0..2 => PIECE_BYTES_LEAST,
            2..4 => PIECE_BYTES_SCARCE,
            4..7 => PIECE_BYTES,
            _ => PIECE_BYTES_MOST,
        }
    }

    /// Only what is needed at once may be kept.
    pub fn is_scarce(&self) -> bool {
        self.0.room.eighths_free() < 4
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        self.0.room.admitted()
    }

    /// Takes room now, if there is some.
    pub fn try_room(&self, bytes: usize) -> Option<Permit> {
        self.0.room.try_admit_part(bytes, usize::MAX)
    }

    /// Waits for room.
    pub fn room(&self, line: Line, bytes: usize) -> impl Future<Output = Permit> + use<> {
        self.0.room.admit(line, bytes)
    }

    /// Cuts off readers that are too slow; returns their number.
    pub fn cut_slow(&self, now: Instant) -> usize {
        let mut slow = 0;
        let mut pressed = Vec::new();
        for taker in &self.0.takers {
            let mut pace = taker.lock();
            if pace.is_below(self.0.floor_bytes_per_s, self.0.window, now) {
                drop(pace);
                slow += usize::from(taker.cut());
            } else if let Some((since, _)) = pace.piece
                && now.saturating_duration_since(since) >= Duration::from_millis(PRESSED_MS)
            {
                pressed.push((since, taker.value().clone()));
            }
        }
        // One for each waiter, those first that have held a piece for the longest time.
        pressed.sort_unstable_by_key(|(since, _)| *since);
        let waiting = self.0.room.waiting();
        slow + pressed.iter().take(waiting).filter(|(_, slot)| slot.cut()).count()
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) -> bool {
        // It holds the piece until its connection has ended, and is not counted as slow again.
        *self.lock() = Pace::default();
        self.connection.as_ref().inspect(|connection| connection.cut()).is_some()
    }
}

impl Pace {
    /// The connection asks for more.
    fn took(&mut self) {
        let taken = self.piece.take().map_or(0, |(_, bytes)| bytes as u64);
        if let Some((_, bytes)) = &mut self.window {
            *bytes += taken;
        }
    }

    fn gave(&mut self, bytes: usize, now: Instant) {
        self.piece = Some((now, bytes));
        self.window.get_or_insert((now, 0));
    }

    /// It was below the floor for a whole window, even if it is about to have taken the piece in
    /// hand; else a window that is over begins anew.
    fn is_below(&mut self, floor_bytes_per_s: u64, window: Duration, now: Instant) -> bool {
        let (Some((since, taken)), Some((_, in_hand))) = (self.window, self.piece) else {
            return false;
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed < window {
            return false;
        }
        let expected = u128::from(floor_bytes_per_s) * elapsed.as_millis() / 1_000;
        if u128::from(taken) >= expected {
            self.window = Some((now, 0));
        }
        u128::from(taken) + (in_hand as u128) < expected
    }
}

impl Taker {
    /// Waits for room for a piece; the room of the previous one is released first.
    pub async fn room(&mut self, bytes: usize) -> Permit {
        self.took();
        self.outgoing.0.room.admit(self.slot.line, bytes).await
    }

    /// The same if there is room now.
    pub fn try_room(&mut self, bytes: usize) -> Option<Permit> {
        self.took();
        self.outgoing.try_room(bytes)
    }

    /// The connection has taken its piece.
    pub fn took(&mut self) {
        self.slot.lock().took();
        self.held = None;
    }

    /// It gets a piece.
    pub fn gave(&mut self, mut room: Permit, bytes: usize) {
        room.shrink(bytes);
        self.gave_charged(bytes);
        self.held = Some(room);
    }

    /// It gets a piece whose room is held elsewhere.
    pub fn gave_charged(&mut self, bytes: usize) {
        self.slot.lock().gave(bytes, Instant::now());
    }

    /// There is nothing more for it for now.
    pub fn idle(&mut self) {
        *self.slot.lock() = Pace::default();
        self.held = None;
    }

    /// The budget.
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.outgoing.0.takers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn outgoing() -> Outgoing {
        let limits = LimitSettings {
            outgoing_bytes_max: 8 * 100_000,
            reader_bytes_per_s_min: 1_000,
            stall_timeout_ms: 60_000,
            ..LimitSettings::default()
        };
        Outgoing::new(&limits)
    }

    /// A reader on a connection of its own, which must be kept.
    fn reader(outgoing: &Outgoing) -> (Taker, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (outgoing.taker(ReadingEnd::of(&server), Line::Requests), client, server)
    }

    fn give(taker: &mut Taker, bytes: usize) {
        let room = taker.try_room(bytes).unwrap();
        taker.gave(room, bytes);
    }

    #[test]
    fn who_takes_less_than_the_floor_for_a_whole_window_is_cut_off() {
        let outgoing = outgoing();
        let mut readers = [reader(&outgoing), reader(&outgoing), reader(&outgoing)];
        let now = Instant::now();
        for (taker, ..) in &mut readers {
            give(taker, 25_000);
        }
        // One takes all, one a little, one nothing; the first two always want more.
        for _ in 0..3 {
            give(&mut readers[0].0, 25_000);
        }
        give(&mut readers[1].0, 25_000);
        assert_eq!(outgoing.cut_slow(now + WINDOW / 2), 0);
        assert_eq!(outgoing.cut_slow(Instant::now() + WINDOW), 2);
        assert_eq!(outgoing.cut_slow(Instant::now() + WINDOW), 0, "once");
    }

    #[test]
    fn who_waits_for_news_is_not_slow() {
        let outgoing = outgoing();
        let (mut taker, _client, _server) = reader(&outgoing);
        give(&mut taker, 10);
        taker.idle();
        assert_eq!(outgoing.cut_slow(Instant::now() + WINDOW), 0);
        give(&mut taker, 10);
        assert_eq!(outgoing.cut_slow(Instant::now() + WINDOW / 2), 0, "the window began anew");
        assert_eq!(outgoing.held_bytes(), 10);
        drop(taker);
        assert_eq!(outgoing.held_bytes(), 0);
    }

    #[test]
    fn while_others_wait_the_oldest_pieces_are_given_up() {
        let outgoing = outgoing();
        let mut readers: Vec<_> = (0..7).map(|_| reader(&outgoing)).collect();
        for (taker, ..) in &mut readers {
            give(taker, 100_000);
        }
        let later = Instant::now() + Duration::from_millis(PRESSED_MS);
        assert_eq!(outgoing.cut_slow(later), 0, "no reader waits");
        let _waiting = outgoing.room(Line::Requests, 50_000);
        assert_eq!(outgoing.cut_slow(Instant::now()), 0, "a piece may be held for a while");
        assert_eq!(outgoing.cut_slow(later), 1);
        let ends = |client: &mut TcpStream| {
            client.set_nonblocking(true).unwrap();
            matches!(std::io::Read::read(client, &mut [0]), Ok(0))
        };
        let cut: Vec<bool> = readers.iter_mut().map(|(_, client, _)| ends(client)).collect();
        assert_eq!(cut, [true, false, false, false, false, false, false]);
    }

    #[test]
    fn pieces_are_short_where_the_budget_is_scarce() {
        let outgoing = outgoing();
        assert_eq!(outgoing.piece_bytes(), PIECE_BYTES_MOST);
        let some = outgoing.try_room(100_000);
        assert_eq!(outgoing.piece_bytes(), PIECE_BYTES);
        let most = outgoing.try_room(380_000);
        assert_eq!(outgoing.piece_bytes(), PIECE_BYTES_SCARCE);
        let more = outgoing.try_room(100_000);
        assert_eq!(outgoing.piece_bytes(), PIECE_BYTES_LEAST);
        drop((some, most, more));
        assert_eq!(outgoing.piece_bytes(), PIECE_BYTES_MOST);
    }
}
