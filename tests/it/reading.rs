//! Polling and tailing.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::{Broker, problem};
use crate::support::socket::{Event, Socket};

async fn publish_numbers(broker: &Broker, topic: &str, numbers: std::ops::Range<u64>) {
    let messages: Vec<_> = numbers.map(|n| json!({ "data": n })).collect();
    let batch = json!({ "messages": messages }).to_string();
    let answer = broker.publish(topic, "application/vnd.weir.messages+json", batch).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

fn numbers(messages: &Value) -> Vec<u64> {
    let messages = messages.as_array().unwrap();
    messages.iter().map(|message| message["data"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_poll_gives_what_was_asked_for_and_where_to_go_on() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    publish_numbers(&broker, "t", 0..10).await;
    let page = broker.json("/v1/topics/t/messages?from=3&max=4").await;
    assert_eq!(numbers(&page["messages"]), [3, 4, 5, 6]);
    assert_eq!(page["topic"], "t");
    assert_eq!(page["epoch"], 1);
    assert_eq!((&page["first"], &page["head"], &page["next"]), (&json!(0), &json!(10), &json!(7)));
    let page = broker.json("/v1/topics/t/messages").await;
    assert_eq!(numbers(&page["messages"]).len(), 10, "from the earliest");
    let page = broker.json("/v1/topics/t/messages?from=latest").await;
    assert_eq!((&page["messages"], &page["next"]), (&json!([]), &json!(10)));
    let page = broker.json("/v1/topics/t/messages?from=2&max_bytes=1").await;
    assert_eq!(numbers(&page["messages"]), [2], "at least one");
}

#[tokio::test]
async fn polls_from_a_time_begin_at_the_first_message_published_then() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let mut times = Vec::new();
    // More blocks than an index page holds, so that times are found in pages and in the tail.
    for n in 0..600 {
        publish_numbers(&broker, "t", n..n + 1).await;
    }
    for message in broker.read_all("t").await {
        times.push(message["published_at"].as_str().unwrap().to_owned());
    }
    assert!(times.is_sorted(), "published_at never runs backwards");
    let check = async |broker: &Broker| {
        for n in [0, 1, 255, 256, 300, 599] {
            let page = broker.json(&format!("/v1/topics/t/messages?from={}&max=1", times[n])).await;
            let expected = times.iter().position(|time| *time == times[n]).unwrap();
            assert_eq!(page["messages"][0]["offset"], expected, "{}", times[n]);
        }
        let page = broker.json("/v1/topics/t/messages?from=2100-01-01T00:00:00Z").await;
        assert_eq!(page["next"], 600);
    };
    check(&broker).await;
    broker.terminate();
    assert!(broker.ended().success());
    check(&Broker::start(&data)).await;
}

#[tokio::test]
async fn polls_that_cannot_be_answered_say_why() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    problem(broker.get("/v1/topics/none/messages").await, 404, "topic-not-found").await;
    assert_eq!(broker.get("/v1/topics/none").await.status(), 404, "a poll creates nothing");
    publish_numbers(&broker, "t", 0..1).await;
    for query in [
        "from=2",
        "from=x",
        "from=-1",
        "from=99999999999999999999",
        "max=0",
        "max=10001",
        "max=a",
        "max_bytes=0",
        "wait_ms=30001",
        "form=1",
        "from=",
    ] {
        let answer = broker.get(&format!("/v1/topics/t/messages?{query}")).await;
        let problem = problem(answer, 400, "invalid-request").await;
        let field = query.split('=').next().unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(field), "{problem}");
    }
    let url = broker.url("/v1/topics/t/messages");
    let answer = broker.http.get(url).header("accept", "image/png").send().await.unwrap();
    problem(answer, 406, "not-acceptable").await;
}

#[tokio::test]
async fn a_long_poll_returns_with_the_first_new_message() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    publish_numbers(&broker, "t", 0..1).await;
    let start = Instant::now();
    let poll = broker.json("/v1/topics/t/messages?from=1&wait_ms=30000");
    let (page, ()) = tokio::join!(poll, publish_numbers(&broker, "t", 1..2));
    assert_eq!(numbers(&page["messages"]), [1]);
    assert!(start.elapsed() < Duration::from_secs(20), "not at the end of the wait");
    let page = broker.json("/v1/topics/t/messages?from=latest&wait_ms=1").await;
    assert_eq!(page["messages"], json!([]));
}

