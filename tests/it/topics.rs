//! The catalogue of topics.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::load::{Control, produce};
use crate::support::socket::Socket;

#[tokio::test]
async fn settings_are_replaced_as_a_whole_and_survive_a_restart() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let settings = json!({ "ack_level": "os", "sync_interval_ms": 50 });
    let created = broker.put_topic("cars.eu", settings).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let created: Value = created.json().await.unwrap();
    let expected = json!({
        "name": "cars.eu", "mode": "hml", "ack_level": "os", "sync_interval_ms": 50,
        "retention_ms": 604_800_000, "retention_bytes": 10_737_418_240u64,
        "message_bytes_max": 1_048_576, "dedup_window_ms": 120_000, "dedup_window_messages": 10_000,
        "state": "running", "epoch": 1, "first": 0, "head": 0,
        "messages": 0, "bytes": 0, "loss_bound_ms": 50, "producers": 0, "subscriptions": 0,
        "restarts": 0, "gaps": [],
    });
    assert_eq!(created, expected);
    let replaced = broker.put_topic("cars.eu", json!({ "message_bytes_max": 9 })).await;
    assert_eq!(replaced.status(), StatusCode::OK);
    broker.kill();
    let broker = Broker::start(&data);
    let shown = broker.json("/v1/topics/cars.eu").await;
    assert_eq!((&shown["ack_level"], &shown["message_bytes_max"]), (&json!("sync"), &json!(9)));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_leaves_the_rest() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let url = broker.url("/v1/topics/t");
    let patch = |body: Value| broker.http.patch(&url).json(&body).send();
    problem(patch(json!({ "ack_level": "os" })).await.unwrap(), 404, "topic-not-found").await;
    broker.put_topic("t", json!({ "ack_level": "os", "sync_interval_ms": 50 })).await;
    // Two at once, each of another setting: neither undoes the other.
    let (one, other) = tokio::join!(
        patch(json!({ "retention_ms": 5_000 })),
        patch(json!({ "message_bytes_max": 9 })),
    );
    assert_eq!((one.unwrap().status(), other.unwrap().status()), (StatusCode::OK, StatusCode::OK));
    let refused = patch(json!({ "message_bytes_max": 1u64 << 40 })).await.unwrap();
    problem(refused, 400, "invalid-request").await;
    broker.kill();
    let broker = Broker::start(&data);
    let shown = broker.json("/v1/topics/t").await;
    for (setting, value) in [
        ("ack_level", json!("os")),
        ("sync_interval_ms", json!(50)),
        ("retention_ms", json!(5_000)),
        ("message_bytes_max", json!(9)),
    ] {
        assert_eq!(shown[setting], value, "{setting}");
    }
}

#[tokio::test]
async fn a_producer_is_told_when_what_its_acknowledgements_are_worth_changes() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut producer = Socket::producer(&broker, "t", "").await;
    broker.put_topic("t", json!({ "ack_level": "os", "sync_interval_ms": 70 })).await;
    producer.send(r#"{"id":1,"data":1}"#).await;
    let welcome = producer.frame().await;
    assert_eq!(welcome["welcome"]["ack_level"], "os");
    assert_eq!(welcome["welcome"]["loss_bound_ms"], 70);
    assert_eq!(producer.frame().await["acks"][0]["offset"], 0);
    let answer: Value = broker.publish("t", "x/y", "1").await.json().await.unwrap();
    assert_eq!((&answer["ack_level"], &answer["loss_bound_ms"]), (&json!("os"), &json!(70)));
}

#[tokio::test]
async fn a_topic_that_is_deleted_under_load_takes_its_producers_along_and_no_other() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let control = Control::default();
    let load = |topic: &str, producer| {
        let (address, control) = (broker.address.clone(), control.clone());
        tokio::spawn(produce(address, topic.into(), producer, 0, control))
    };
    let (doomed, kept) = (load("doomed", 0), load("kept", 1));
    eventually("both are under load", async || control.acknowledged() > 500).await;
    let deleted = broker.http.delete(broker.url("/v1/topics/doomed")).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    doomed.await.unwrap();
    let before = control.acknowledged();
    eventually("the other goes on", async || control.acknowledged() > before + 500).await;
    control.stop();
    let mut history = kept.await.unwrap();
    broker.kill();
    let broker = Broker::start(&data);
    history.found(broker.read_all("kept").await);
    assert_eq!(history.violations(), []);
    problem(broker.get("/v1/topics/doomed").await, 404, "topic-not-found").await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_by_name() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (settings, named) in [
        (json!({ "colour": 1 }), "colour"),
        (json!({ "mode": "none" }), "none"),
        (json!({ "ack_level": "memory" }), "memory"),
        (json!({ "sync_interval_ms": 0 }), "sync_interval_ms"),
        (json!({ "sync_interval_ms": 1.5 }), "sync_interval_ms"),
        (json!({ "message_bytes_max": 1_048_577 }), "message_bytes_max"),
        (json!([1]), "body"),
    ] {
        let problem = problem(broker.put_topic("t", settings).await, 400, "invalid-request").await;
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
    }
    problem(broker.get("/v1/topics/t").await, 404, "topic-not-found").await;
}

