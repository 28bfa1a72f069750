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

use actix_web::HttpRequest;
use tokio::sync::Notify;

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
    /// A request is being answered, or the connection is a WebSocket's.
    busy: Cell<bool>,
    pieces: Cell<Pieces>,
    /// The body of the request has not been read to its end: input is not a head.
    body_left: Cell<bool>,
    /// A request has come before.
    used: Cell<bool>,
    /// Bytes received since the last request ended: the beginning of the next one's head.
    head: RefCell<Vec<u8>>,
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

    /// Bytes came.
    pub(super) fn came(&self, bytes: &[u8]) {
        if self.0.busy.get() {
            return;
        }
        let mut head = self.0.head.borrow_mut();
        let room = HEAD_BYTES_MAX.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A request's head has been read; a body may follow.
    pub fn begin(&self, has_body: bool) {
        self.0.body_left.set(has_body);
        self.0.busy.set(true);
        self.0.used.set(true);
        let mut head = self.0.head.borrow_mut();
        head.clear();
        // Most connections are idle most of the time.
        head.shrink_to(HEAD_BYTES_KEPT);
    }

    /// Its body has been read.
    pub fn body_read(&self) {
        self.0.body_left.set(false);
    }

    /// It is answered; another may come, if this one is complete.
    pub fn answered(&self) {
        self.0.busy.set(self.0.body_left.get());
    }

    /// The head of a request after the first has begun to arrive and is incomplete.
    pub(super) fn awaits_head(&self) -> bool {
        let whole = |head: &[u8]| head.windows(4).any(|end| end == b"\r\n\r\n");
        let head = self.0.head.borrow();
        self.0.used.get() && !head.is_empty() && !whole(&head)
    }

    /// The beginning of the head that could not be read.
    pub(super) fn head(&self) -> Vec<u8> {
        self.0.head.borrow().clone()
    }
}
