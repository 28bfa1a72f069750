//! A connection on which any bytes can be sent, and answers read as they stand on the wire.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::broker::Broker;
use super::socket::Socket;

/// Long enough for anything the broker does, short enough to see that it doesn't.
const PATIENCE: Duration = Duration::from_secs(20);

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// A connection, and what has come over it and was not looked at yet.
pub struct Wire {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Its head in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Wire {
    pub async fn connect(broker: &Broker) -> Self {
        let stream = TcpStream::connect(&broker.address).await.expect("it listens");
        Self::over(stream)
    }

    /// A connection that holds little on its way in both directions, so that it shows soon when
    /// one side stops reading.
    pub async fn narrow(broker: &Broker) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        for set in [TcpSocket::set_recv_buffer_size, TcpSocket::set_send_buffer_size] {
            set(&socket, 16 * 1024).expect("a small buffer");
        }
        let address = broker.address.parse().expect("an address");
        Self::over(socket.connect(address).await.expect("it listens"))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP connection");
        Self { stream, read: Vec::new() }
    }

    /// Connects and sends.
    pub async fn sending(broker: &Broker, bytes: impl AsRef<[u8]>) -> Self {
        let mut wire = Self::connect(broker).await;
        wire.send(bytes).await;
        wire
    }

    /// A WebSocket, whatever is spoken on it.
    pub async fn upgraded(broker: &Broker, path: &str) -> Self {
        Self::connect(broker).await.upgrade(broker, path).await
    }

    pub async fn upgrade(mut self, broker: &Broker, path: &str) -> Self {
        self.send(upgrade_request(broker, path)).await;
        let answer = self.answer().await;
        assert_eq!(answer.status, 101, "{answer:?}");
        self
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.offer(bytes).await, "the connection is closed");
    }

    /// Sends; false where the other side has closed.
    pub async fn offer(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let write = timeout(PATIENCE, self.stream.write_all(bytes.as_ref()));
        write.await.expect("room to write within 20 s").is_ok()
    }

    /// Reads on; false at the end, and a reset is an end too.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        matches!(read.expect("something, or the end, within 20 s"), Ok(1..))
    }

    async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.read.len() < bytes {
            assert!(self.more().await, "it ends after {} of {bytes} bytes", self.read.len());
        }
        self.read.drain(..bytes).collect()
    }

    /// The answer to anything but HEAD.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let size = self.through(b"\r\n").await;
                let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk's size");
                let chunk = self.take(size + 2).await;
                answer.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return answer;
                }
            }
        }
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        answer.body = self.take(length).await;
        answer
    }

    /// An answer's head; behind it a body may follow.
    pub async fn head(&mut self) -> Answer {
        let head = self.through(b"\r\n\r\n").await.to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head, body: Vec::new() }
    }

    async fn through(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let bytes = self.take(at + end.len()).await;
                return String::from_utf8(bytes).expect("ASCII");
            }
            assert!(self.more().await, "it ends after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next frame, which must be one that a server may send; `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        while self.read.len() < 2 {
            if !self.more().await {
                assert!(self.read.is_empty(), "it ends within a frame: {:?}", self.read);
                return None;
            }
        }
        let head = self.take(2).await;
        assert!(head[1] < 0x80, "a server masks nothing");
        let length = match head[1] {
            126 => u16::from_be_bytes(self.take(2).await.try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.take(8).await.try_into().unwrap()),
            short => short.into(),
        };
        let shortest = match length {
            0..126 => length as u8,
            126..65536 => 126,
            _ => 127,
        };
        assert_eq!(head[1], shortest, "a length takes as few bytes as it can");
        assert_eq!(head[0] & 0x70, 0, "no bit is used that nobody agreed on");
        Some(Frame { first: head[0], payload: self.take(length as usize).await })
    }

    /// The code of the close frame it ends with; frames before it are passed over.
    pub async fn close_code(&mut self) -> u16 {
        while let Some(frame) = self.frame().await {
            if frame.first == CLOSE {
                self.end().await;
                assert_eq!(self.frame().await, None, "nothing follows a close frame");
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
        panic!("it ended without a close frame");
    }

    /// Reads a little; false at the end.
    pub async fn sip(&mut self) -> bool {
        let mut sip = [0; 8 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut sip)).await;
        let read = read.expect("something, or the end, within 20 s").unwrap_or(0);
        self.read.extend_from_slice(&sip[..read]);
        read > 0
    }

    /// Says that nothing more will be sent.
    pub async fn end(&mut self) {
        // The other side may be gone already.
        let _ = self.stream.shutdown().await;
    }

    /// Waits for the end; what came before it.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Sends this again and again, little by little, until the other side ends it; what came.
    pub async fn dripping(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let start = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut self.read) => if !matches!(read, Ok(1..)) {
                    return String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned();
                },
                _ = pace.tick() => drop(self.stream.write_all(bytes.as_ref()).await),
            }
            assert!(start.elapsed() < PATIENCE, "it is still open after 20 s");
        }
    }

    /// Waits for the end, before which nothing may come.
    pub async fn ends(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "and then came {:?}", String::from_utf8_lossy(&rest));
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find_map(|(found, value)| (found == name).then_some(value))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Checks that it is a problem object with this code, and gives it back.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail", "temporary"] {
            assert!(!problem[member].is_null(), "{member} is missing: {problem}");
        }
        problem
    }
}

/// Most that a flood may make the broker grow.
const GROWTH_MAX: u64 = 64 << 20;

/// Checks that a flood took little memory beyond what there was before, and that others are served
/// as ever.
pub async fn unharmed(broker: &Broker, before: u64) {
    let grown = broker.resident_bytes().saturating_sub(before);
    eprintln!("grown by {} KiB", grown >> 10);
    assert!(grown < GROWTH_MAX, "it grew by {grown} bytes");
    let mut socket = Socket::producer(broker, "healthy", "").await;
    socket.send(r#"{"id":1,"data":1}"#).await;
    assert!(socket.frame().await["acks"][0]["offset"].is_u64());
    assert_eq!(broker.publish("healthy", "text/plain", "x").await.status(), 202);
}

/// What asks for a WebSocket.
pub fn upgrade_request(broker: &Broker, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        broker.address
    )
}

/// A client's frame; its first byte holds FIN and opcode.
pub fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = begun(first, payload.len() as u64);
    let mask: [u8; 4] = frame[frame.len() - 4..].try_into().unwrap();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header of a client's frame that announces so many bytes.
pub fn begun(first: u8, bytes: u64) -> Vec<u8> {
    let mut frame = vec![first];
    match bytes {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
        longer => {
            frame.push(0x80 | 127);
            frame.extend(longer.to_be_bytes());
        }
    }
    frame.extend([0x37, 0xfa, 0x21, 0x3d]);
    frame
}

/// A close frame.
pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}
