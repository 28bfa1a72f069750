//! JSON and MessagePack say exactly what was sent: what common readers can't take is refused on
//! every way in, and what MessagePack has no number for goes out as the text it came as.

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

#[derive(Serialize)]
struct Packed<'a> {
    data: &'a serde_bytes::Bytes,
    content_type: &'a str,
}

#[derive(Serialize)]
struct Batch<T> {
    messages: Vec<T>,
}

fn to_msgpack(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn nested(depth: usize) -> String {
    format!("{}0{}", "[".repeat(depth), "]".repeat(depth))
}

/// Declared JSON that is none, or that common readers refuse.
fn poison() -> Vec<Vec<u8>> {
    let mut poison: Vec<Vec<u8>> = [
        r#""\ud800""#,
        r#"{"\udfff":1}"#,
        r#"["a",{"b":"x\ud83dx\ude00"}]"#,
        r#""\ude00\ud83d""#,
        "{",
        "",
        "01",
        "'a'",
        "[1,]",
        "NaN",
        "1 2",
        "\u{feff}\u{feff}1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    poison.push(nested(101).into_bytes());
    poison.push(nested(2_000).into_bytes());
    poison.push(format!("{}1{}", r#"{"a":["#.repeat(51), "]}".repeat(51)).into_bytes());
    poison.push(b"\"\xff\"".to_vec());
    poison.push("\"\u{e9}\"".encode_utf16().flat_map(u16::to_be_bytes).collect());
    poison
}

/// The error of a batch's only message.
async fn refused(broker: &Broker, content_type: &str, body: Vec<u8>) -> Value {
    let answer = broker.publish("t", content_type, body).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer: Value = answer.json().await.unwrap();
    answer["results"][0]["error"].clone()
}

#[tokio::test]
async fn json_that_common_readers_refuse_is_refused_on_every_way_in() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::producer(&broker, "t", "").await;
    let (mut dropped, types) =
        (0, ["application/json", "Application/JSON; charset=x", "a/b+json", "A/B+JSON;v=1"]);
    for (n, body) in poison().into_iter().enumerate() {
        let shown = String::from_utf8_lossy(&body).chars().take(40).collect::<String>();
        let content_type = types[n % types.len()];
        let answer = broker.publish("t", content_type, body.clone()).await;
        let refusal = problem(answer, 400, "invalid-request").await;
        assert!(refusal["detail"].as_str().unwrap().starts_with("`data`"), "{shown}: {refusal}");
        let encoded =
            json!({ "data_base64": STANDARD.encode(&body), "content_type": content_type });
        let batch = json!({ "messages": [encoded] }).to_string().into_bytes();
        assert_eq!(refused(&broker, BATCH_JSON, batch).await["code"], "invalid-request", "{shown}");
        let packed = Packed { data: serde_bytes::Bytes::new(&body), content_type };
        let batch = to_msgpack(&Batch { messages: vec![&packed] });
        let error = refused(&broker, BATCH_MSGPACK, batch).await;
        assert_eq!(error["code"], "invalid-request", "{shown}");
        socket.send(&encoded).await;
        assert_eq!(socket.frame().await["error"]["code"], "invalid-request", "{shown}");
        socket.send_binary(to_msgpack(&packed)).await;
        assert_eq!(socket.frame().await["error"]["code"], "invalid-request", "{shown}");
        let one_way = broker.http.post(broker.url("/v1/topics/t/oneway"));
        let one_way = one_way.header("content-type", content_type).body(body);
        problem(one_way.send().await.unwrap(), 400, "invalid-request").await;
        dropped += 3;
    }
    let reason = r#"weir_one_way_drops_total{reason="invalid-request"}"#;
    assert_eq!(broker.counted(reason).await, dropped);
    assert_eq!(broker.json("/v1/topics/t").await["head"], 0, "nothing of it is stored");
}

#[tokio::test]
async fn json_within_json_and_lines_is_looked_at_message_by_message() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let deep = nested(101);
    let lines =
        ["1", &deep, r#""\ud800""#, &nested(100), r#"{"\ud83d\ude00":"\\ud800"}"#].join("\n");
    let answer = broker.publish("t", "application/x-ndjson", lines).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(2)), "{answer}");
    for n in [1, 2] {
        assert_eq!(answer["results"][n]["error"]["code"], "invalid-request", "{answer}");
    }
    let batch = format!(r#"{{"messages":[{{"data":{deep}}},{{"data":"\udc00"}},{{"data":2}}]}}"#);
    let answer: Value = broker.publish("t", BATCH_JSON, batch).await.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(2)), "{answer}");
    // MessagePack that would be as deep in JSON.
    let value = |depth| [vec![0x91; depth], vec![0xc0]].concat();
    let message = |depth| [vec![0x81, 0xa4], b"data".to_vec(), value(depth)].concat();
    let mut socket = Socket::producer(&broker, "t", "").await;
    for (frame, taken) in [(message(101), false), (message(100), true)] {
        socket.send_binary([vec![0x91], frame].concat()).await;
        if !taken {
            assert_eq!(socket.frame().await["error"]["code"], "invalid-request");
        }
    }
    socket.send(format!(r#"{{"id":1,"data":{deep}}}"#)).await;
    assert_eq!(socket.frame().await["acks"][0]["error"]["code"], "invalid-request");
    socket.send(r#"[{"id":2,"data":{"a":"\ud800"}},{"id":3,"data":4}]"#).await;
    assert_eq!(socket.frame().await["acks"][0]["error"]["code"], "invalid-request");
    assert_eq!(socket.frame().await["acks"][0]["id"], 3);
    eventually("the good ones are there", async || broker.json("/v1/topics/t").await["head"] == 6)
        .await;
    // Where it is not declared JSON it is bytes like any others.
    let answer = broker.publish("t", "application/octet-stream", deep).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_dropped_and_kept_elsewhere() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mark = "\u{feff}";
    let marked = format!("{mark}[1]");
    for (content_type, body) in [
        ("application/json", marked.clone()),
        ("application/x-ndjson", marked.clone()),
        (BATCH_JSON, format!(r#"{mark}{{"messages":[{{"data":[1]}}]}}"#)),
        (
            BATCH_JSON,
            json!({ "messages": [
                { "data_base64": STANDARD.encode(&marked), "content_type": "a/b+json" }
            ] })
            .to_string(),
        ),
    ] {
        let answer = broker.publish("t", content_type, body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{content_type}");
    }
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send(format!(r#"{mark}[{{"id":1,"data":[1]}},7]"#)).await;
    assert_eq!(socket.frame().await["index"], 1, "an array, whatever stands before it");
    assert_eq!(socket.frame().await["acks"][0]["offset"], 4);
    for offset in 0..5 {
        let raw = broker.get(&format!("/v1/topics/t/messages/{offset}")).await;
        assert_eq!(raw.bytes().await.unwrap(), "[1]", "{offset}");
    }
    assert_eq!(broker.publish("t", "text/plain", marked.clone()).await.status(), 202);
    let raw = broker.get("/v1/topics/t/messages/5").await;
    assert_eq!(raw.bytes().await.unwrap(), marked);
}

/// JSON, and whether MessagePack has exactly that value.
const VALUES: [(&str, bool); 20] = [
    ("0", true),
    ("-0", true),
    ("-0.0", true),
    ("9223372036854775807", true),
    ("18446744073709551615", true),
    ("-9223372036854775808", true),
    ("18446744073709551616", false),
    ("18446744073709551617", false),
    ("-9223372036854775809", false),
    ("1.0", true),
    ("1e2", true),
    ("0.10", true),
    ("0.1", true),
    ("0.1000000000000000055511151231257827", false),
    ("9007199254740993.0", false),
    ("1e400", false),
    ("1e-400", false),
    (r#"{"a":[{"wei":18446744073709551617}],"b":"1"}"#, false),
    (r#"{"1e400":"1e400","é":[true,null,1.5]}"#, true),
    (r#"{"a":1,"a":2}"#, true),
];

#[tokio::test]
async fn messagepack_pages_hold_the_value_or_the_text_that_spells_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (json, _) in VALUES {
        assert_eq!(broker.publish("t", "application/json", json).await.status(), 202, "{json}");
    }
    let deepest = nested(100);
    assert_eq!(broker.publish("t", "application/json", deepest.clone()).await.status(), 202);
    let request = broker.http.get(broker.url("/v1/topics/t/messages"));
    let page = request.header("accept", "application/msgpack").send().await.unwrap();
    let page = msgpack(&page.bytes().await.unwrap());
    for (n, (json, exact)) in VALUES.into_iter().enumerate() {
        let data = &page["messages"][n]["data"];
        if exact {
            let value: Value = serde_json::from_str(json).unwrap();
            assert_eq!(*data, value, "{json}");
            // The sign of a zero is lost on no way.
            let negative = |value: &Value| value.as_f64().map(f64::is_sign_negative);
            assert_eq!(negative(data), negative(&value), "{json}");
        } else {
            assert_eq!(*data, json!({ "bin": json.as_bytes() }), "{json}");
        }
    }
    let value: Value = serde_json::from_str(&deepest).unwrap();
    assert_eq!(page["messages"][VALUES.len()]["data"], value);
    // JSON has them all to the letter.
    let text = broker.get("/v1/topics/t/messages").await.text().await.unwrap();
    for (json, _) in VALUES {
        assert!(text.contains(&format!(r#""data":{json}}}"#)), "{json}");
    }
}

#[tokio::test]
async fn what_came_as_messagepack_goes_out_as_the_same_messagepack() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let values = [
        json!(u64::MAX),
        json!(i64::MIN),
        json!(-0.0),
        json!(0.1f64 + 0.2),
        json!(f64::MAX),
        json!(5e-324),
        json!({ "a": [1.5, -1, "\u{1f600}\u{0}"], "": null }),
    ];
    let messages = values.iter().map(|value| json!({ "data": value })).collect();
    let batch = to_msgpack(&Batch::<Value> { messages });
    assert_eq!(broker.publish("t", BATCH_MSGPACK, batch).await.status(), 202);
    let request = broker.http.get(broker.url("/v1/topics/t/messages"));
    let page = request.header("accept", "application/msgpack").send().await.unwrap();
    let page = page.bytes().await.unwrap();
    for (n, value) in values.iter().enumerate() {
        assert_eq!(msgpack(&page)["messages"][n]["data"], *value);
        let bytes = to_msgpack(value);
        assert!(page.windows(bytes.len()).any(|found| found == bytes), "{value}: bit by bit");
    }
}

#[tokio::test]
async fn attributes_have_names_that_every_form_can_hold() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let long = "x".repeat(129);
    for name in ["", "a b", "é", "a/b", "weir-reason", "Weir-Topic", &long] {
        let messages = json!({ "messages": [{ "data": 1, "attributes": { name: "v" } }] });
        for (content_type, body) in [
            (BATCH_JSON, messages.to_string().into_bytes()),
            (BATCH_MSGPACK, to_msgpack(&messages)),
        ] {
            let error = refused(&broker, content_type, body).await;
            let detail = error["detail"].as_str().unwrap();
            let field = format!("`attributes.{}`", name.to_lowercase());
            assert!(detail.to_lowercase().contains(&field), "{content_type}: {detail}");
        }
    }
    let twice = r#"{"messages":[{"data":1,"attributes":{"a":"1","A":"2"}}]}"#;
    assert_eq!(refused(&broker, BATCH_JSON, twice.into()).await["code"], "invalid-request");
    let message = json!({ "messages": [{ "data": 1, "attributes": { "Room.No_1-a": "9" } }] });
    assert_eq!(broker.publish("t", BATCH_JSON, message.to_string()).await.status(), 202);
    assert_eq!(broker.read_all("t").await[0]["attributes"], json!({ "room.no_1-a": "9" }));
}
