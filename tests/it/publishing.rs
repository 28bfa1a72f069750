//! Publishing over HTTP and over the producer socket.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::socket::{Event, Socket};

const BATCH: &str = "application/vnd.weir.messages+json";

#[tokio::test]
async fn a_raw_message_is_acknowledged_with_a_receipt_and_comes_back_as_it_was() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let body = b"{\"speed\" : 4.20e1,\n \"speed\":2}".to_vec();
    let url = broker.url("/v1/topics/cars/messages");
    let request = broker.http.post(url).header("content-type", "application/json");
    let request = request.header("weir-key", "car-7").header("weir-attr-lane", "left");
    let request = request.header("idempotency-key", "m-1").header("weir-ttl-ms", "60000");
    let answer = request.body(body.clone()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let answer: Value = answer.json().await.unwrap();
    let receipt = answer["receipt"].as_str().unwrap();
    assert_eq!(location, format!("/v1/receipts/{receipt}"));
    let expected = json!({
        "receipt": receipt, "topic": "cars", "stage": "logged", "ack_level": "sync",
        "loss_bound_ms": 0, "offset": 0, "duplicate": false,
    });
    assert_eq!(answer, expected);

    let page = broker.get("/v1/topics/cars/messages").await.text().await.unwrap();
    assert!(page.contains(std::str::from_utf8(&body).unwrap()), "byte for byte: {page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let message = &page["messages"][0];
    assert_eq!(message["receipt"], receipt);
    assert_eq!(message["key"], "car-7");
    assert_eq!(message["attributes"], json!({ "lane": "left" }));
    assert_eq!(message["message_id"], "m-1");
    assert_eq!(message["ttl_ms"], 60_000);
    assert_eq!(message["content_type"], "application/json");
}

#[tokio::test]
async fn payloads_are_shown_by_their_content_type() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (content_type, body) in [
        ("text/plain", &b"h\xc3\xa9"[..]),
        ("text/plain", b"\xff"),
        ("image/png", b"\x00\x01"),
        ("text/csv", b""),
    ] {
        let answer = broker.publish("t", content_type, body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    let found = broker.read_all("t").await;
    assert_eq!(found[0]["data"], "hé");
    assert_eq!(found[1]["data_base64"], "/w==");
    assert_eq!(found[2]["data_base64"], "AAE=");
    assert_eq!(found[3]["data"], "");
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_or_too_large_is_refused_and_nothing_is_stored() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "message_bytes_max": 10 })).await;
    problem(broker.publish("t", "application/json", "{").await, 400, "invalid-request").await;
    let refused =
        problem(broker.publish("t", "x/y", [0; 11]).await, 413, "message-too-large").await;
    assert_eq!(refused["limit"], 10);
    problem(broker.publish("a%20b", "x/y", "1").await, 400, "invalid-name").await;
    problem(broker.publish("_weir.x", "x/y", "1").await, 400, "invalid-name").await;
    let url = broker.url("/v1/topics/t/messages");
    let zipped = broker.http.post(url).header("content-encoding", "gzip").body("x").send().await;
    problem(zipped.unwrap(), 415, "unsupported-media-type").await;
    assert_eq!(broker.publish("t", "x/y", [0; 10]).await.status(), StatusCode::ACCEPTED);
    assert_eq!(broker.json("/v1/topics/t").await["head"], 1);
}

