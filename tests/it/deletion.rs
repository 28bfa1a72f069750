//! Publishes that meet the deletion of their topic: made anew, or told to come again, and never
//! lost by a 404.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::socket::{Event, Socket};

const DELETIONS: usize = 40;

/// Deletes the topic again and again while `publish` goes on, which checks what is answered.
async fn while_deleted(broker: &Broker, publish: impl AsyncFn(&AtomicBool)) {
    let stop = AtomicBool::new(false);
    let deleting = async {
        for _ in 0..DELETIONS {
            eventually("there is one to delete", async || {
                let deleted = broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
                deleted.status() == 204
            })
            .await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(deleting, publish(&stop), publish(&stop), publish(&stop));
}

fn check(error: &Value) {
    assert_eq!((&error["status"], &error["temporary"]), (&json!(503), &json!(true)), "{error}");
}

#[tokio::test]
async fn over_http_one_message_or_many_go_into_the_topic_that_is_made_anew() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let bodies = [
        ("text/plain", "x".to_owned()),
        ("application/x-ndjson", "1\n2\n3".to_owned()),
        ("application/vnd.weir.messages+json", r#"{"messages":[{"data":1}]}"#.to_owned()),
    ];
    while_deleted(&broker, async |stop: &AtomicBool| {
        while !stop.load(Ordering::SeqCst) {
            for (content_type, body) in &bodies {
                let answer = broker.publish("t", content_type, body.clone()).await;
                if answer.status() != 202 {
                    check(&answer.json().await.unwrap());
                }
            }
        }
    })
    .await;
    broker.publish("t", "text/plain", "x").await;
    assert!(broker.json("/v1/topics/t").await["head"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_producer_socket_is_told_to_come_again_and_finds_the_topic_made_anew() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for query in ["", "?acks=range", "?acks=none"] {
        let mut socket = Socket::producer(&broker, "t", query).await;
        broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
        socket.send(r#"[{"id":1,"data":1},{"id":2,"data":2}]"#).await;
        for ack in socket.frame().await["acks"].as_array().unwrap() {
            check(&ack["error"]);
        }
        assert_eq!(socket.close_code().await, Some(1013), "{query}");
    }
    let mut named = Socket::producer(&broker, "t", "?producer=p").await;
    named.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(named.frame().await["acks"][0]["offset"], 0);
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    named.send(r#"{"id":2,"data":2}"#).await;
    check(&named.frame().await["acks"][0]["error"]);
    let mut again = Socket::producer(&broker, "t", "?producer=p").await;
    again.send(r#"{"id":2,"data":2}"#).await;
    assert_eq!(again.frame().await["acks"][0]["offset"], 0);
}

#[tokio::test]
async fn sockets_opened_while_their_topic_is_deleted_open_or_are_told_to_come_again() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let names = AtomicU64::new(0);
    while_deleted(&broker, async |stop: &AtomicBool| {
        // A name is one socket's at a time.
        let named = format!("?producer={}", names.fetch_add(1, Ordering::SeqCst));
        while !stop.load(Ordering::SeqCst) {
            for query in ["", &named] {
                let path = format!("/v1/topics/t/producer{query}");
                let mut socket = Socket::open(&broker, &path).await;
                let welcome = socket.frame().await;
                assert!(welcome["welcome"]["protocol"].is_string(), "{welcome}");
                let id = welcome["welcome"]["resume_after"].as_u64().unwrap_or(0) + 1;
                socket.send(json!({ "id": id, "data": 1 })).await;
                match socket.event().await {
                    Event::Frame(frame) if frame["acks"][0].get("error").is_some() => {
                        check(&frame["acks"][0]["error"]);
                        assert_eq!(socket.close_code().await, Some(1013));
                    }
                    Event::Frame(frame) => assert!(frame["acks"][0]["offset"].is_u64(), "{frame}"),
                    Event::Closed(reason) => panic!("not answered: {reason:?}"),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn one_way_messages_are_stored_in_the_topic_that_is_made_anew() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let sent = AtomicU64::new(0);
    while_deleted(&broker, async |stop: &AtomicBool| {
        while !stop.load(Ordering::SeqCst) {
            let request = broker.http.post(broker.url("/v1/topics/t/oneway")).body("x");
            assert_eq!(request.send().await.unwrap().status(), 204);
            sent.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let sent = sent.into_inner();
    eventually("all are stored", async || {
        broker.counted("weir_one_way_stored_total").await == sent
    })
    .await;
    assert_eq!(broker.counted("weir_one_way_dropped_total").await, 0);
}

#[tokio::test]
async fn where_topics_are_not_made_by_themselves_a_deleted_one_is_not_found() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__AUTO_CREATE_TOPICS", "false")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.put_topic("t", json!({})).await;
    let mut socket = Socket::producer(&broker, "t", "").await;
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    socket.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(socket.frame().await["acks"][0]["error"]["code"], "topic-not-found");
    assert_eq!(socket.close_code().await, Some(1008));
    problem(broker.publish("t", "x/y", "1").await, 404, "topic-not-found").await;
}
