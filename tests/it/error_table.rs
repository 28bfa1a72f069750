//! Every row of API.md's table of errors that this broker has, provoked over HTTP and, where a
//! socket can meet it, over a socket.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio_tungstenite::tungstenite::Error;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::socket::Socket;

/// The problem a socket is refused with at its handshake.
async fn refused(broker: &Broker, path: &str) -> (u16, String) {
    match Socket::try_open(&broker.address, path).await {
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            let problem: Value = serde_json::from_slice(body).expect("a problem");
            (answer.status().as_u16(), problem["code"].as_str().unwrap().to_owned())
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    }
}

#[tokio::test]
async fn requests_are_refused_with_the_status_and_code_of_the_table() {
    let directory = tempdir().unwrap();
    let environment = [
        ("WEIR__LIMITS__TOPICS_MAX", "2"),
        ("WEIR__LIMITS__BODY_BYTES_MAX", "1048576"),
        ("WEIR__STORAGE__RETENTION_INTERVAL_MS", "100"),
    ];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.put_topic("t", json!({ "message_bytes_max": 100 })).await;
    let messages: &'static str = "/v1/topics/t/messages";
    type Header = (&'static str, &'static str);
    type Row = (Method, &'static str, Vec<Header>, Vec<u8>, u16, &'static str);
    let rows: Vec<Row> = vec![
        (Method::GET, "/v1/topics/a%20b", vec![], vec![], 400, "invalid-name"),
        (Method::GET, "/v1/topics/t/messages?max=0", vec![], vec![], 400, "invalid-request"),
        (Method::GET, "/v1/receipts/x", vec![], vec![], 400, "invalid-receipt"),
        (Method::GET, "/livez", vec![("host", "evil.example")], vec![], 403, "forbidden"),
        (
            Method::POST,
            messages,
            vec![("origin", "https://evil.example")],
            vec![],
            403,
            "origin-not-allowed",
        ),
        (Method::GET, "/v1/topics/none/messages", vec![], vec![], 404, "topic-not-found"),
        (
            Method::GET,
            "/v1/receipts/00000000-0000-8000-8000-000000000000",
            vec![],
            vec![],
            404,
            "receipt-not-found",
        ),
        (Method::GET, "/v2", vec![], vec![], 404, "not-found"),
        (Method::DELETE, messages, vec![], vec![], 405, "method-not-allowed"),
        (Method::GET, messages, vec![("accept", "text/html")], vec![], 406, "not-acceptable"),
        (Method::PUT, "/v1/topics/t", vec![("if-none-match", "*")], vec![], 409, "already-exists"),
        (Method::POST, messages, vec![], vec![0; 101], 413, "message-too-large"),
        (Method::POST, messages, vec![], vec![0; 1_048_577], 413, "body-too-large"),
        (
            Method::POST,
            messages,
            vec![("content-encoding", "br")],
            vec![],
            415,
            "unsupported-media-type",
        ),
    ];
    for (method, path, headers, body, status, code) in rows {
        let request = broker.http.request(method, broker.url(path)).body(body);
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        let answer = request.timeout(Duration::from_secs(20)).send().await.unwrap();
        let problem = problem(answer, status, code).await;
        assert_eq!(problem["type"], format!("urn:weir:problem:{code}"));
        assert_eq!(problem["temporary"], false, "{code}");
    }
    let same_id = |body: &'static str| {
        let request = broker.http.post(broker.url(messages)).header("idempotency-key", "a");
        request.body(body).send()
    };
    assert_eq!(same_id("1").await.unwrap().status(), StatusCode::ACCEPTED);
    problem(same_id("2").await.unwrap(), 409, "message-id-conflict").await;
    broker.put_topic("u", json!({ "retention_bytes": 65_536 })).await;
    problem(broker.put_topic("v", json!({})).await, 429, "too-many-topics").await;
    problem(broker.publish("v", "x/y", "1").await, 429, "too-many-topics").await;
    for _ in 0..20 {
        broker.publish("u", "x/y", vec![0; 10_000]).await;
    }
    eventually("the first are gone", async || broker.json("/v1/topics/u").await["first"] != 0)
        .await;
    let gone = problem(broker.get("/v1/topics/u/messages?from=0").await, 410, "offset-gone").await;
    assert_eq!(gone["first"], broker.json("/v1/topics/u").await["first"]);
}

