//! Headers: what they say of a message on its way in and out, which are known, and what every
//! answer has.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::wire::Wire;

async fn publish_with(broker: &Broker, headers: &[(&str, &str)]) -> reqwest::Response {
    let request = broker.http.post(broker.url("/v1/topics/t/messages")).body("x");
    headers.iter().fold(request, |r, (name, value)| r.header(*name, *value)).send().await.unwrap()
}

#[tokio::test]
async fn fields_that_no_header_holds_are_percent_encoded_out_and_in() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let values = [
        "plain",
        "line\r\nend\u{0}\u{1f}\u{7f}\t",
        "kéy 漢字 😀",
        "100%",
        "%41%zz%",
        " at the ends ",
        "\"quoted\"",
        "\\",
    ];
    let messages: Vec<_> = values
        .iter()
        .map(|value| {
            json!({ "data": 1, "key": value, "message_id": value, "attributes": { "a": value } })
        })
        .collect();
    let batch = json!({ "messages": messages }).to_string();
    let answer = broker.publish("t", "application/vnd.weir.messages+json", batch).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["accepted"], values.len());
    for (offset, value) in values.into_iter().enumerate() {
        let message = broker.get(&format!("/v1/topics/t/messages/{offset}")).await;
        let header = |name: &str| message.headers()[name].to_str().unwrap().to_owned();
        // Sent again as they came, they are the same message.
        let key = header("weir-key");
        let headers = [
            ("weir-key", &*key),
            ("idempotency-key", &header("weir-message-id")),
            ("weir-attr-a", &header("weir-attr-a")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        broker.http.delete(broker.url("/v1/topics/u")).send().await.unwrap();
        let request = broker.http.post(broker.url("/v1/topics/u/messages")).body("x");
        let request = headers.iter().fold(request, |r, (name, value)| r.header(name, value));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::ACCEPTED);
        let stored = broker.read_all("u").await[0].clone();
        for field in [&stored["key"], &stored["message_id"], &stored["attributes"]["a"]] {
            assert_eq!(field, value);
        }
    }
    let message = broker.get("/v1/topics/t/messages/3").await;
    assert_eq!(message.headers()["weir-key"], "100%25");
    let bad = publish_with(&broker, &[("weir-key", "%ff")]).await;
    let refused = problem(bad, 400, "invalid-request").await;
    assert!(refused["detail"].as_str().unwrap().contains("`weir-key`"), "{refused}");
}

#[tokio::test]
async fn an_idempotency_key_is_the_same_with_and_without_quotes() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (id, duplicate) in [
        ("k", false),
        ("\"k\"", true),
        ("\"\\\"k\\\"\"", false),
        ("%22k%22", true),
        ("\"a b\"", false),
        ("a%20b", true),
    ] {
        let answer = publish_with(&broker, &[("idempotency-key", id)]).await;
        assert_eq!(answer.json::<Value>().await.unwrap()["duplicate"], duplicate, "{id}");
    }
    let ids: Vec<_> =
        broker.read_all("t").await.iter().map(|message| message["message_id"].clone()).collect();
    assert_eq!(ids, ["k", "\"k\"", "a b"]);
    for bad in ["\"", "\"k", "\"k\";a=1", "\"a\"b\"", "\"\""] {
        let answer = publish_with(&broker, &[("idempotency-key", bad)]).await;
        problem(answer, 400, "invalid-request").await;
    }
}

