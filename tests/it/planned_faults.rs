//! The faults that tests can plan do what they say, and the broker what it promises under them.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::socket::Socket;

#[tokio::test]
async fn a_part_that_fails_with_an_error_loses_and_doubles_nothing() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "").await;
    for (n, seam) in ["producer-received", "ingest-received"].into_iter().enumerate() {
        broker.plan(json!({ "seam": seam, "nth": 1, "action": "error", "times": 3 })).await;
        socket.send(json!({ "id": n, "data": n })).await;
        let ack = socket.frame().await["acks"][0].clone();
        assert_eq!((&ack["id"], &ack["offset"]), (&json!(n), &json!(n)), "{seam}");
    }
    broker.plan(json!({ "seam": "handler-publishing", "nth": 1, "action": "error" })).await;
    problem(broker.publish("t", "x/y", "1").await, 500, "internal").await;
    broker.plan(json!({ "seam": "session-frame", "nth": 1, "action": "error" })).await;
    socket.send(r#"{"id":7,"data":7}"#).await;
    let error = socket.frame().await;
    assert_eq!((&error["error"]["code"], &error["frame"]), (&json!("internal"), &json!(3)));
    assert_eq!(broker.read_all("t").await.len(), 2);
    assert_eq!(broker.json("/v1/topics/t").await["restarts"], 0);
}

#[tokio::test]
async fn a_commit_that_fails_ends_the_process_and_acknowledges_nothing() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    assert_eq!(broker.publish("t", "x/y", "1").await.status(), StatusCode::ACCEPTED);
    broker.plan(json!({ "seam": "writer-committing", "nth": 1, "action": "error" })).await;
    let url = broker.url("/v1/topics/t/messages");
    let answer = broker.http.post(url).body("2").send().await;
    assert!(!answer.is_ok_and(|answer| answer.status().is_success()));
    assert_eq!(broker.ended().code(), Some(1));
    let broker = Broker::start(&data);
    assert_eq!(broker.read_all("t").await.len(), 1);
}

#[tokio::test]
async fn a_panic_on_the_writer_thread_costs_its_own_topic_until_the_next_start() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let id = |id: &str| json!({ "messages": [{ "data": 1, "message_id": id }] }).to_string();
    const BATCH: &str = "application/vnd.weir.messages+json";
    for topic in ["doomed", "other"] {
        assert_eq!(broker.publish(topic, BATCH, id("a")).await.status(), StatusCode::ACCEPTED);
    }
    broker.plan(json!({ "seam": "machine-appending", "nth": 1, "action": "panic" })).await;
    problem(broker.publish("doomed", "x/y", "2").await, 503, "quarantined").await;
    problem(broker.publish("doomed", "x/y", "3").await, 503, "quarantined").await;
    assert_eq!(broker.json("/v1/topics/doomed").await["state"], "quarantined");
    assert_eq!(broker.read_all("doomed").await.len(), 1, "what is there can be read");
    assert_eq!(broker.publish("other", "x/y", "2").await.status(), StatusCode::ACCEPTED);
    // A change of the catalogue that panics changes nothing, and the writer goes on.
    broker.plan(json!({ "seam": "machine-changing", "nth": 1, "action": "panic" })).await;
    let url = broker.url("/v1/topics/new");
    let made = broker.http.put(&url).json(&json!({})).send().await.unwrap();
    problem(made, 500, "internal").await;
    problem(broker.get("/v1/topics/new").await, 404, "topic-not-found").await;
    let made = broker.http.put(&url).json(&json!({})).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    // A copy misses nothing of it, and neither does a start after a kill.
    let copy = broker.get("/v1/backup").await.bytes().await.unwrap();
    broker.kill();
    let restored = directory.path().join("restored");
    weir::topics::restore(&copy[..], &restored, |_| {}).await.unwrap();
    for data in [&data, &restored] {
        let broker = Broker::start(data);
        assert_eq!(broker.json("/v1/topics/doomed").await["state"], "running");
        let again: Value = broker.publish("doomed", BATCH, id("a")).await.json().await.unwrap();
        assert_eq!(again["results"][0]["duplicate"], true, "{again}");
        let answer: Value = broker.publish("doomed", "x/y", "4").await.json().await.unwrap();
        let offset = answer["offset"].as_u64();
        match data == &restored {
            true => assert!(offset > Some(1), "a copy goes on apart from its source"),
            false => assert_eq!(offset, Some(1), "offsets go on where they ended"),
        }
        assert_eq!(broker.read_all("other").await.len(), 2);
    }
}

#[tokio::test]
async fn a_disk_that_takes_its_time_only_delays() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.publish("t", "x/y", "1").await;
    let delay =
        json!({ "seam": "writer-committing", "nth": 1, "action": "delay", "delay_ms": 300 });
    broker.plan(delay).await;
    let begun = Instant::now();
    assert_eq!(broker.publish("t", "x/y", "2").await.status(), StatusCode::ACCEPTED);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_refused() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for plan in [
        json!({ "seam": "nowhere", "nth": 1 }),
        json!({ "seam": "topic-head-advanced", "nth": 1, "action": "error" }),
        json!({ "seam": "ingest-received", "nth": 1, "action": "explode" }),
        Value::Null,
    ] {
        let request = broker.http.post(broker.url("/v1/debug/faults"));
        problem(request.json(&plan).send().await.unwrap(), 400, "invalid-request").await;
    }
}