#[tokio::test]
async fn a_poll_longer_than_a_page_is_streamed_and_keeps_to_its_limits() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let body = vec![b'x'; 100_000];
    for _ in 0..20 {
        broker.publish("t", "text/plain", body.clone()).await;
    }
    for (query, count) in [
        ("from=0&max_bytes=10000000", 20),
        ("from=0&max=15&max_bytes=10000000", 15),
        ("from=0&max_bytes=750000", 7),
        ("from=3&max_bytes=10000000", 17),
    ] {
        let page = broker.json(&format!("/v1/topics/t/messages?{query}")).await;
        let messages = page["messages"].as_array().unwrap();
        let first = messages[0]["offset"].as_u64().unwrap();
        let offsets: Vec<_> = messages.iter().map(|m| m["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, (first..first + count).collect::<Vec<_>>(), "{query}");
        assert_eq!(page["next"], first + count, "{query}");
    }
}

#[tokio::test]
async fn polls_nobody_reads_cost_a_page_each() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for _ in 0..40 {
        broker.publish("t", "application/octet-stream", vec![0; 1 << 20]).await;
    }
    broker.read_all("t").await;
    let before = broker.resident_bytes();
    let mut unread = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(&broker.address).await.unwrap();
        let request =
            "GET /v1/topics/t/messages?max_bytes=67108864 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        // Its head is there: the answer has begun.
        stream.read_exact(&mut [0; 100]).await.unwrap();
        unread.push(stream);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 300 << 20, "40 unread polls of 40 MiB made it grow by {grown} bytes");
}

#[tokio::test]
async fn a_tail_is_pushed_what_is_published_from_where_it_asked() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    publish_numbers(&broker, "t", 0..5).await;
    let mut latest = Socket::open(&broker, "/v1/topics/t/tail").await;
    let mut earliest = Socket::tail(&broker, "t", "earliest").await;
    let mut third = Socket::tail(&broker, "t", "3").await;
    publish_numbers(&broker, "t", 5..8).await;
    assert_eq!(numbers(&json!(latest.messages(3).await)), [5, 6, 7]);
    assert_eq!(numbers(&json!(earliest.messages(8).await)), (0..8).collect::<Vec<_>>());
    assert_eq!(numbers(&json!(third.messages(5).await)), (3..8).collect::<Vec<_>>());
    let refused = Socket::try_open(&broker.address, "/v1/topics/t/tail?from=9").await;
    assert!(refused.is_err(), "beyond the head");
}

#[tokio::test]
async fn many_tails_see_everything_once_and_in_order_while_it_is_published() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut tails = Vec::new();
    for _ in 0..20 {
        let mut tail = Socket::open(&broker, "/v1/topics/t/tail").await;
        tails.push(tokio::spawn(async move { tail.messages(5_000).await }));
    }
    for start in (0..5_000).step_by(50) {
        publish_numbers(&broker, "t", start..start + 50).await;
    }
    for tail in tails {
        assert_eq!(numbers(&json!(tail.await.unwrap())), (0..5_000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_the_tail_cache_has_let_go_is_read_from_the_journal() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__TAIL_CACHE_BYTES_MAX", "20000")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    for start in (0..5_000).step_by(500) {
        publish_numbers(&broker, "t", start..start + 500).await;
    }
    let mut tail = Socket::tail(&broker, "t", "0").await;
    assert_eq!(numbers(&json!(tail.messages(5_000).await)), (0..5_000).collect::<Vec<_>>());
    assert_eq!(numbers(&json!(broker.read_all("t").await)), (0..5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_tail_that_sends_is_told_so_and_goes_on() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut tail = Socket::tail(&broker, "t", "latest").await;
    tail.send(r#"{"data":1}"#).await;
    assert_eq!(tail.frame().await["error"]["code"], "invalid-request");
    publish_numbers(&broker, "t", 0..1).await;
    assert_eq!(tail.messages(1).await.len(), 1);
}

#[tokio::test]
async fn a_long_poll_of_a_topic_that_is_deleted_says_so() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    publish_numbers(&broker, "t", 0..1).await;
    let poll = broker.get("/v1/topics/t/messages?from=1&wait_ms=30000");
    let delete = broker.http.delete(broker.url("/v1/topics/t")).send();
    let (answer, _) = tokio::join!(poll, delete);
    problem(answer, 404, "topic-not-found").await;
}

#[tokio::test]
async fn a_tail_of_a_deleted_topic_is_told_and_closed() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut tail = Socket::tail(&broker, "t", "latest").await;
    let deleted = broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(tail.frame().await["error"]["code"], "topic-not-found");
    let Event::Closed(Some(reason)) = tail.event().await else { panic!("a close frame") };
    assert_eq!(u16::from(reason.code), 1008);
}