#[tokio::test]
async fn one_bad_message_of_a_batch_never_hides_the_others_outcome() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let batch = json!({ "messages": [{ "data": 1 }, { "colour": 2 }, { "data_base64": "AAE=" }] });
    let answer = broker.publish("t", BATCH, batch.to_string()).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(answer["results"][0]["offset"], 0);
    assert_eq!(answer["results"][1]["error"]["code"], "invalid-request");
    assert_eq!(answer["results"][2]["offset"], 1);

    let all_bad = broker.publish("t", BATCH, r#"{"messages":[{"id":1,"data":1}]}"#).await;
    assert_eq!(all_bad.status(), StatusCode::BAD_REQUEST);
    problem(broker.publish("t", BATCH, r#"{"messages":[]}"#).await, 400, "invalid-request").await;
    problem(broker.publish("t", BATCH, r#"{"messages":[],"x":1}"#).await, 400, "invalid-request")
        .await;
}

#[tokio::test]
async fn a_producer_socket_answers_each_message_by_its_id() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::open(&broker, "/v1/topics/t/producer").await;
    let welcome = socket.frame().await;
    let expected = json!({ "welcome": {
        "protocol": "weir.v1", "credit": { "messages": 4096, "bytes": 4_194_304 },
        "message_bytes_max": 1_048_576, "mode": "hml", "ack_level": "sync", "loss_bound_ms": 0,
    }});
    assert_eq!(welcome, expected);
    socket.send(r#"{"id":1,"data":"one"}"#).await;
    let ack = socket.frame().await;
    assert_eq!(ack["acks"][0]["id"], 1);
    assert_eq!(ack["acks"][0]["offset"], 0);
    assert_eq!(ack["acks"][0]["duplicate"], false);
    socket.send(r#"[{"id":"two","data":2},{"data":"one-way"},{"id":3.5,"data":3},{"id":4}]"#).await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.extend(socket.frame().await["acks"].as_array().unwrap().clone());
    }
    let by_id = |id: Value| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(by_id(json!("two"))["offset"], 1);
    assert_eq!(by_id(json!(3.5))["offset"], 3);
    assert_eq!(by_id(json!(4))["error"]["code"], "invalid-request");
    let data: Vec<_> = broker.read_all("t").await.iter().map(|m| m["data"].clone()).collect();
    assert_eq!(data, [json!("one"), json!(2), json!("one-way"), json!(3)]);
}

#[tokio::test]
async fn ranges_of_ids_are_acknowledged_together_and_must_be_consecutive() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "?acks=range").await;
    let frame: Vec<_> = (5..105).map(|id| json!({ "id": id, "data": id })).collect();
    socket.send(json!(frame)).await;
    assert_eq!(socket.frame().await, json!({ "acked": { "from": 5, "to": 104 } }));
    socket.send(r#"{"id":107,"data":1}"#).await;
    let refused = socket.frame().await;
    assert_eq!(refused["acks"][0]["error"]["code"], "invalid-request");
    assert_eq!(broker.read_all("t").await.len(), 100);
}

#[tokio::test]
async fn a_range_leaves_out_what_was_refused_and_the_rest_goes_on() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "?acks=range").await;
    // One that lacks its data, and one with a field nobody knows.
    let frame =
        r#"[{"id":1,"data":1},{"id":2},{"id":3,"data":3},{"id":4,"colour":4},{"id":5,"data":5}]"#;
    socket.send(frame).await;
    let mut refused = Vec::new();
    let mut acked = Vec::new();
    while acked.len() < 3 || refused.len() < 2 {
        let answer = socket.frame().await;
        match answer["acked"]["from"].as_u64() {
            Some(from) => acked.extend(from..=answer["acked"]["to"].as_u64().unwrap()),
            None => refused.push(answer["acks"][0]["id"].as_u64().unwrap()),
        }
    }
    assert_eq!((acked, refused), (vec![1, 3, 5], vec![2, 4]));
}

#[tokio::test]
async fn a_client_that_says_goodbye_still_gets_its_acknowledgements() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for round in 0..5 {
        let mut socket = Socket::producer(&broker, "t", "?acks=range").await;
        let frame: Vec<_> = (1..=500).map(|id| json!({ "id": id, "data": id })).collect();
        socket.send(json!(frame)).await;
        let goodbye = tokio_tungstenite::tungstenite::Message::Close(None);
        futures_util::SinkExt::send(&mut socket.0, goodbye).await.unwrap();
        assert_eq!(socket.frame().await, json!({ "acked": { "from": 1, "to": 500 } }));
        assert!(matches!(socket.event().await, Event::Closed(_)));
        assert_eq!(broker.json("/v1/topics/t").await["head"], (round + 1) * 500);
    }
}

#[tokio::test]
async fn there_is_a_limit_to_the_messages_of_one_batch_and_one_frame() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__BATCH_MESSAGES_MAX", "3")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    let batch = |count| json!({ "messages": vec![json!({ "data": 1 }); count] }).to_string();
    let answer = broker.publish("t", BATCH, batch(3)).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let refused = problem(broker.publish("t", BATCH, batch(4)).await, 400, "invalid-request").await;
    assert!(refused["detail"].as_str().unwrap().contains("at most 3"), "{refused}");
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send("[5,5,5,5]").await;
    let refused = socket.frame().await;
    assert!(refused["error"]["detail"].as_str().unwrap().contains("at most 3"), "{refused}");
    assert_eq!(broker.json("/v1/topics/t").await["head"], 3);
}

