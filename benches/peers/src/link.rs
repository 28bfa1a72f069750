//! A socket of the client: nonblocking, with what has come in part and what is to be written.
//!
//! Every client uses this one, so that none reads or flushes more cleverly than another: what is
//! encoded in answer to one wake-up goes out in one write, and a read that did not fill the buffer
//! is the last one of its wake-up.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mio::{Interest, Registry, Token};

/// How long a handshake, or a call that sets something up, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What one read may bring.
pub const READ_BYTES: usize = 256 * 1024;

/// A blocking connection, for a handshake.
pub fn connect(at: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, PATIENCE).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// See the module.
pub struct Link {
    stream: mio::net::TcpStream,
    /// What has come of something that has not come whole.
    rest: Vec<u8>,
    pub out: Vec<u8>,
    written: usize,
}

impl Link {
    pub fn new(stream: TcpStream, registry: &Registry, token: usize) -> Result<Self> {
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, rest: Vec::new(), out: Vec::new(), written: 0 })
    }

    /// Reads what is there. `take` is given what has come and the buffer for answers, and says how
    /// many bytes it used.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8], &mut Vec<u8>) -> Result<usize>,
    ) -> Result<()> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading"),
            };
            ensure!(n > 0, "the server closed a connection");
            if self.rest.is_empty() {
                let used = take(&buffer[..n], &mut self.out)?;
                self.rest.extend_from_slice(&buffer[used..n]);
            } else {
                self.rest.extend_from_slice(&buffer[..n]);
                let used = take(&self.rest, &mut self.out)?;
                self.rest.drain(..used);
            }
            if n < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Writes what there is to write, as far as the socket takes it; the rest goes when it is
    /// writable again.
    pub fn flush(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}
