//! The stream between a client and actix-http: TCP, and what actix-http has no hook for.
//!
//! It gives actix-http one request at a time (`framing`), and the next one when that is answered
//! and written, so that a client that pipelines and reads nothing costs little. It notifies the
//! connection's [`Link`] when the client has sent its last byte, and replaces answers that
//! actix-http writes by itself, before any handler runs, with a problem object: those have a status
//! and no body, and end the connection.
//!
//! Invariant: every other byte passes unchanged. An answer is replaced only where one certainly
//! begins: at the beginning of a write, or behind complete answers, and never while an answer is
//! written in several pieces, which may hold anything.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::Body;
use super::link::{Input, Link};
use super::refusal;

/// After this many bytes in a row actix-http has to process its input; by itself it would read
/// 128 KiB first, into a buffer that it doubles for them.
const FRAMES_IN_A_ROW_BYTES: usize = 64 * 1024;
/// The same for bodies, which take several times their length until they are blocks.
const BODY_IN_A_ROW_BYTES: usize = 16 * 1024;

/// Most bytes that are held, and most bytes of a head that are read at once. Small, since reading
/// touches that much of actix-http's buffer on every idle connection.
const HELD_BYTES_MAX: usize = 1024;
/// Most bytes of a body in chunks that are read at once.
const CHUNKS_AT_ONCE_BYTES: usize = 16 * 1024;

/// See the module.
pub struct ClientStream {
    tcp: TcpStream,
    link: Link,
    /// Bytes that were read one after another.
    in_a_row: usize,
    /// Bytes received that actix-http may not have yet.
    held: BytesMut,
    /// Bytes at the front of the output that were examined before.
    seen: usize,
    refusal: Option<Refusal>,
    head_timeout: Duration,
    /// The deadline of a head that has begun. actix-http times the first one only.
    head_due: Option<Pin<Box<Sleep>>>,
}

/// An answer of actix-http's own that is to be replaced.
struct Refusal {
    /// Bytes to be written before it.
    before: usize,
    instead: Vec<u8>,
    written: usize,
}

impl ClientStream {
    /// An accepted connection, and how long a head may take to arrive.
    pub fn new(tcp: TcpStream, head_timeout: Duration) -> Self {
        let link = Link::default();
        Self {
            tcp,
            link,
            in_a_row: 0,
            held: BytesMut::new(),
            seen: 0,
            refusal: None,
            head_timeout,
            head_due: None,
        }
    }

    /// The TCP connection.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What its requests know of it.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Ready once a head that has begun is overdue.
    fn head_is_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.link.awaits_head() {
            self.head_due = None;
            return Poll::Pending;
        }
        let timeout = self.head_timeout;
        let due = self.head_due.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        due.as_mut().poll(context)
    }

    /// The next request waits until the answers before it are written: actix-http would collect
    /// the answers of a client that reads none.
    fn next_waits(&self) -> bool {
        self.seen > 0 && self.link.input() == Input::default()
    }

    /// Returns how many of these bytes actix-http may have now.
    fn take(&self, bytes: &[u8]) -> usize {
        if self.next_waits() { 0 } else { self.link.take(bytes) }
    }

    /// Passes on held bytes that are due; returns whether there were any.
    fn give_held(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let most = self.held.len().min(buffer.remaining());
        let due = self.take(&self.held[..most]);
        buffer.put_slice(&self.held.split_to(due));
        if self.held.is_empty() {
            // Most connections hold nothing most of the time.
            self.held = BytesMut::new();
        }
        due > 0
    }

    /// Reads, and holds bytes that are not due yet, up to [`HELD_BYTES_MAX`].
    fn read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> io::Result<Poll<()>> {
        let most = match self.link.input() {
            Input::Frames => usize::MAX,
            Input::Body { body: Body::Length(left), .. } => {
                usize::try_from(left).unwrap_or(usize::MAX)
            }
            Input::Body { body: Body::Chunks(_), .. } => CHUNKS_AT_ONCE_BYTES,
            Input::Head(_) if !self.next_waits() => HELD_BYTES_MAX,
            Input::Head(_) | Input::Unknown | Input::Next => HELD_BYTES_MAX - self.held.len(),
        };
        if most == 0 {
            return Ok(Poll::Pending);
        }
        let before = buffer.filled().len();
        let (tcp, room) = (Pin::new(&mut self.tcp), buffer.remaining());
        let (came, due) = if most >= room && self.link.input().is_all_due() {
            if tcp.poll_read(context, buffer)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let came = &buffer.filled()[before..];
            (came.len(), self.link.take(came))
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most.min(room)));
            if tcp.poll_read(context, &mut part)?.is_pending() {
                return Ok(Poll::Pending);
            }
            let (came, due) = (part.filled().len(), self.take(part.filled()));
            self.held.extend_from_slice(&part.filled()[due..]);
            buffer.advance(due);
            (came, due)
        };
        debug_assert!(due <= came);
        self.in_a_row += came;
        if came > 0 {
            return Ok(Poll::Ready(()));
        }
        self.link.end();
        // The end is passed on after the held bytes.
        Ok(if self.held.is_empty() { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Writes the replacement of a refusal; ready when it is all written.
    fn write_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(refusal) = &mut self.refusal else { return Poll::Ready(Ok(())) };
        while refusal.written < refusal.instead.len() {
            let rest = &refusal.instead[refusal.written..];
            let count = ready!(Pin::new(&mut self.tcp).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            refusal.written += count;
        }
        self.refusal = None;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let in_a_row_max = match self.link.input() {
            Input::Frames => FRAMES_IN_A_ROW_BYTES,
            _ => BODY_IN_A_ROW_BYTES,
        };
        if self.in_a_row >= in_a_row_max {
            self.in_a_row = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if self.give_held(buffer) {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            if self.read(context, buffer)?.is_pending() {
                self.in_a_row = 0;
                self.link.wait(context.waker());
                ready!(self.head_is_late(context));
                // To actix-http it is as if the client had closed; our answer goes out with our
                // close.
                let instead = refusal::too_slow(&self.link);
                self.refusal = Some(Refusal { before: 0, instead, written: 0 });
                return Poll::Ready(Ok(()));
            }
            // No byte at all means the end of input.
            if buffer.filled().len() > before || self.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() && self.seen == 0 && !self.link.is_in_pieces() {
            self.refusal = refusal::find(bytes).map(|found| Refusal {
                before: found.at,
                instead: if found.behind_last { Vec::new() } else { found.problem(&self.link) },
                written: 0,
            });
        }
        let whole = bytes.len();
        let bytes = match &self.refusal {
            Some(Refusal { before: 0, .. }) => {
                ready!(self.write_instead(context))?;
                self.seen = 0;
                return Poll::Ready(Ok(whole));
            }
            Some(Refusal { before, .. }) => &bytes[..*before],
            None => bytes,
        };
        self.seen = whole;
        let written = ready!(Pin::new(&mut self.tcp).poll_write(context, bytes))?;
        self.seen = whole - written;
        if self.seen == 0 {
            self.link.wrote_all();
            self.link.wake();
        }
        if let Some(refusal) = &mut self.refusal {
            refusal.before -= written;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_instead(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
