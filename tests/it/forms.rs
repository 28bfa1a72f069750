//! Every form in which messages come in, and every form in which they go out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::socket::Socket;
use crate::support::{eventually, msgpack};

const BATCH_JSON: &str = "application/vnd.weir.messages+json";
const BATCH_MSGPACK: &str = "application/vnd.weir.messages+msgpack";

fn to_msgpack(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

async fn accepted(answer: reqwest::Response) -> Value {
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_body_of_lines_is_one_json_message_a_line() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let request = broker.http.post(broker.url("/v1/topics/t/messages"));
    let request = request
        .header("content-type", "application/x-ndjson; charset=utf-8")
        .header("weir-key", "k")
        .header("weir-attr-room", "9");
    let lines = "{\"a\": 1.0}\r\n\n not json\n[2]";
    let answer = accepted(request.body(lines).send().await.unwrap()).await;
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(answer["results"][1]["error"]["code"], "invalid-request");
    assert_eq!(answer["results"][2]["offset"], 1);
    let stored = broker.read_all("t").await;
    assert_eq!((&stored[0]["data"], &stored[1]["data"]), (&json!({"a": 1.0}), &json!([2])));
    for message in &stored {
        assert_eq!(message["content_type"], "application/json");
        assert_eq!((&message["key"], &message["attributes"]["room"]), (&json!("k"), &json!("9")));
    }
    let raw = broker.get("/v1/topics/t/messages/0").await;
    assert_eq!(raw.bytes().await.unwrap(), "{\"a\": 1.0}", "to the letter");
    problem(broker.publish("t", "application/x-ndjson", " \n").await, 400, "invalid-request").await;
}

#[tokio::test]
async fn a_batch_in_messagepack_is_answered_like_one_in_json() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let messages = json!({ "messages": [
        { "data": { "a": 1 }, "key": "k", "attributes": { "x": "y" }, "ttl_ms": 60_000 },
        { "data": "text", "content_type": "text/plain" },
        { "data": 1, "colour": "red" },
        { "data_base64": "AAH/", "message_id": "m" },
    ] });
    let json = accepted(broker.publish("j", BATCH_JSON, messages.to_string()).await).await;
    let packed = accepted(broker.publish("m", BATCH_MSGPACK, to_msgpack(&messages)).await).await;
    for answer in [&json, &packed] {
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(1)), "{answer}");
        let problem = &answer["results"][2]["error"];
        assert_eq!(problem["code"], "invalid-request");
        assert!(problem["detail"].as_str().unwrap().contains("colour"));
        let offsets = [0, 1, 3].map(|n| answer["results"][n]["offset"].clone());
        assert_eq!(offsets, [json!(0), json!(1), json!(2)]);
    }
    let plain = |mut message: Value| {
        for own in ["receipt", "published_at"] {
            assert!(message.as_object_mut().unwrap().remove(own).is_some());
        }
        message
    };
    let (json, packed) = (broker.read_all("j").await, broker.read_all("m").await);
    let (json, packed): (Vec<_>, Vec<_>) =
        (json.into_iter().map(plain).collect(), packed.into_iter().map(plain).collect());
    assert_eq!(json, packed);
}

