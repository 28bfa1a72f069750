//! The stream between a client and actix-http: TCP, and what actix-http has no hook for.
//!
//! It notifies the connection's [`Link`] when the client has sent its last byte, and replaces
//! answers that actix-http writes by itself, before any handler runs, with a problem object: those
//! have a status and no body, and end the connection.
//!
//! Invariant: every other byte passes unchanged. An answer is replaced only where one certainly
//! begins: at the beginning of a write, or behind complete answers, and never while an answer is
//! written in several pieces, which may hold anything.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::link::Link;
use super::refusal;

/// After N bytes in a row actix-http has to process what it has; by itself it would read 128 KiB
/// first, into a buffer that it doubles for them.
const READ_IN_A_ROW_BYTES: usize = 64 * 1024;

/// See the module.
pub struct ClientStream {
    tcp: TcpStream,
    link: Link,
    /// Bytes that were read one after another.
    in_a_row: usize,
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
        Self { tcp, link, in_a_row: 0, seen: 0, refusal: None, head_timeout, head_due: None }
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
        if self.in_a_row >= READ_IN_A_ROW_BYTES {
            self.in_a_row = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if Pin::new(&mut self.tcp).poll_read(context, buffer)?.is_pending() {
            self.in_a_row = 0;
            ready!(self.head_is_late(context));
            // To actix-http it is as if the client had closed; our answer goes out with our close.
            let instead = refusal::too_slow(&self.link);
            self.refusal = Some(Refusal { before: 0, instead, written: 0 });
            return Poll::Ready(Ok(()));
        }
        match &buffer.filled()[before..] {
            [] if buffer.remaining() > 0 => self.link.end(),
            came => {
                self.link.came(came);
                let bytes = came.len();
                self.in_a_row += bytes;
            }
        }
        Poll::Ready(Ok(()))
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
