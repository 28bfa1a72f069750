//! The broker's process is stopped for longer than any of its deadlines (SIGSTOP) and goes on: nobody who
//! was well behaved is cut off for it.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::socket::Socket;

/// Pings every 100 ms; silent sockets, and bodies and messages that don't come whole, have 600 ms.
const SHORT: [(&str, &str); 3] = [
    ("WEIR__LIMITS__PING_INTERVAL_MS", "100"),
    ("WEIR__LIMITS__SILENCE_TIMEOUT_MS", "600"),
    ("WEIR__LIMITS__BODY_TIMEOUT_MS", "600"),
];
const PAUSE: Duration = Duration::from_millis(2_500);

fn start(data: &Path, more: &[(&str, &str)]) -> Broker {
    Broker::start_with(data, &[&SHORT[..], more].concat())
}

/// Stops the process for a while.
async fn pause(broker: &Broker) {
    broker.signal("STOP");
    let since = Instant::now();
    eventually("the pause is over", async || since.elapsed() > PAUSE).await;
    broker.signal("CONT");
}

/// Sends a part of a text message.
async fn fragment(socket: &mut Socket, bytes: &[u8], opcode: Data, last: bool) {
    let frame = Frame::message(bytes.to_vec(), OpCode::Data(opcode), last);
    socket.0.send(Message::Frame(frame)).await.unwrap();
}

/// Reads pings (and answers them) until so many have come.
async fn pings(socket: &mut Socket, count: usize) {
    let mut left = count;
    while left > 0 {
        let next = tokio::time::timeout(Duration::from_secs(20), socket.0.next()).await;
        match next.expect("a ping within 20 s").expect("no end").expect("a frame") {
            Message::Ping(_) => left -= 1,
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn sockets_that_answered_every_ping_stay_open() {
    let directory = tempdir().unwrap();
    let broker = start(&directory.path().join("data"), &[]);
    let mut producer = Socket::producer(&broker, "t", "").await;
    let mut tail = Socket::tail(&broker, "t", "latest").await;
    for n in 0..3 {
        pings(&mut producer, 2).await;
        pings(&mut tail, 2).await;
        pause(&broker).await;
        // As many as would show that one of the next deadlines ended it.
        for _ in 0..8 {
            pings(&mut producer, 1).await;
            pings(&mut tail, 1).await;
        }
        producer.send(json!({ "id": n, "data": n })).await;
        assert_eq!(producer.frame().await["acks"][0]["offset"], n);
        assert_eq!(tail.messages(1).await[0]["data"], n);
    }
}

#[tokio::test]
async fn one_that_does_not_answer_is_cut_off_after_a_pause_as_before() {
    let directory = tempdir().unwrap();
    let broker = start(&directory.path().join("data"), &[]);
    // It reads nothing, so that it answers no ping; what comes fits into the kernel's buffers.
    let _silent = Socket::tail(&broker, "t", "latest").await;
    eventually("it is open", async || broker.counted("weir_sessions").await == 1).await;
    pause(&broker).await;
    eventually("it is cut off", async || broker.counted("weir_sessions").await == 0).await;
}

#[tokio::test]
async fn a_message_in_fragments_may_go_on_after_a_pause_and_has_its_time_then() {
    let directory = tempdir().unwrap();
    let broker = start(&directory.path().join("data"), &[]);
    let mut producer = Socket::producer(&broker, "t", "?acks=each").await;
    let (first, rest) = br#"{"id":1,"data":"in two parts"}"#.split_at(9);
    fragment(&mut producer, first, Data::Text, false).await;
    pings(&mut producer, 1).await;
    pause(&broker).await;
    pings(&mut producer, 1).await;
    fragment(&mut producer, rest, Data::Continue, true).await;
    assert_eq!(producer.frame().await["acks"][0]["offset"], 0);

    fragment(&mut producer, first, Data::Text, false).await;
    pause(&broker).await;
    assert_eq!(producer.close_code().await, Some(1008), "it never comes whole");
}

#[tokio::test]
async fn a_body_may_go_on_after_a_pause_and_has_its_time_then() {
    let directory = tempdir().unwrap();
    let broker = start(&directory.path().join("data"), &[]);
    let head = "POST /v1/topics/t/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
                Content-Type: text/plain\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    let begin = async || {
        let mut connection = TcpStream::connect(&broker.address).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        // "Continue" comes when the body is being waited for.
        let mut go_on = [0; 25];
        connection.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        connection.write_all(b"on").await.unwrap();
        connection
    };
    let answer = async |mut connection: TcpStream| {
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let mut connection = begin().await;
    pause(&broker).await;
    connection.write_all(b"ce").await.unwrap();
    let answered = answer(connection).await;
    assert!(answered.starts_with("HTTP/1.1 202 "), "{answered}");

    // The rest is there when the process goes on.
    let mut connection = begin().await;
    broker.signal("STOP");
    connection.write_all(b"ce").await.unwrap();
    pause(&broker).await;
    let answered = answer(connection).await;
    assert!(answered.starts_with("HTTP/1.1 202 "), "{answered}");

    let connection = begin().await;
    pause(&broker).await;
    let answered = answer(connection).await;
    assert!(answered.starts_with("HTTP/1.1 408 "), "{answered}");
}

#[tokio::test]
async fn an_event_stream_and_a_long_poll_go_on() {
    let directory = tempdir().unwrap();
    let broker = start(&directory.path().join("data"), &[]);
    broker.publish("t", "text/plain", "first").await;
    let mut events = broker.get("/v1/topics/t/events?from=0").await;
    let mut seen = String::new();
    while !seen.contains("first") {
        seen += std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap();
    }
    let poll = broker.http.get(broker.url("/v1/topics/t/messages?from=1&wait_ms=20000")).send();
    let poll = tokio::spawn(poll);
    eventually("both are open", async || broker.counted("weir_connections").await >= 3).await;
    pause(&broker).await;
    broker.publish("t", "text/plain", "second").await;
    while !seen.contains("second") {
        seen += std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap();
    }
    let page = poll.await.unwrap().unwrap().text().await.unwrap();
    assert!(page.contains("second"), "{page}");
}

#[tokio::test]
async fn a_pause_longer_than_the_patience_with_the_disk_is_no_fault_of_the_disk() {
    let directory = tempdir().unwrap();
    let patience = [("WEIR__STORAGE__STALL_MS_MAX", "1000")];
    let broker = start(&directory.path().join("data"), &patience);
    let mut producer = Socket::producer(&broker, "t", "").await;
    for n in 0..2 {
        // The writer is in the store when the process is stopped.
        broker.plan(json!({ "seam": "writer-committing", "action": "delay", "delay_ms": 300, "nth": 1 })).await;
        producer.send(json!({ "id": n, "data": n })).await;
        pause(&broker).await;
        assert_eq!(producer.frame().await["acks"][0]["offset"], n);
    }
}