#[tokio::test]
async fn a_list_takes_no_message_id_from_a_header() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (content_type, body) in
        [("application/x-ndjson", "1\n2"), (BATCH_JSON, r#"{"messages":[{"data":1}]}"#)]
    {
        let request = broker.http.post(broker.url("/v1/topics/t/messages"));
        let request = request.header("content-type", content_type).header("idempotency-key", "a");
        let refused = problem(request.body(body).send().await.unwrap(), 400, "invalid-request");
        assert!(refused.await["detail"].as_str().unwrap().contains("idempotency-key"));
    }
}

#[tokio::test]
async fn a_temporary_error_is_the_answer_to_all_of_a_batch_that_could_have_been_taken() {
    let directory = tempdir().unwrap();
    // No restart: the first death quarantines.
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "0")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let batch = json!({ "messages": [{ "data": 1 }, { "colour": 1 }, { "data": 2 }] }).to_string();
    let answer = broker.publish("t", BATCH_JSON, batch.clone()).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let answer: Value = answer.json().await.unwrap();
    let codes: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["error"]["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["quarantined", "invalid-request", "quarantined"]);
    let recover = broker.http.post(broker.url("/v1/topics/t/recover")).send().await.unwrap();
    assert_eq!(recover.status(), StatusCode::OK);
    eventually("it runs", async || broker.json("/v1/topics/t").await["state"] == "running").await;
    let again = accepted(broker.publish("t", BATCH_JSON, batch).await).await;
    assert_eq!((&again["accepted"], &again["results"][0]["offset"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_socket_that_speaks_messagepack_is_answered_in_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send_binary(to_msgpack(&json!({ "id": 1, "data": { "a": [1, null] } }))).await;
    let ack = socket.frame().await["acks"][0].clone();
    assert_eq!(
        (&ack["id"], &ack["offset"], &ack["duplicate"]),
        (&json!(1), &json!(0), &json!(false))
    );
    assert_eq!(ack["receipt"].as_str().unwrap().len(), 36);
    let batch = json!([{ "id": "a", "data": 1 }, { "id": -2, "nonsense": 1 }, { "data": 3 }]);
    socket.send_binary(to_msgpack(&batch)).await;
    let refused = socket.frame().await["acks"][0].clone();
    assert_eq!((&refused["id"], &refused["error"]["status"]), (&json!(-2), &json!(400)));
    let ack = socket.frame().await["acks"][0].clone();
    assert_eq!((&ack["id"], &ack["offset"]), (&json!("a"), &json!(1)));
    socket.send_binary([0xc1]).await;
    let error = socket.frame().await;
    assert_eq!((&error["frame"], &error["index"]), (&json!(3), &Value::Null));
    socket.send_binary(to_msgpack(&json!([7]))).await;
    let error = socket.frame().await;
    assert_eq!((&error["frame"], &error["index"]), (&json!(4), &json!(0)));
    // Both on one socket; each is answered as it was asked.
    socket.send(r#"{"id":9,"data":4}"#).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 3);
    assert_eq!(broker.read_all("t").await[0]["data"], json!({ "a": [1, null] }));
}

#[tokio::test]
async fn a_frame_full_of_errors_is_answered_up_to_a_point_and_ends_the_socket() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "").await;
    let good = json!({ "id": 1, "data": 1 });
    let mut bad = vec![json!(1); 256];
    bad.push(good.clone());
    let mut fine = vec![json!(1); 255];
    fine.push(good);
    socket.send(json!(fine)).await;
    for n in 0..255 {
        assert_eq!(socket.frame().await["index"], n);
    }
    assert_eq!(socket.frame().await["acks"][0]["offset"], 0, "at the limit all is taken");
    socket.send(json!(bad)).await;
    for n in 0..=256 {
        assert_eq!(socket.frame().await["index"], n);
    }
    assert_eq!(socket.close_code().await, Some(1008));
    assert_eq!(broker.read_all("t").await.len(), 1);
}

#[tokio::test]
async fn headers_that_are_meant_for_every_line_count_for_every_line() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let request = broker.http.post(broker.url("/v1/topics/t/messages"));
    let request = request
        .header("content-type", "application/x-ndjson")
        .header("weir-attr-a", "x".repeat(16_000));
    let answer: Value =
        request.body("1\n".repeat(10_000)).send().await.unwrap().json().await.unwrap();
    let accepted = answer["accepted"].as_u64().unwrap();
    // The block is full at 16 MiB, as a body is.
    assert!((1_000..1_100).contains(&accepted), "{accepted}");
    assert_eq!(answer["results"][9_999]["error"]["code"], "body-too-large");
    let lines = read(&broker, "/v1/topics/t/messages?max=10000", "application/x-ndjson").await;
    let bytes = lines.bytes().await.unwrap().len();
    assert!(bytes < 1_200_000, "a page holds what a page holds, not {bytes} bytes");
    let grown = broker.resident_bytes();
    assert!(grown < 200 << 20, "{grown}");
}

#[tokio::test]
async fn on_a_raw_socket_each_frame_is_a_payload_and_they_are_counted() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "message_bytes_max": 10 })).await;
    let raw = "weir.raw.v1";
    let mut socket = Socket::producer_of(&broker, "/v1/topics/t/producer", raw).await;
    for payload in [&b"\0\xff"[..], b"", b"more than ten bytes", b"{not json"] {
        socket.send_binary(payload).await;
    }
    socket.send("text").await;
    let mut acked = Vec::new();
    let mut refused = Vec::new();
    while acked.len() < 4 {
        let frame = socket.frame().await;
        if let Some(run) = frame.get("acked") {
            let end = |name| run[name].as_u64().unwrap();
            acked.extend(end("from")..=end("to"));
        } else {
            refused.push(frame["acks"][0].clone());
        }
    }
    assert_eq!(acked, [1, 2, 4, 5]);
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (&refused[0]["id"], &refused[0]["error"]["code"]),
        (&json!(3), &json!("message-too-large"))
    );
    let stored = broker.read_all("t").await;
    let payloads: Vec<_> = stored.iter().map(|m| m["data_base64"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["AP8=", "", "e25vdCBqc29u", "dGV4dA=="]);
    let mut each = Socket::producer_of(&broker, "/v1/topics/t/producer?acks=each", raw).await;
    each.send_binary(*b"x").await;
    let ack = each.frame().await["acks"][0].clone();
    assert_eq!((&ack["id"], &ack["offset"]), (&json!(1), &json!(4)));
}

