//! Messages that nobody waits for: taken, stored as a rule, and counted where not.

use reqwest::StatusCode;
use serde_json::json;
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::socket::Socket;

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
