//! Messages that nobody waits for: taken, stored as a rule, and counted where not.

use reqwest::StatusCode;
use serde_json::json;
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::socket::Socket;
use crate::support::wire::Wire;

async fn one_way(
    broker: &Broker,
    topic: &str,
    content_type: &str,
    body: &str,
) -> reqwest::Response {
    let request = broker.http.post(broker.url(&format!("/v1/topics/{topic}/oneway")));
    request.header("content-type", content_type).body(body.to_owned()).send().await.unwrap()
}

#[tokio::test]
async fn one_way_messages_in_every_form_are_answered_with_nothing_and_stored() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (content_type, body) in [
        ("text/plain", "one"),
        ("application/x-ndjson", "1\n2"),
        ("application/vnd.weir.messages+json", r#"{"messages":[{"data":3},{"colour":1}]}"#),
    ] {
        let answer = one_way(&broker, "t", content_type, body).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.bytes().await.unwrap(), "");
    }
    eventually("they are stored", async || {
        let topic = broker.get("/v1/topics/t").await;
        topic.status().is_success() && topic.json::<serde_json::Value>().await.unwrap()["head"] == 4
    })
    .await;
    assert_eq!(broker.counted("weir_one_way_dropped_total").await, 1, "the one that is no message");
    assert_eq!(broker.counted(r#"weir_published_messages_total{way="oneway"}"#).await, 4);
    // What is no request at all is told so.
    problem(one_way(&broker, "a%20b", "x/y", "1").await, 400, "invalid-name").await;
    problem(one_way(&broker, "t", "application/json", "{").await, 400, "invalid-request").await;
}

#[tokio::test]
async fn what_is_lost_on_one_way_paths_is_counted() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__TOPICS_MAX", "1"), ("WEIR__SUPERVISION__RESTARTS_MAX", "0")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    assert_eq!(one_way(&broker, "another", "x/y", "1").await.status(), StatusCode::NO_CONTENT);
    eventually("it is counted", async || broker.counted("weir_one_way_dropped_total").await == 1)
        .await;
    // A topic that gives up takes a socket's one-way messages along.
    let mut socket = Socket::producer(&broker, "t", "").await;
    broker.plan_fault("ingest-received", 1).await;
    socket.send(r#"[{"data":1},{"data":2,"id":1},{"data":3}]"#).await;
    assert_eq!(socket.frame().await["acks"][0]["error"]["code"], "quarantined");
    assert_eq!(socket.close_code().await, Some(1013));
    assert_eq!(broker.counted("weir_one_way_dropped_total").await, 3);
}

#[tokio::test]
async fn without_automatic_topics_a_one_way_message_to_none_is_refused() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__AUTO_CREATE_TOPICS", "false")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    problem(one_way(&broker, "t", "x/y", "1").await, 404, "topic-not-found").await;
    broker.put_topic("t", json!({})).await;
    assert_eq!(one_way(&broker, "t", "x/y", "1").await.status(), StatusCode::NO_CONTENT);
}

/// What became of one-way messages: stored, duplicates, dropped, and dropped for these reasons.
async fn account(broker: &Broker, reasons: &[&str]) -> (u64, u64, u64, Vec<u64>) {
    let mut by_reason = Vec::new();
    for reason in reasons {
        let series = format!("weir_one_way_drops_total{{reason=\"{reason}\"}}");
        by_reason.push(broker.counted(&series).await);
    }
    (
        broker.counted("weir_one_way_stored_total").await,
        broker.counted("weir_one_way_duplicates_total").await,
        broker.counted("weir_one_way_dropped_total").await,
        by_reason,
    )
}

/// Waits until so many are accounted for.
async fn settled(broker: &Broker, sent: u64) {
    eventually("all are accounted for", async || {
        let (stored, duplicates, dropped, _) = account(broker, &[]).await;
        stored + duplicates + dropped == sent
    })
    .await;
}

#[tokio::test]
async fn over_http_all_that_was_sent_is_stored_a_duplicate_or_dropped_for_a_reason() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "message_bytes_max": 100 })).await;
    let batch = "application/vnd.weir.messages+json";
    let with_id = async |body: &'static str| {
        let request = broker.http.post(broker.url("/v1/topics/t/oneway"));
        request.header("idempotency-key", "k").body(body).send().await.unwrap()
    };
    for (sent, body) in (1..).zip(["A", "B", "A", "C"]) {
        assert_eq!(with_id(body).await.status(), StatusCode::NO_CONTENT);
        settled(&broker, sent).await;
    }
    assert_eq!(account(&broker, &["message-id-conflict"]).await, (1, 1, 2, vec![2]));
    // In a batch each for its own reason, the good ones stored.
    let large = "x".repeat(200);
    let messages = json!({ "messages": [
        { "data": 1 }, { "data": large }, { "data": 2, "colour": 1 },
        { "data": "B", "message_id": "k" },
        { "data": 3, "message_id": "m" }, { "data": 3, "message_id": "m" },
    ] });
    let answer = one_way(&broker, "t", batch, &messages.to_string()).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    settled(&broker, 10).await;
    let reasons = ["message-id-conflict", "message-too-large", "invalid-request"];
    assert_eq!(account(&broker, &reasons).await, (3, 2, 5, vec![3, 1, 1]));
    // Refused as a whole, each message of a list counts.
    problem(one_way(&broker, "t", "text/plain", &large).await, 413, "message-too-large").await;
    problem(one_way(&broker, "a%20b", "text/plain", "x").await, 400, "invalid-name").await;
    let bad = one_way(&broker, "t", "application/x-ndjson", "{\n[\n}").await;
    problem(bad, 400, "invalid-request").await;
    let reasons = ["message-too-large", "invalid-name", "invalid-request"];
    assert_eq!(account(&broker, &reasons).await, (3, 2, 10, vec![2, 1, 4]));
}