#[tokio::test]
async fn only_objects_are_messages() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    problem(broker.publish("t", BATCH, r#"[[{"data":1}]]"#).await, 400, "invalid-request").await;
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send("[[1,7]]").await;
    assert_eq!(socket.frame().await["error"]["code"], "invalid-request");
}

#[tokio::test]
async fn a_producer_that_wants_no_answers_gets_errors_only_and_everything_is_stored() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "?acks=none").await;
    for n in 0..50 {
        socket.send(json!({ "data": n })).await;
    }
    socket.send("{").await;
    let error = socket.frame().await;
    assert_eq!(error["frame"], 51);
    assert_eq!(error["error"]["code"], "invalid-request");
    let mut tail = Socket::tail(&broker, "t", "earliest").await;
    assert_eq!(tail.messages(50).await.len(), 50);
}

#[tokio::test]
async fn one_way_messages_of_a_client_that_leaves_at_once_are_not_lost() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "").await;
    for n in 0..1_000 {
        socket.send(json!({ "data": n })).await;
    }
    socket.0.close(None).await.unwrap();
    let mut tail = Socket::tail(&broker, "t", "earliest").await;
    let found = tail.messages(1_000).await;
    let numbers: Vec<_> = found.iter().map(|message| message["data"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn frames_that_cannot_be_taken_are_answered_with_their_place_and_close_nothing() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send("nonsense").await;
    let error = socket.frame().await;
    assert_eq!((&error["frame"], &error["index"]), (&json!(1), &Value::Null));
    socket.send(r#"[{"data":1},{"data":1,"data":2}]"#).await;
    let error = socket.frame().await;
    assert_eq!((&error["frame"], &error["index"]), (&json!(2), &json!(1)));
    let binary = tokio_tungstenite::tungstenite::Message::binary(vec![0x80]);
    futures_util::SinkExt::send(&mut socket.0, binary).await.unwrap();
    let error = socket.frame().await;
    assert_eq!((&error["frame"], &error["error"]["code"]), (&json!(3), &json!("invalid-request")));
    socket.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 1);
}

#[tokio::test]
async fn beyond_its_credit_a_socket_is_not_read_and_nothing_is_lost() {
    let directory = tempdir().unwrap();
    let environment =
        [("WEIR__LIMITS__CREDIT_MESSAGES", "4"), ("WEIR__LIMITS__CREDIT_BYTES", "2000")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    let mut socket = Socket::producer(&broker, "t", "?acks=range").await;
    for id in 1..=500 {
        socket.send(json!({ "id": id, "data": "x".repeat(100) })).await;
    }
    let mut acked = 0;
    while acked < 500 {
        let range = socket.frame().await;
        assert_eq!(range["acked"]["from"], acked + 1);
        acked = range["acked"]["to"].as_u64().unwrap();
    }
    assert_eq!(broker.read_all("t").await.len(), 500);
}

#[tokio::test]
async fn a_body_that_is_too_large_for_one_block_is_stored_in_parts_and_in_order() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let messages: Vec<_> = (0..12)
        .map(|n| json!({ "data": format!("{n}-{}", "x".repeat(1_000_000)), "message_id": n.to_string() }))
        .collect();
    let batch = json!({ "messages": messages }).to_string();
    const BATCH: &str = "application/vnd.weir.messages+json";
    for duplicate in [false, true] {
        let answer: Value = broker.publish("t", BATCH, batch.clone()).await.json().await.unwrap();
        assert_eq!(answer["accepted"], 12, "{answer}");
        for (n, result) in answer["results"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&result["offset"], &result["duplicate"]), (&json!(n), &json!(duplicate)));
        }
    }
    let mut tail = Socket::tail(&broker, "t", "0").await;
    for n in 0..12 {
        let message = tail.messages(1).await.remove(0);
        assert!(message["data"].as_str().unwrap().starts_with(&format!("{n}-x")));
    }
}
