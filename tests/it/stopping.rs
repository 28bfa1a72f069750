//! SIGTERM: sockets see their last acknowledgement, everything is synced, exit code 0.

use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::load::{self, Control};
use crate::support::socket::Socket;

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
