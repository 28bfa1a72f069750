//! The connections that are open: how many, from where, and how each is set up.
//!
//! `server` accepts them, `stream`, `framing` and `refusal` sit between each and actix-http, and
//! `link` is what the requests on a connection know of it.
//!
//! A connection over a limit is accepted, so that its request can be answered with the reason; one
//! that sends no request is closed when the time for a request's head is up.
//!
//! Clients that read nothing are disconnected by the kernel: while a client does not read, neither
//! mailbox nor timers of its session run (the session is the response's body), so the broker could
//! not end it. `TCP_USER_TIMEOUT` ends a connection whose data has waited that long, whether the
//! peer is dead or just not reading (tcp(7)); any progress starts the wait anew.
//!
//! Invariant: an open connection is counted once until it is closed, however it ends.

mod framing;
mod link;
mod refusal;
mod server;
mod stream;

use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use socket2::SockRef;

pub use link::{InPieces, Link};
pub use server::serve;

use super::LimitSettings;
use super::guesses::network;

/// Bytes that may wait in the kernel unsent. The rest waits in the broker, where it is bounded,
/// instead of in a send buffer that grows to megabytes for a client that does not read.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Connections {
    all_max: usize,
    per_network_max: usize,
    all: AtomicUsize,
    networks: DashMap<IpAddr, usize>,
}

/// An open connection; counted until dropped.
#[derive(Debug)]
pub struct Connection {
    connections: Arc<Connections>,
    network: IpAddr,
    refused: Option<&'static str>,
    reading_end: Option<ReadingEnd>,
}

/// A second handle on a connection, to end reading from it.
///
/// When a response ends before its request's body has, actix-http goes on reading for a second, so
/// that the client can read its answer in peace. A socket's "body" never ends, so every WebSocket
/// that was closed in order would be kept for that second, where RFC 6455 (§7.1.1) has the server
/// close at once.
#[derive(Clone, Debug)]
pub struct ReadingEnd(Arc<OwnedFd>);

impl ReadingEnd {
    /// Takes a handle; none where the system has no more of them.
    pub fn of(socket: impl AsFd) -> Option<Self> {
        socket.as_fd().try_clone_to_owned().ok().map(|handle| Self(Arc::new(handle)))
    }

    /// Its reader finds the end. Pending output is still written.
    pub fn end(&self) {
        // It may have ended by itself.
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Read);
    }

    /// Cuts the connection off: pending output is discarded.
    pub fn cut(&self) {
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Both);
    }
}

impl Connections {
    /// None open yet.
    pub fn new(limits: &LimitSettings) -> Arc<Self> {
        Arc::new(Self {
            all_max: limits.connections_max,
            per_network_max: limits.connections_per_address_max,
            all: AtomicUsize::new(0),
            networks: DashMap::new(),
        })
    }

    /// Counts a connection.
    pub fn open(self: &Arc<Self>, address: IpAddr, reading_end: Option<ReadingEnd>) -> Connection {
        let network = network(address);
        let all = self.all.fetch_add(1, Ordering::Relaxed) + 1;
        let of_network = {
            let mut count = self.networks.entry(network).or_default();
            *count += 1;
            *count
        };
        let refused = if all > self.all_max {
            Some(
                "the broker has as many connections as `limits.connections_max`, or its limit on open files, \
                 allows",
            )
        } else if of_network > self.per_network_max {
            Some("your address has as many as `limits.connections_per_address_max` allows")
        } else {
            None
        };
        Connection { connections: self.clone(), network, refused, reading_end }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Why nothing is to be done for it, if so.
    pub fn refused(&self) -> Option<&'static str> {
        self.refused
    }

    /// To end its reading.
    pub fn reading_end(&self) -> Option<ReadingEnd> {
        self.reading_end.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut count) = self.connections.networks.get_mut(&self.network) {
            *count -= 1;
        }
        self.connections.networks.remove_if(&self.network, |_, count| *count == 0);
    }
}

/// Sets a connection up: a client that reads nothing for this long is cut off.
pub fn set_up(socket: SockRef<'_>, stall_timeout_ms: u64) {
    let timeout = Duration::from_millis(stall_timeout_ms);
    let set = socket.set_tcp_user_timeout(Some(timeout));
    // A kernel that knows neither still serves, without this protection.
    if let Err(error) = set.and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)) {
        tracing::debug!(%error, "a connection could not be set up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_all_and_by_network_and_forgotten_when_they_end() {
        let limits = LimitSettings {
            connections_max: 3,
            connections_per_address_max: 2,
            ..LimitSettings::default()
        };
        let connections = Connections::new(&limits);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = connections.open(address("192.0.2.1"), None);
        let two = connections.open(address("::ffff:192.0.2.1"), None);
        assert!(one.refused().is_none() && two.refused().is_none());
        let three = connections.open(address("192.0.2.1"), None);
        assert!(three.refused().unwrap().contains("per_address"));
        let other = connections.open(address("192.0.2.2"), None);
        assert!(other.refused().unwrap().contains("connections_max"));
        drop((one, three));
        assert!(connections.open(address("192.0.2.1"), None).refused().is_none());
        drop((two, other));
        assert_eq!((connections.count(), connections.networks.len()), (0, 0));
    }
}