#[tokio::test]
async fn one_way_messages_that_meet_a_fault_are_counted_for_it() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "0"), ("WEIR__LIMITS__TOPICS_MAX", "1")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    assert_eq!(one_way(&broker, "u", "application/x-ndjson", "1\n2").await.status(), 204);
    settled(&broker, 2).await;
    broker.plan_fault("ingest-received", 1).await;
    assert_eq!(one_way(&broker, "t", "application/x-ndjson", "1\n2\n3").await.status(), 204);
    settled(&broker, 5).await;
    let reasons = ["too-many-topics", "quarantined"];
    assert_eq!(account(&broker, &reasons).await, (0, 0, 5, vec![2, 3]));
}

#[tokio::test]
async fn frames_without_id_are_stored_duplicates_or_dropped_for_a_reason() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "message_bytes_max": 100 })).await;
    let mut socket = Socket::producer(&broker, "t", "").await;
    let large = "x".repeat(200);
    socket
        .send(json!([
            { "data": 1, "message_id": "k" }, { "data": 2 }, { "data": 1, "message_id": "k" },
            { "data": 3, "message_id": "k" }, { "data": large }, { "colour": 1 },
            { "data": 4, "id": 1 }, { "data": 5, "message_id": "k", "id": 2 },
        ]))
        .await;
    for _ in 0..2 {
        assert!(socket.frame().await["error"].is_object());
    }
    assert!(socket.frame().await["acks"].is_array());
    settled(&broker, 6).await;
    let reasons = ["message-id-conflict", "message-too-large", "invalid-request"];
    assert_eq!(account(&broker, &reasons).await, (2, 1, 3, vec![1, 1, 1]));
    // A frame that can't be read, and the rest of one that is given up.
    socket.send("{").await;
    assert!(socket.frame().await["error"].is_object());
    let mut many = vec![json!({}); 256];
    many.extend([json!({ "id": 7, "data": 1 }), json!({ "data": 1 }), json!({ "data": 2 })]);
    socket.send(json!(many)).await;
    assert_eq!(socket.close_code().await, Some(1008));
    settled(&broker, 6 + 1 + 256 + 2).await;
}

#[tokio::test]
async fn one_way_frames_of_a_socket_that_goes_are_accounted_for() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let before = broker.counted("weir_connections").await;
    for round in 1..=20 {
        let mut socket = Socket::producer(&broker, "t", "").await;
        for _ in 0..10 {
            socket.send(r#"[{"data":1},{"data":2}]"#).await;
        }
        // The answer says that all before it has been taken.
        socket.send("{").await;
        assert!(socket.frame().await["error"].is_object());
        let stream = match socket.0.into_inner() {
            tokio_tungstenite::MaybeTlsStream::Plain(stream) => stream,
            _ => unreachable!("no TLS here"),
        };
        // It ends with a reset.
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(stream);
        settled(&broker, round * 21).await;
    }
    let (stored, ..) = account(&broker, &[]).await;
    assert_eq!(broker.json("/v1/topics/t").await["head"], stored);
    eventually("they are gone", async || broker.counted("weir_connections").await == before).await;
}

#[tokio::test]
async fn one_way_messages_to_a_broker_that_drains_are_counted() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.publish("t", "x/y", "0").await;
    for _ in 0..40 {
        broker.publish("t", "text/plain", "x".repeat(100_000)).await;
    }
    // It takes nothing of what there is, not even a goodbye, so that draining takes a while.
    let wire = Wire::narrow(&broker).await;
    let _wire = wire.upgrade(&broker, "/v1/topics/t/tail?from=earliest").await;
    broker.terminate();
    eventually("it drains", async || {
        one_way(&broker, "t", "application/x-ndjson", "1\n2").await.status() == 503
    })
    .await;
    let (stored, _, dropped, by_reason) = account(&broker, &["draining"]).await;
    assert_eq!((dropped, &by_reason[..]), (2, &[2][..]), "{stored}");
}
