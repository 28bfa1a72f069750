//! What a connection's stream and the requests that came over it know of each other.
//!
//! actix-http keeps a request going whose client has sent FIN, since it may only have ended its own
//! half and still read. That is right if the answer comes anyway; an answer that may not come for
//! long must not keep the connection of a client that has gone. So the stream signals that no more
//! input will come, and a handler that holds an answer back gives it then.
//!
//! Invariant: everything here lives on the connection's own thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use actix_web::HttpRequest;
use tokio::sync::Notify;

use super::framing::{Body, Chunks, Head};

/// As much of a request's head as is kept until it has been read.
const HEAD_BYTES_MAX: usize = 2 * 1024;

/// As much of its memory stays with the connection.
const HEAD_BYTES_KEPT: usize = 512;

/// See the module. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Link(Rc<State>);

#[derive(Debug, Default)]
struct State {
    /// The client will send no more.
    ended: Cell<bool>,
    on_end: Notify,
    input: Cell<Input>,
    /// Wakes the stream when held bytes may be due.
    waker: RefCell<Option<Waker>>,
    pieces: Cell<Pieces>,
    /// A request has come before.
    used: Cell<bool>,
    /// The beginning of the current head, to say what is wrong with it.
    head: RefCell<Vec<u8>>,
}

/// What the client's next bytes are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A request's head.
    Head(Head),
    /// Not known yet, so they are held: actix-http has the head of a request and has not handed it
    /// over.
    Unknown,
    /// A request's body. The request may have been answered already.
    Body { body: Body, answered: bool },
    /// The next request, which is held until the current one is answered.
    Next,
    /// Frames of a WebSocket.
    Frames,
}

impl Input {
    /// No byte within the known length has to be held.
    pub(super) fn is_all_due(self) -> bool {
        matches!(self, Self::Frames | Self::Body { body: Body::Length(_), .. })
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

/// The progress of an answer that is written in several pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pieces {
    /// None is being written.
    #[default]
    None,
    /// More may follow.
    Coming,
    /// The last one has been made, and may not be written yet.
    Made,
}

/// An answer is being written in several pieces, until this is dropped.
#[derive(Debug)]
pub struct InPieces(Link);

impl Drop for InPieces {
    fn drop(&mut self) {
        self.0.0.pieces.set(Pieces::Made);
    }
}

impl Link {
    /// An answer goes out in several pieces: what is written at once may begin anywhere in it.
    pub fn in_pieces(&self) -> InPieces {
        self.0.pieces.set(Pieces::Coming);
        InPieces(self.clone())
    }

    /// What is written now may begin within an answer.
    pub(super) fn is_in_pieces(&self) -> bool {
        self.0.pieces.get() != Pieces::None
    }

    /// Everything made so far has been written.
    pub(super) fn wrote_all(&self) {
        if self.0.pieces.get() == Pieces::Made {
            self.0.pieces.set(Pieces::None);
        }
    }

    /// The link of the connection that a request came over; one of its own where there is none.
    pub fn of(request: &HttpRequest) -> Self {
        request.conn_data::<Self>().cloned().unwrap_or_default()
    }

    /// Waits until the client will send no more.
    pub async fn ended(&self) {
        loop {
            let told = self.0.on_end.notified();
            if self.0.ended.get() {
                return;
            }
            told.await;
        }
    }

    /// The result of `answer`, unless the client leaves first.
    pub async fn unless_ended<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            answered = answer => Some(answered),
            () = self.ended() => None,
        }
    }

    /// The client will send no more.
    pub(super) fn end(&self) {
        self.0.ended.set(true);
        self.0.on_end.notify_waiters();
    }

    /// What the next bytes are part of.
    pub(super) fn input(&self) -> Input {
        self.0.input.get()
    }

    /// Returns how many of these bytes actix-http may have now.
    pub(super) fn take(&self, bytes: &[u8]) -> usize {
        match self.0.input.get() {
            Input::Head(mut end) => {
                let (taken, whole) = end.take(bytes);
                self.keep_head(&bytes[..taken]);
                self.0.input.set(if whole { Input::Unknown } else { Input::Head(end) });
                taken
            }
            Input::Body { mut body, answered } => {
                let taken = body.take(bytes);
                self.set_body(body, answered);
                taken
            }
            Input::Frames => bytes.len(),
            Input::Unknown | Input::Next => 0,
        }
    }

    fn set_body(&self, body: Body, answered: bool) {
        self.0.input.set(match (body.is_complete(), answered) {
            (false, _) => Input::Body { body, answered },
            (true, false) => Input::Next,
            (true, true) => Input::default(),
        });
    }

    fn keep_head(&self, bytes: &[u8]) {
        let mut head = self.0.head.borrow_mut();
        let room = HEAD_BYTES_MAX.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Has the stream woken when held bytes may be due.
    pub(super) fn wait(&self, waker: &Waker) {
        let mut waiting = self.0.waker.borrow_mut();
        if !waiting.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
            *waiting = Some(waker.clone());
        }
    }

    /// Held bytes may be due.
    pub(super) fn wake(&self) {
        let waiting = self.0.waker.borrow_mut().take();
        waiting.inspect(Waker::wake_by_ref);
    }

    /// A request's head has been read. `length` is its body's; `None` for a body in chunks.
    pub fn begin(&self, length: Option<u64>) {
        let body = length.map_or(Body::Chunks(Chunks::BEGIN), Body::Length);
        self.set_body(body, false);
        self.0.used.set(true);
        {
            let mut head = self.0.head.borrow_mut();
            head.clear();
            // Most connections are idle most of the time.
            head.shrink_to(HEAD_BYTES_KEPT);
        }
        self.wake();
    }

    /// It is answered; another may come, if this one is complete.
    pub fn answered(&self) {
        match self.0.input.get() {
            Input::Body { body, .. } => self.set_body(body, true),
            Input::Unknown | Input::Next => self.0.input.set(Input::default()),
            Input::Head(_) | Input::Frames => {}
        }
        self.wake();
    }

    /// It is answered, and the connection is a WebSocket's from here on.
    pub fn upgraded(&self) {
        self.0.input.set(Input::Frames);
        self.wake();
    }

    /// The head of a request after the first has begun to arrive and is incomplete.
    pub(super) fn awaits_head(&self) -> bool {
        let begun = |input| matches!(input, Input::Head(head) if head != Head::default());
        self.0.used.get() && begun(self.0.input.get())
    }

    /// The beginning of the head that could not be read.
    pub(super) fn head(&self) -> Vec<u8> {
        self.0.head.borrow().clone()
    }
}
