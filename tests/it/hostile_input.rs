//! Frames that are meant to hurt. (The edge's further limits come with their own tests.)

use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::socket::Socket;

/// A socket on which any bytes can be sent.
pub async fn raw_socket(broker: &Broker) -> TcpStream {
    let mut stream = TcpStream::connect(&broker.address).await.unwrap();
    let request = format!(
        "GET /v1/topics/t/producer HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        broker.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    stream
}

/// A masked frame; the mask is zero, so the payload stands as it is.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The code of the close frame the server ends with.
async fn close_code(mut stream: TcpStream) -> u16 {
    let mut bytes = Vec::new();
    let end =
        tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut bytes));
    // A reset after the close frame is an end too.
    let _ = end.await.expect("an end within 20 s");
    let close = bytes.windows(2).rposition(|w| w[0] == 0x88 && w[1] >= 2);
    let at = close.unwrap_or_else(|| panic!("no close frame in {bytes:?}")) + 2;
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[tokio::test]
async fn frames_that_break_the_protocol_or_a_limit_close_the_socket_with_the_right_code() {
    let directory = tempdir().unwrap();
    let environment = [
        ("WEIR__LIMITS__MESSAGE_BYTES_MAX", "1000"),
        ("WEIR__TOPIC_DEFAULTS__MESSAGE_BYTES_MAX", "1000"),
        ("WEIR__LIMITS__FRAME_BYTES_MAX", "2000"),
        ("WEIR__LIMITS__FRAGMENTS_MAX", "10"),
    ];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    let mut huge = vec![0x81, 0x80 | 127];
    huge.extend((1u64 << 40).to_be_bytes());
    huge.extend([0; 4]);
    let endless = [frame(0x01, b"\""), frame(0x00, b"").repeat(10)].concat();
    let too_long = [frame(0x01, &[b'x'; 1500]), frame(0x80, &[b'x'; 501])].concat();
    for (what, bytes, code) in [
        ("a declared length of a tebibyte", huge, 1009),
        ("a frame one byte over the limit", frame(0x81, &[b'x'; 2001]), 1009),
        ("more fragments than allowed", endless, 1009),
        ("fragments longer than a frame may be", too_long, 1009),
        ("text that is not UTF-8", frame(0x81, b"\xff"), 1007),
        ("fragments that are not UTF-8", [frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(), 1007),
        ("an unmasked frame", vec![0x81, 1, b'x'], 1002),
        ("a reserved bit", frame(0xc1, b"x"), 1002),
        ("an unknown opcode", frame(0x83, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
    ] {
        let mut stream = raw_socket(&broker).await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(close_code(stream).await, code, "{what}");
    }
    // The broker is none the worse, and a frame of exactly the limit is taken.
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send(format!("{:<2000}", r#"{"id":1,"data":1}"#)).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 0);
}

#[tokio::test]
async fn a_message_in_fragments_with_a_ping_between_them_is_taken() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut stream = raw_socket(&broker).await;
    let bytes = [
        frame(0x01, b"{\"data\":\"h\xc3"),
        frame(0x89, b"are you there"),
        frame(0x00, b"\xa9\"}"),
        frame(0x80, b""),
    ];
    stream.write_all(&bytes.concat()).await.unwrap();
    let mut tail = Socket::tail(&broker, "t", "earliest").await;
    assert_eq!(tail.messages(1).await[0]["data"], "hé");
}

#[tokio::test]
async fn messages_followed_by_the_end_of_the_connection_are_taken() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut head = 0;
    for count in [1, 10, 100, 1_000] {
        let mut stream = raw_socket(&broker).await;
        let message = frame(0x81, b"{\"data\":1}");
        stream.write_all(&message.repeat(count)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        head += count;
        assert_eq!(broker.json("/v1/topics/t").await["head"], head);
    }
}

#[tokio::test]
async fn frames_that_are_only_announced_cost_no_memory() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let before = broker.resident_bytes();
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = raw_socket(&broker).await;
        let mut begun = vec![0x81, 0x80 | 127];
        begun.extend(4_000_000u64.to_be_bytes());
        begun.extend([0; 14]);
        stream.write_all(&begun).await.unwrap();
        streams.push(stream);
    }
    // They have been read once a later socket's message has been answered on every worker.
    for _ in 0..8 {
        let mut socket = Socket::producer(&broker, "t", "").await;
        socket.send(r#"{"id":1,"data":1}"#).await;
        socket.frame().await;
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "200 sockets made it grow by {grown} bytes");
}
