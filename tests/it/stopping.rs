//! SIGTERM: sockets see their last acknowledgement, everything is synced, exit code 0.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::load::{self, Control};
use crate::support::socket::Socket;
use crate::support::wire::{CLOSE, PING, TEXT, Wire, frame};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_answers_what_it_took_and_keeps_it() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let control = Control::default();
    let producers = load::start(&broker, "t", 4, &control);
    eventually("it is under load", async || control.acknowledged() > 1_000).await;
    broker.terminate();
    // They end when their sockets are closed.
    let mut history = load::gather(producers).await;
    let status = broker.ended();
    assert_eq!(status.code(), Some(0));

    let broker = Broker::start(&data);
    let found = broker.read_all("t").await;
    assert_eq!(found.len(), history.acknowledged_count(), "what was stored was acknowledged");
    history.found(found);
    assert_eq!(history.violations(), []);
}

#[tokio::test]
async fn a_stop_closes_sockets_with_1001_and_ends_long_polls() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut producer = Socket::producer(&broker, "t", "").await;
    let mut tail = Socket::tail(&broker, "t", "latest").await;
    // "Continue" comes when the request is being handled, so that the stop can't be before it.
    let mut poll = TcpStream::connect(&broker.address).await.unwrap();
    let request = "GET /v1/topics/t/messages?from=latest&wait_ms=30000 HTTP/1.1\r\nHost: localhost\r\n\
                   Expect: 100-continue\r\nConnection: close\r\n\r\n";
    poll.write_all(request.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    poll.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    producer.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(producer.frame().await["acks"][0]["offset"], 0);
    broker.terminate();
    assert_eq!(producer.close_code().await, Some(1001));
    assert_eq!(tail.close_code().await, Some(1001));
    let mut answer = String::new();
    poll.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(broker.ended().code(), Some(0));
}

/// Sends frames without regard to credit and reads nothing until the broker, which is beyond that and
/// reads no more, is told to stop; how many messages are acknowledged then, and the close code.
async fn flood_until_stopped(
    broker: &Broker,
    path: &str,
    frames: impl Fn(u64) -> String,
) -> (u64, u16) {
    let mut wire = Wire::narrow(broker).await.upgrade(broker, path).await;
    for n in 0.. {
        let some: Vec<u8> = (n * 50..n * 50 + 50).flat_map(|n| frame(TEXT, frames(n))).collect();
        let write = wire.stream.write_all(&some);
        if tokio::time::timeout(Duration::from_millis(300), write).await.is_err() {
            break;
        }
    }
    broker.terminate();
    let mut acknowledged = 0;
    loop {
        let frame = wire.frame().await.expect("a close frame, not the end");
        if frame.first == CLOSE {
            let code = u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
            wire.end().await;
            return (acknowledged, code);
        }
        if frame.first == PING {
            continue;
        }
        let frame: Value = serde_json::from_slice(&frame.payload).unwrap();
        acknowledged += match (frame["acked"]["from"].as_u64(), frame["acked"]["to"].as_u64()) {
            (Some(from), Some(to)) => to - from + 1,
            _ => frame["acks"].as_array().map_or(0, Vec::len) as u64,
        };
    }
}

#[tokio::test]
async fn a_producer_beyond_its_credit_sees_an_acknowledgement_of_all_that_is_stored() {
    let one =
        |bytes: usize| move |n: u64| json!({ "id": n, "data": "x".repeat(bytes) }).to_string();
    let two =
        |n: u64| json!([{ "id": 2 * n, "data": 1 }, { "id": 2 * n + 1 , "data": "y".repeat(300) }]);
    type Kind = (&'static str, &'static str, Box<dyn Fn(u64) -> String>);
    let kinds: [Kind; 4] = [
        ("small", "", Box::new(one(200))),
        ("larger than what is in hand at once", "", Box::new(one(100_000))),
        ("in arrays", "", Box::new(move |n| two(n).to_string())),
        ("acknowledged by ranges, named", "?acks=range&producer=p", Box::new(one(500))),
    ];
    for (what, query, frames) in kinds {
        let directory = tempdir().unwrap();
        let data = directory.path().join("data");
        let broker = Broker::start_with(&data, &[("WEIR__LIMITS__CREDIT_MESSAGES", "100")]);
        broker.put_topic("t", json!({})).await;
        let path = format!("/v1/topics/t/producer{query}");
        let (acknowledged, code) = flood_until_stopped(&broker, &path, frames).await;
        assert_eq!(code, 1001, "{what}");
        assert_eq!(broker.ended().code(), Some(0), "{what}");
        let stored = Broker::start(&data).json("/v1/topics/t").await["messages"].as_u64().unwrap();
        assert!(stored > 0);
        assert_eq!(acknowledged, stored, "{what}");
    }
}
