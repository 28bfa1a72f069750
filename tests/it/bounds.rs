//! What is under way is bounded, and who waits for room is served in the end.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use tempfile::tempdir;
use tokio::io::AsyncWriteExt;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::socket::Socket;
use crate::support::wire::{TEXT, Wire, frame};

/// Limits so small that a few messages fill them, and a topic that takes its time to come back
/// from a planned death, so that what is published meanwhile stays under way.
const SMALL: [(&str, &str); 6] = [
    ("WEIR__LIMITS__MESSAGE_BYTES_MAX", "1000"),
    ("WEIR__TOPIC_DEFAULTS__MESSAGE_BYTES_MAX", "1000"),
    ("WEIR__LIMITS__FRAME_BYTES_MAX", "2000"),
    ("WEIR__LIMITS__BODY_BYTES_MAX", "2000"),
    ("WEIR__LIMITS__IN_FLIGHT_BYTES_MAX", "4200"),
    ("WEIR__SUPERVISION__BACKOFF_MS", "1500"),
];
const SLOW: (&str, &str) = ("WEIR__SUPERVISION__BACKOFF_MS_MAX", "1500");

async fn away(broker: &Broker) {
    eventually("the ingest logger is away", async || {
        broker.json("/v1/topics/t").await["state"] == "recovering"
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_the_byte_budget_are_told_to_come_back_and_those_within_it_are_served() {
    let directory = tempdir().unwrap();
    let environment: Vec<_> = SMALL.into_iter().chain([SLOW]).collect();
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let url = broker.url("/v1/topics/t/messages");
    let publish = || {
        let request = broker.http.post(&url).header("content-type", "x/y");
        tokio::spawn(request.body(vec![0; 900]).send())
    };
    let first = publish();
    away(&broker).await;
    // There is room for three more of 900 bytes until the ingest logger is back.
    let others: Vec<_> = (0..12).map(|_| publish()).collect();
    let (mut accepted, mut refused) = (0, 0);
    for other in others {
        let answer = other.await.unwrap().unwrap();
        if answer.status() == StatusCode::ACCEPTED {
            accepted += 1;
            continue;
        }
        assert_eq!(answer.headers()["retry-after"], "1");
        let answer = problem(answer, 503, "overloaded").await;
        assert_eq!(answer["temporary"], true);
        refused += 1;
    }
    assert!(accepted >= 3 && refused >= 1, "{accepted} accepted, {refused} refused");
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(broker.publish("t", "x/y", [0; 900]).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn sockets_beyond_the_byte_budget_wait_and_lose_nothing_even_if_the_broker_stops() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let environment: Vec<_> = SMALL.into_iter().chain([SLOW]).collect();
    let broker = Broker::start_with(&data, &environment);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = Socket::producer(&broker, "t", "?acks=range").await;
        for id in 1..=10 {
            socket.send(json!({ "id": id, "data": "x".repeat(900) })).await;
        }
        sockets.push(socket);
    }
    away(&broker).await;
    broker.terminate();
    let mut acknowledged = 0;
    for mut socket in sockets {
        // What it took before it was told to stop is acknowledged, then it is sent away.
        let code = loop {
            match socket.event().await {
                crate::support::socket::Event::Frame(frame) => {
                    let range = &frame["acked"];
                    acknowledged +=
                        range["to"].as_u64().unwrap() - range["from"].as_u64().unwrap() + 1;
                }
                crate::support::socket::Event::Closed(reason) => break reason.unwrap().code,
            }
        };
        assert_eq!(u16::from(code), 1001);
    }
    assert_eq!(broker.ended().code(), Some(0));
    assert!(acknowledged >= 5, "every socket had something under way");
    let broker = Broker::start(&data);
    assert_eq!(broker.read_all("t").await.len() as u64, acknowledged + 1);
}

/// Sockets that send all the time, each within its credit, until the first answer is awaited no more.
fn flood(broker: &Broker, sockets: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let address = broker.address.clone();
    let one = move |_| {
        let address = address.clone();
        tokio::spawn(async move {
            let path = "/v1/topics/flood/producer?acks=range";
            let Ok(mut socket) = Socket::try_open(&address, path).await else { return };
            let mut id = 0;
            loop {
                for _ in 0..4 {
                    id += 1;
                    socket.send(json!({ "id": id, "data": "x".repeat(900) })).await;
                }
                while !matches!(socket.event().await,
                    crate::support::socket::Event::Frame(frame) if frame["acked"]["to"] == id)
                {
                }
            }
        })
    };
    (0..sockets).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_every_kind_get_their_turn_beside_sockets_that_take_all_the_room() {
    let directory = tempdir().unwrap();
    let environment = &SMALL[..5];
    let broker = Broker::start_with(&directory.path().join("data"), environment);
    let sockets = flood(&broker, 12);
    eventually("the room is taken", async || {
        broker.json("/v1/status").await["in_flight_bytes"].as_u64().unwrap() > 2_000
    })
    .await;
    let url = broker.url("/v1/topics/t/messages");
    let lines = format!("\"{}\"\n", "l".repeat(300)).repeat(3);
    let batch = json!({ "messages": [{ "data": "b".repeat(600) }, { "data": 1 }] }).to_string();
    for n in 0..20 {
        let (kind, body) = match n % 4 {
            0 => ("x/y", "r".repeat(900)),
            1 => ("application/x-ndjson", lines.clone()),
            2 => ("application/vnd.weir.messages+json", batch.clone()),
            _ => ("text/plain", "s".repeat(60)),
        };
        let request = broker.http.post(&url).header("content-type", kind).body(body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::ACCEPTED, "{n}: {kind}");
    }
    // In chunks, so that its length is not known before.
    let mut wire = Wire::connect(&broker).await;
    let head = format!(
        "POST /v1/topics/t/messages HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        broker.address
    );
    wire.send(head).await;
    for _ in 0..3 {
        wire.send(format!("12c\r\n{}\r\n", "c".repeat(300))).await;
    }
    wire.send("0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 202);
    sockets.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_request_that_waits_for_room_is_told_when_the_broker_stops() {
    let directory = tempdir().unwrap();
    let patient = [("WEIR__LIMITS__ROOM_WAIT_MS", "60000"), SLOW];
    let environment: Vec<_> = SMALL.into_iter().chain(patient).collect();
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let url = broker.url("/v1/topics/t/messages");
    let publish = || {
        let request = broker.http.post(&url).header("content-type", "x/y");
        tokio::spawn(request.body(vec![0; 900]).send())
    };
    let requests: Vec<_> = (0..8).map(|_| publish()).collect();
    away(&broker).await;
    eventually("the room is taken", async || {
        broker.json("/v1/status").await["in_flight_bytes"].as_u64().unwrap() > 2_700
    })
    .await;
    broker.terminate();
    let mut refused = 0;
    for request in requests {
        let answer = request.await.unwrap().unwrap();
        if answer.status() != StatusCode::ACCEPTED {
            problem(answer, 503, "draining").await;
            refused += 1;
        }
    }
    assert!(refused >= 1);
    assert_eq!(broker.ended().code(), Some(0));
}

#[tokio::test]
async fn a_flood_beyond_its_credit_stops_at_the_socket() {
    let directory = tempdir().unwrap();
    let environment = [
        ("WEIR__LIMITS__CREDIT_BYTES", "100000"),
        ("WEIR__SUPERVISION__BACKOFF_MS", "3000"),
        ("WEIR__SUPERVISION__BACKOFF_MS_MAX", "3000"),
    ];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let before = broker.resident_bytes();
    let mut stream = Wire::upgraded(&broker, "/v1/topics/t/producer").await.stream;
    let message = json!({ "data": "x".repeat(10_000) }).to_string();
    let frame = frame(TEXT, &message).repeat(10);
    let mut written = 0;
    // The flood ends when the socket takes no more for a while, or after far too much.
    while written < 200 << 20 {
        let write = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&frame));
        if write.await.is_err() {
            break;
        }
        written += frame.len();
    }
    assert!(written < 50 << 20, "the kernel's buffers take some megabytes, not {written} bytes");
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "it grew by {grown} bytes");
    // Nothing that came whole is lost.
    let mut tail = Socket::tail(&broker, "t", "1").await;
    tail.messages(written / frame.len() * 10).await;
}
