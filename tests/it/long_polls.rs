//! Answers that are held back: for a client that is there, and no longer; and pages that say where
//! they end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::wire::Wire;

/// Far less than any of the waits below.
const SOON: Duration = Duration::from_secs(10);

fn get(broker: &Broker, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", broker.address)
}

async fn connections(broker: &Broker) -> u64 {
    broker.counted("weir_connections").await
}

#[tokio::test]
async fn a_held_answer_ends_with_its_client() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let answer = broker.publish("t", "x/y", "1").await;
    let receipt = answer.headers()["location"].to_str().unwrap().to_owned();
    let before = connections(&broker).await;
    let begun = Instant::now();
    let held = [
        get(&broker, "/v1/topics/t/messages?from=latest&wait_ms=30000"),
        get(&broker, &format!("{receipt}?until=acked&wait_ms=30000")),
        get(&broker, "/v1/topics/t/events"),
        format!(
            "POST /v1/topics/t/messages?until=acked HTTP/1.1\r\nHost: {}\r\nPrefer: wait=30\r\n\
             Content-Length: 1\r\n\r\n2",
            broker.address
        ),
    ];
    let mut wires = Vec::new();
    for request in held.iter().cycle().take(12) {
        wires.push(Wire::sending(&broker, request).await);
    }
    eventually("they are open", async || connections(&broker).await == before + 12).await;
    drop(wires);
    eventually("they are gone", async || connections(&broker).await == before).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_only_says_that_nothing_more_will_come_is_given_what_there_is() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let answer = broker.publish("t", "x/y", "1").await;
    let receipt = answer.headers()["location"].to_str().unwrap().to_owned();
    let begun = Instant::now();
    let mut wire = Wire::connect(&broker).await;
    wire.send(get(&broker, "/v1/topics/t/messages?from=latest&wait_ms=30000")).await;
    wire.end().await;
    let page = wire.answer().await.json();
    assert_eq!((&page["messages"], &page["next"]), (&json!([]), &json!(1)));
    let mut wire = Wire::connect(&broker).await;
    wire.send(get(&broker, &format!("{receipt}?until=acked&wait_ms=30000"))).await;
    wire.end().await;
    assert_eq!(wire.answer().await.json()["stage"], "queued");
    // What is answered anyway is answered as ever.
    let mut wire = Wire::connect(&broker).await;
    let head = format!("POST /v1/topics/t/messages HTTP/1.1\r\nHost: {}\r\n", broker.address);
    wire.send(format!("{head}Content-Length: 1\r\n\r\n2")).await;
    wire.end().await;
    assert_eq!(wire.answer().await.status, 202);
    wire.ends().await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn no_page_ends_behind_the_head_that_it_says() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "ack_level": "os" })).await;
    let batch = "1\n".repeat(50);
    let writing = async {
        for _ in 0..200 {
            broker.publish("t", "application/x-ndjson", batch.clone()).await;
        }
    };
    let reading = async {
        let (mut next, mut pages) = (0, 0);
        while next < 10_000 {
            let path = format!("/v1/topics/t/messages?from={next}&max=10000&wait_ms=1000");
            let page = broker.json(&path).await;
            let (head, end) = (page["head"].as_u64().unwrap(), page["next"].as_u64().unwrap());
            assert!(end <= head, "{end} is beyond {head}");
            let messages = page["messages"].as_array().unwrap();
            assert!(!messages.is_empty() || end == head, "empty before {head}");
            let offsets = messages.iter().map(|message| message["offset"].as_u64().unwrap());
            assert!(offsets.eq(next..end), "all from {next} to {end}");
            (next, pages) = (end, pages + 1);
            for accept in ["application/msgpack", "application/x-ndjson"] {
                let request =
                    broker.http.get(broker.url(&format!("/v1/topics/t/messages?from={next}")));
                let answer = request.header("accept", accept).send().await.unwrap();
                if accept.ends_with("ndjson") {
                    let number = |name: &str| {
                        answer.headers()[name].to_str().unwrap().parse::<u64>().unwrap()
                    };
                    let (head, end) = (number("weir-head"), number("weir-next"));
                    assert!(end <= head && (end > next || end == head), "{next} {end} {head}");
                } else {
                    let page = crate::support::msgpack(&answer.bytes().await.unwrap());
                    let (head, end) =
                        (page["head"].as_u64().unwrap(), page["next"].as_u64().unwrap());
                    assert!(end <= head && (end > next || end == head), "{next} {end} {head}");
                }
            }
        }
        pages
    };
    let ((), pages) = tokio::join!(writing, reading);
    assert!(pages > 1);
}

/// Publishes this many blocks of large messages that have expired by now.
async fn publish_expired(broker: &Broker, blocks: u64) {
    for _ in 0..blocks {
        let request = broker.http.post(broker.url("/v1/topics/t/messages"));
        let request = request.header("weir-ttl-ms", "1").header("content-type", "text/plain");
        assert_eq!(request.body("x".repeat(100_000)).send().await.unwrap().status(), 202);
    }
    eventually("they have expired", async || {
        let head = broker.json("/v1/topics/t").await["head"].as_u64().unwrap();
        broker.get(&format!("/v1/topics/t/messages/{}", head - 1)).await.status() == 410
    })
    .await;
}

#[tokio::test]
async fn a_page_is_empty_only_where_no_live_message_follows() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    publish_expired(&broker, 15).await;
    broker.publish("t", "text/plain", "live").await;
    publish_expired(&broker, 15).await;
    broker.publish("t", "text/plain", "last").await;
    for query in ["", "?max=1", "?max_bytes=1", "?max_bytes=1000", "?wait_ms=1000", "?from=3"] {
        let page = broker.json(&format!("/v1/topics/t/messages{query}")).await;
        assert_eq!(page["messages"][0]["data"], "live", "{query}");
        let gap = json!({ "from": if query == "?from=3" { 3 } else { 0 }, "to": 14 });
        assert_eq!(page["gaps"][0], gap, "{query}");
    }
    let page = broker.json("/v1/topics/t/messages").await;
    assert_eq!(page["messages"][1]["data"], "last", "and so behind the first ones");
    assert_eq!((&page["next"], &page["head"]), (&json!(32), &json!(32)));
    for accept in ["application/msgpack", "application/x-ndjson"] {
        let request = broker.http.get(broker.url("/v1/topics/t/messages?from=16"));
        let page = request.header("accept", accept).send().await.unwrap();
        let page = page.bytes().await.unwrap();
        assert!(page.windows(4).any(|found| found == b"last"), "{accept}");
    }
    // Where only what has expired is left, the page ends at the head.
    publish_expired(&broker, 15).await;
    let page: Value = broker.json("/v1/topics/t/messages?from=32").await;
    assert_eq!(
        (&page["messages"], &page["next"], &page["head"]),
        (&json!([]), &json!(47), &json!(47))
    );
    // And who waits is given the first that is live.
    let waiting = broker.json("/v1/topics/t/messages?from=32&wait_ms=20000");
    let publishing = async {
        broker.publish("t", "text/plain", "new").await;
    };
    let (page, ()) = tokio::join!(waiting, publishing);
    assert_eq!(page["messages"][0]["data"], "new");
}