#[tokio::test]
async fn a_named_producer_goes_on_counting_on_a_raw_socket() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let path = "/v1/topics/t/producer?producer=car";
    let mut socket = Socket::producer_of(&broker, path, "weir.raw.v1").await;
    for payload in ["a", "b"] {
        socket.send_binary(payload).await;
    }
    let mut acked = 0;
    while acked < 2 {
        acked = socket.frame().await["acked"]["to"].as_u64().unwrap();
    }
    drop(socket);
    let mut socket = Socket::producer_of(&broker, path, "weir.raw.v1").await;
    socket.send_binary("c").await;
    assert_eq!(socket.frame().await, json!({ "acked": { "from": 3, "to": 3 } }));
    assert_eq!(broker.read_all("t").await.len(), 3);
}

/// Payloads with their content types: where JSON and MessagePack show them as what.
fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("application/json", b"{\"a\" : 1.0e0,\n \"a\":2}".to_vec()),
        ("application/json", b"null".to_vec()),
        ("application/json; charset=utf-8", b"12345678901234567890123".to_vec()),
        ("application/ld+json", b"\"\\u00e9 \xc3\xa9\"".to_vec()),
        ("text/plain", "line\r\n\"é\" \u{0} \u{2028}".as_bytes().to_vec()),
        ("text/plain", b"\xff\xfe not UTF-8".to_vec()),
        ("text/csv", b"".to_vec()),
        ("image/png", (0..=255).collect()),
        ("application/octet-stream", b"".to_vec()),
        ("application/x-www-form-urlencoded", b"a=b".to_vec()),
    ]
}

/// The payload that a received message stands for.
fn payload_of(message: &Value) -> Vec<u8> {
    let content_type = message["content_type"].as_str().unwrap();
    match (&message["data_base64"], &message["data"]) {
        (Value::String(encoded), _) => STANDARD.decode(encoded).unwrap(),
        (_, Value::String(text)) if content_type.starts_with("text/") => text.clone().into_bytes(),
        (_, Value::Object(map)) if map.contains_key("bin") => {
            serde_json::from_value(map["bin"].clone()).unwrap()
        }
        (_, value) => panic!("{content_type}: {value}"),
    }
}

#[tokio::test]
async fn payloads_are_kept_byte_for_byte_whichever_way_they_come_and_go() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    #[derive(Serialize)]
    struct Message<'a> {
        data: &'a serde_bytes::Bytes,
        content_type: &'a str,
    }
    let mut socket = Socket::producer(&broker, "t", "").await;
    let mut sent = Vec::new();
    for (content_type, payload) in payloads() {
        // As a raw body, as base64 in JSON, as bin in MessagePack, and the last over a socket.
        let answer = broker.publish("t", content_type, payload.clone()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{content_type}");
        let encoded = STANDARD.encode(&payload);
        let batch =
            json!({ "messages": [{ "data_base64": encoded, "content_type": content_type }] });
        assert_eq!(
            accepted(broker.publish("t", BATCH_JSON, batch.to_string()).await).await["accepted"],
            1
        );
        let message = Message { data: serde_bytes::Bytes::new(&payload), content_type };
        #[derive(Serialize)]
        struct Batch<'a> {
            messages: [&'a Message<'a>; 1],
        }
        let batch = to_msgpack(&Batch { messages: [&message] });
        assert_eq!(accepted(broker.publish("t", BATCH_MSGPACK, batch).await).await["accepted"], 1);
        #[derive(Serialize)]
        struct Marked<'a> {
            id: u64,
            data: &'a serde_bytes::Bytes,
            content_type: &'a str,
        }
        let data = serde_bytes::Bytes::new(&payload);
        socket.send_binary(to_msgpack(&Marked { id: 1, data, content_type })).await;
        assert_eq!(socket.frame().await["acks"][0]["offset"], sent.len() + 3);
        sent.extend(std::iter::repeat_n((content_type, payload), 4));
    }
    let json = broker.read_all("t").await;
    let page = read(&broker, "/v1/topics/t/messages?max=10000", "application/msgpack").await;
    let page = msgpack(&page.bytes().await.unwrap());
    let packed = page["messages"].as_array().unwrap();
    let lines = read(&broker, "/v1/topics/t/messages?max=10000", "application/x-ndjson").await;
    assert_eq!(lines.headers()["weir-next"], sent.len().to_string());
    let lines = lines.text().await.unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.len(), packed.len(), lines.len()), (sent.len(), sent.len(), sent.len()));
    for (n, (content_type, payload)) in sent.iter().enumerate() {
        let raw = broker.get(&format!("/v1/topics/t/messages/{n}")).await;
        assert_eq!(raw.headers()["content-type"], *content_type);
        assert_eq!(raw.bytes().await.unwrap(), payload, "{content_type}");
        for shown in [&json[n], &lines[n], &packed[n]] {
            assert_eq!(shown["content_type"], *content_type);
            assert_eq!(shown["offset"], n);
        }
        if content_type.contains("json") {
            // Wherever the value can be had as a value it is that value.
            let value: Value = serde_json::from_slice(payload).unwrap_or(Value::Null);
            assert_eq!((&json[n]["data"], &lines[n]["data"]), (&value, &value));
            match value.is_f64() {
                // No integer of 64 bits, so MessagePack has only the text.
                true => assert_eq!(payload_of(&packed[n]), *payload),
                false => assert_eq!(packed[n]["data"], value),
            }
        } else {
            for shown in [&json[n], &lines[n], &packed[n]] {
                assert_eq!(payload_of(shown), *payload, "{content_type}");
            }
        }
    }
}