#[tokio::test]
async fn headers_that_are_not_known_or_stand_there_twice_are_named() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let name_of = async |answer: reqwest::Response| {
        let refused = problem(answer, 400, "invalid-request").await;
        refused["detail"].as_str().unwrap().split('`').nth(1).unwrap().to_owned()
    };
    for unknown in ["weir-colour", "weir-message-id", "weir-attributes", "weir-ttl"] {
        assert_eq!(name_of(publish_with(&broker, &[(unknown, "1")]).await).await, unknown);
    }
    for twice in ["weir-key", "weir-ttl-ms", "weir-attr-a", "idempotency-key"] {
        let headers = [(twice, "1"), (twice, "1")];
        assert_eq!(name_of(publish_with(&broker, &headers).await).await, twice);
        let one_way = broker.http.post(broker.url("/v1/topics/t/oneway")).body("x");
        let one_way = one_way.header(twice, "1").header(twice, "2");
        assert_eq!(name_of(one_way.send().await.unwrap()).await, twice);
    }
    assert_eq!(
        name_of(publish_with(&broker, &[("weir-attr-a!b", "1")]).await).await,
        "weir-attr-a!b"
    );
    assert_eq!(
        name_of(publish_with(&broker, &[("weir-attr-weir-x", "1")]).await).await,
        "weir-attr-weir-x"
    );
    // Where nothing is published none is known.
    for (method, path) in [
        (Method::GET, "/livez"),
        (Method::GET, "/v1/topics/t/messages"),
        (Method::PUT, "/v1/topics/t"),
    ] {
        let request = broker.http.request(method, broker.url(path)).header("weir-key", "k");
        assert_eq!(name_of(request.send().await.unwrap()).await, "weir-key", "{path}");
    }
    assert_eq!(broker.json("/v1/topics").await["topics"], json!([]));
}

#[tokio::test]
async fn parameters_that_are_not_known_are_named_everywhere() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.publish("t", "x/y", "1").await;
    for (method, path) in [
        (Method::GET, "/livez"),
        (Method::GET, "/readyz"),
        (Method::GET, "/metrics"),
        (Method::GET, "/v1/status"),
        (Method::GET, "/v1/topics"),
        (Method::GET, "/v1/backup"),
        (Method::GET, "/v1/topics/t"),
        (Method::PUT, "/v1/topics/t"),
        (Method::PATCH, "/v1/topics/t"),
        (Method::DELETE, "/v1/topics/t"),
        (Method::POST, "/v1/topics/t/recover"),
        (Method::POST, "/v1/topics/t/messages"),
        (Method::GET, "/v1/topics/t/messages"),
        (Method::GET, "/v1/topics/t/messages/0"),
        (Method::POST, "/v1/topics/t/oneway"),
        (Method::GET, "/v1/topics/t/events"),
        (Method::GET, "/v1/topics/t/producer"),
        (Method::GET, "/v1/topics/t/tail"),
        (Method::GET, "/v1/receipts/x"),
    ] {
        let url = broker.url(&format!("{path}?colour=red"));
        let answer = broker.http.request(method.clone(), url).send().await.unwrap();
        let refused = problem(answer, 400, "invalid-request").await;
        assert!(
            refused["detail"].as_str().unwrap().contains("`colour`"),
            "{method} {path}: {refused}"
        );
    }
    assert_eq!(broker.json("/v1/topics/t").await["head"], 1);
}