#[tokio::test]
async fn a_name_that_must_be_new_is_a_conflict_when_it_is_not() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let create = || {
        let request = broker.http.put(broker.url("/v1/topics/t"));
        request.header("if-none-match", "*").send()
    };
    assert_eq!(create().await.unwrap().status(), StatusCode::CREATED);
    problem(create().await.unwrap(), 409, "already-exists").await;
}

#[tokio::test]
async fn topics_are_listed_by_name_a_page_at_a_time() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for name in ["b.2", "a", "b.1", "b.3"] {
        broker.put_topic(name, json!({})).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let topics = page["topics"].as_array().unwrap();
        topics.iter().map(|topic| topic["name"].as_str().unwrap().to_owned()).collect()
    };
    let page = broker.json("/v1/topics?prefix=b.&limit=2").await;
    assert_eq!(names(&page), ["b.1", "b.2"]);
    assert_eq!(page["next"], "b.2");
    let page = broker.json("/v1/topics?prefix=b.&limit=2&after=b.2").await;
    assert_eq!((names(&page), &page["next"]), (vec!["b.3".to_owned()], &Value::Null));
    problem(broker.get("/v1/topics?limit=0").await, 400, "invalid-request").await;
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_its_name_begins_anew() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let delete = || broker.http.delete(broker.url("/v1/topics/t")).send();
    problem(delete().await.unwrap(), 404, "topic-not-found").await;
    let mut producer = Socket::producer(&broker, "t", "").await;
    producer.send(r#"{"id":1,"data":1}"#).await;
    let first = producer.frame().await;
    assert_eq!(delete().await.unwrap().status(), StatusCode::NO_CONTENT);
    producer.send(r#"{"id":2,"data":2}"#).await;
    let refused = producer.frame().await;
    // It may come back, and finds a topic that is made anew.
    assert_eq!(refused["acks"][0]["error"]["code"], "recovering");
    assert_eq!(producer.close_code().await, Some(1013));
    problem(broker.get("/v1/topics/t/messages").await, 404, "topic-not-found").await;

    let again: Value = broker.publish("t", "application/json", "3").await.json().await.unwrap();
    assert_eq!(again["offset"], 0);
    assert_ne!(again["receipt"], first["acks"][0]["receipt"], "another topic, another receipt");
    broker.kill();
    let broker = Broker::start(&data);
    let found = broker.read_all("t").await;
    assert_eq!((found.len(), &found[0]["data"]), (1, &json!(3)));
}

#[tokio::test]
async fn topics_come_into_being_as_the_policy_allows() {
    let directory = tempdir().unwrap();
    let broker =
        Broker::start_with(&directory.path().join("one"), &[("WEIR__LIMITS__TOPICS_MAX", "2")]);
    for topic in ["a", "b"] {
        assert_eq!(broker.publish(topic, "x/y", "1").await.status(), StatusCode::ACCEPTED);
    }
    problem(broker.publish("c", "x/y", "1").await, 429, "too-many-topics").await;

    let broker =
        Broker::start_with(&directory.path().join("two"), &[("WEIR__AUTO_CREATE_TOPICS", "false")]);
    problem(broker.publish("a", "x/y", "1").await, 404, "topic-not-found").await;
    problem(broker.publish("b", "application/json", "{").await, 400, "invalid-request").await;
    problem(broker.get("/v1/topics/b").await, 404, "topic-not-found").await;
    assert!(Socket::try_open(&broker.address, "/v1/topics/a/tail").await.is_err());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    problem(broker.get("/v1/nothing").await, 404, "not-found").await;
    let wrong = broker.http.patch(broker.url("/v1/topics/t/messages")).send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "GET, HEAD, POST, OPTIONS");
    problem(wrong, 405, "method-not-allowed").await;
    let plain = broker.get("/v1/topics/t/producer").await;
    problem(plain, 400, "invalid-request").await;
    assert_eq!(broker.json("/livez").await, json!({ "live": true }));
    assert_eq!(broker.json("/readyz").await, json!({ "ready": true, "degraded": [] }));
}