async fn read(broker: &Broker, path: &str, accept: &str) -> reqwest::Response {
    let answer = broker.http.get(broker.url(path)).header("accept", accept).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], accept);
    answer
}

#[tokio::test]
async fn the_forms_of_a_poll_say_the_same_about_where_it_stands() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for n in 0..5 {
        broker.publish("t", "application/json", n.to_string()).await;
    }
    let path = "/v1/topics/t/messages?from=1&max=2";
    let json = broker.json(path).await;
    let packed = msgpack(&read(&broker, path, "application/msgpack").await.bytes().await.unwrap());
    assert_eq!(json, packed);
    assert_eq!((&json["first"], &json["head"], &json["next"]), (&json!(0), &json!(5), &json!(3)));
    let lines = read(&broker, path, "application/x-ndjson").await;
    let position = |name: &str| lines.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        [position("weir-first"), position("weir-head"), position("weir-next")],
        ["0", "5", "3"]
    );
    let first: Value =
        serde_json::from_str(lines.text().await.unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(first, json["messages"][0]);
    let liked = "application/json;q=0.5, application/msgpack";
    let answer = broker.http.get(broker.url(path)).header("accept", liked).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/msgpack");
}

#[tokio::test]
async fn one_message_is_given_as_it_was_sent_with_the_rest_in_headers() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = broker.http.post(broker.url("/v1/topics/t/messages"));
    let request = request
        .header("content-type", "image/png")
        .header("weir-key", "kéy")
        .header("idempotency-key", "id-1")
        .header("weir-attr-room", "9")
        .header("weir-ttl-ms", "60000")
        .header("traceparent", trace);
    let receipt =
        accepted(request.body(vec![0, 255]).send().await.unwrap()).await["receipt"].clone();
    let message = broker.get("/v1/topics/t/messages/0").await;
    assert_eq!(message.status(), StatusCode::OK);
    let header =
        |name: &str| String::from_utf8(message.headers()[name].as_bytes().to_vec()).unwrap();
    assert_eq!(header("content-type"), "image/png");
    assert_eq!(header("weir-key"), "k%C3%A9y");
    assert_eq!(header("weir-message-id"), "id-1");
    assert_eq!(header("weir-attr-room"), "9");
    assert_eq!(header("weir-attr-traceparent"), trace);
    assert_eq!(header("weir-ttl-ms"), "60000");
    assert_eq!(header("weir-offset"), "0");
    assert_eq!(header("weir-receipt"), receipt.as_str().unwrap());
    assert!(header("weir-published-at").ends_with('Z'));
    assert_eq!(message.bytes().await.unwrap(), vec![0, 255]);
    problem(broker.get("/v1/topics/t/messages/1").await, 404, "not-found").await;
    problem(broker.get("/v1/topics/t/messages/x").await, 400, "invalid-request").await;
    problem(broker.get("/v1/topics/none/messages/0").await, 404, "topic-not-found").await;
    let head = broker.http.head(broker.url("/v1/topics/t/messages/0")).send().await.unwrap();
    assert_eq!(
        (head.status(), head.headers()["weir-offset"].as_bytes()),
        (StatusCode::OK, &b"0"[..])
    );
    assert_eq!(head.bytes().await.unwrap(), "");
}