#[tokio::test]
async fn answers_are_kept_by_nobody_but_a_message_by_who_asks_for_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.publish("t", "text/plain", "x").await;
    let control =
        |answer: &reqwest::Response| answer.headers()["cache-control"].to_str().unwrap().to_owned();
    for path in [
        "/livez",
        "/metrics",
        "/v1/topics",
        "/v1/topics/t/messages",
        "/v1/topics/t/messages/7",
        "/v1/topics/none",
        "/v1/nothing",
        "/v1/receipts/x",
        "/v1/backup",
    ] {
        assert_eq!(control(&broker.get(path).await), "no-store", "{path}");
    }
    assert_eq!(control(&broker.publish("t", "text/plain", "y").await), "no-store");
    let wrong = broker.http.patch(broker.url("/livez")).send().await.unwrap();
    assert_eq!(control(&wrong), "no-store");
    broker.plan_fault("handler-publishing", 1).await;
    assert_eq!(control(&broker.publish("t", "text/plain", "z").await), "no-store");

    let message = broker.get("/v1/topics/t/messages/0").await;
    assert_eq!(control(&message), "no-cache");
    let tag = message.headers()["etag"].to_str().unwrap().to_owned();
    let ask = async |offset: u64, known: &str| {
        let request = broker.http.get(broker.url(&format!("/v1/topics/t/messages/{offset}")));
        request.header("if-none-match", known).send().await.unwrap()
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let answer = ask(0, &known).await;
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(
            (control(&answer), answer.headers()["etag"].to_str().unwrap()),
            ("no-cache".into(), &*tag)
        );
        assert_eq!(answer.bytes().await.unwrap(), "");
    }
    assert_eq!(ask(0, "\"other\"").await.text().await.unwrap(), "x");
    assert_eq!(ask(1, &tag).await.text().await.unwrap(), "y", "another message has another tag");
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    broker.publish("t", "text/plain", "anew").await;
    assert_eq!(ask(0, &tag).await.text().await.unwrap(), "anew", "so has one of another topic");
}

#[tokio::test]
async fn who_speaks_http_1_0_is_given_no_chunks() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for _ in 0..30 {
        broker.publish("t", "text/plain", "x".repeat(60_000)).await;
    }
    for keep in ["", "Connection: keep-alive\r\n"] {
        let page = format!("GET /v1/topics/t/messages?max_bytes=4000000 HTTP/1.0\r\n{keep}\r\n");
        let mut wire = Wire::sending(&broker, page).await;
        let head = wire.head().await;
        assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
        let page: Value = serde_json::from_slice(&wire.rest().await).expect("the page alone");
        assert_eq!(page["messages"].as_array().unwrap().len(), 30);
    }
    let mut wire = Wire::sending(&broker, "GET /v1/backup HTTP/1.0\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    let backup = wire.rest().await;
    assert!(backup.starts_with(b"weir backup"), "{:?}", &backup[..20]);
    let mut wire = Wire::sending(&broker, "GET /v1/topics/t/events?from=29 HTTP/1.0\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    broker.terminate();
    let events = String::from_utf8(wire.rest().await).unwrap();
    assert!(events.starts_with(":\n\nid: 1-29\ndata: {"), "{events:.60}");
    // What is short says its length, and the connection may go on.
    let broker = Broker::start(&directory.path().join("another"));
    let kept = "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut wire = Wire::sending(&broker, kept.repeat(2)).await;
    for _ in 0..2 {
        assert_eq!(wire.answer().await.header("content-length"), Some("13"));
    }
}

#[tokio::test]
async fn settings_get_their_defaults_back_with_null() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__TOPIC_DEFAULTS__RETENTION_MS", "123456")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker
        .put_topic(
            "t",
            json!({ "ack_level": "os", "retention_ms": 5_000, "retention_bytes": 70_000 }),
        )
        .await;
    let patch = async |change: Value| {
        let request = broker.http.patch(broker.url("/v1/topics/t"));
        request.json(&change).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let topic = patch(json!({ "retention_ms": null })).await;
    assert_eq!((&topic["retention_ms"], &topic["ack_level"]), (&json!(123_456), &json!("os")));
    let topic = patch(json!({ "ack_level": null, "retention_bytes": 80_000 })).await;
    assert_eq!((&topic["ack_level"], &topic["retention_bytes"]), (&json!("sync"), &json!(80_000)));
    let topic =
        patch(json!({ "retention_bytes": null, "mode": null, "message_bytes_max": null })).await;
    assert_eq!(topic["retention_bytes"], 10_737_418_240u64);
    let same = patch(json!({})).await;
    assert_eq!(same["retention_ms"], 123_456);
    let answer = broker.put_topic("t", json!({ "retention_ms": null })).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["retention_ms"], 123_456);
    eventually("it is so for all", async || {
        broker.json("/v1/topics/t").await["ack_level"] == "sync"
    })
    .await;
}