#[tokio::test]
async fn temporary_refusals_say_when_to_come_back() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "0")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let answer = broker.publish("t", "x/y", "1").await;
    assert!(answer.headers().contains_key("retry-after"));
    let refused = problem(answer, 503, "quarantined").await;
    assert_eq!(refused["temporary"], true);
    assert!(refused["retry_after_ms"].as_u64().unwrap() > 0);
    broker.plan_fault("handler-publishing", 1).await;
    problem(broker.publish("t", "x/y", "1").await, 500, "internal").await;
    assert_eq!(
        broker.json("/readyz").await,
        json!({ "ready": true, "degraded": [{ "reason": "quarantined", "topic": "t" }] })
    );
}

#[tokio::test]
async fn sockets_are_refused_at_the_handshake_with_the_same_problems() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__TOPICS_MAX", "1")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.put_topic("t", json!({})).await;
    for (path, status, code) in [
        ("/v1/topics/a%20b/tail", 400, "invalid-name"),
        ("/v1/topics/t/producer?acks=some", 400, "invalid-request"),
        ("/v1/topics/t/producer?colour=red", 400, "invalid-request"),
        ("/v1/topics/t/tail?from=7", 400, "invalid-request"),
        ("/v1/topics/u/tail", 429, "too-many-topics"),
        ("/v1/topics/u/producer", 429, "too-many-topics"),
    ] {
        assert_eq!(refused(&broker, path).await, (status, code.to_owned()), "{path}");
    }
    // One of its own, where no connection that was refused is still open; one is our HTTP client's.
    let environment = [("WEIR__LIMITS__CONNECTIONS_PER_ADDRESS_MAX", "3")];
    let broker = Broker::start_with(&directory.path().join("another"), &environment);
    broker.put_topic("t", json!({})).await;
    let _open =
        [Socket::tail(&broker, "t", "latest").await, Socket::tail(&broker, "t", "latest").await];
    assert_eq!(
        refused(&broker, "/v1/topics/t/tail").await,
        (429, "too-many-connections".to_owned())
    );
}

#[tokio::test]
async fn messages_on_a_socket_are_refused_with_the_same_problems_under_error() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "0")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.put_topic("t", json!({ "message_bytes_max": 10 })).await;
    let mut socket = Socket::producer(&broker, "t", "").await;
    for (message, status, code) in [
        (json!({ "id": 1 }), 400, "invalid-request"),
        (json!({ "id": 1, "data": "more than ten bytes" }), 413, "message-too-large"),
    ] {
        socket.send(message).await;
        let error = socket.frame().await["acks"][0]["error"].clone();
        assert_eq!((&error["status"], &error["code"]), (&json!(status), &json!(code)));
        assert_eq!(
            (&error["temporary"], &error["type"]),
            (&json!(false), &json!(format!("urn:weir:problem:{code}")))
        );
    }
    socket.send(json!([{ "id": 1, "data": 1, "message_id": "a" }])).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 0);
    socket.send(json!([{ "id": 2, "data": 2, "message_id": "a" }])).await;
    assert_eq!(socket.frame().await["acks"][0]["error"]["code"], "message-id-conflict");
    broker.plan_fault("ingest-received", 1).await;
    socket.send(json!([{ "id": 3, "data": 3 }])).await;
    let error = socket.frame().await["acks"][0]["error"].clone();
    assert_eq!((&error["code"], &error["temporary"]), (&json!("quarantined"), &json!(true)));
    assert_eq!(socket.close_code().await, Some(1013));
}
