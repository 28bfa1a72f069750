//! `weir pub`

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use super::{failed, lines, printed, start, text, wrong_use};
use crate::support::broker::Broker;

#[tokio::test]
async fn lines_that_are_no_text_are_published_as_bytes() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    printed(&broker, &["pub", "t"], b"one\n\xff\xfe\nthree\r\n");
    let found = broker.read_all("t").await;
    assert_eq!((&found[0]["data"], &found[1]["data_base64"]), (&"one".into(), &"//4=".into()));
    assert_eq!(found[2]["data"], "three");
}

#[tokio::test]
async fn what_is_said_about_a_message_goes_with_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let about = [
        ["--key", "car 7"],
        ["--attribute", "source=gps=1"],
        ["--attribute", "empty="],
        ["--ttl-ms", "600000"],
        ["--message-id", "m1"],
        ["--content-type", "text/csv"],
    ];
    let arguments = [&["pub", "t", "7,42"], about.as_flattened()].concat();
    assert!(printed(&broker, &arguments, "").starts_with("offset 0, receipt "));
    let again = printed(&broker, &arguments, "");
    assert!(again.starts_with("offset 0, ") && again.ends_with(", a duplicate\n"), "{again}");

    let mut message = broker.read_all("t").await.remove(0);
    let message = message.as_object_mut().unwrap();
    message.retain(|name, _| !["receipt", "published_at"].contains(&name.as_str()));
    let expected = json!({
        "offset": 0, "content_type": "text/csv", "key": "car 7", "message_id": "m1",
        "attributes": { "source": "gps=1", "empty": "" }, "ttl_ms": 600_000, "data": "7,42",
    });
    assert_eq!(Value::from(message.clone()), expected);
    let other = [&["pub", "t", "8,43"], about.as_flattened()].concat();
    let (code, error) = failed(&broker, &other, "");
    assert!(code == 1 && error.contains("message-id-conflict"), "{error}");
}

#[tokio::test]
async fn files_and_raw_input_are_one_message_each_byte_for_byte() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let json = "{\n  \"n\": 1.0e0\n}\n";
    let files =
        [("a.json", json.as_bytes()), ("b.txt", b"b\n"), ("c.bin", b"c\xff"), ("d.json", b"{")];
    let paths = files.map(|(name, bytes)| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let [a, b, c, d] = &paths;
    let said = printed(&broker, &["pub", "t", "--file", a, "--file", b, "--file", c], "");
    assert_eq!(said, "3 messages acknowledged, the last at offset 2\n");
    printed(&broker, &["pub", "t", "--raw"], json);
    let typed = printed(&broker, &["pub", "t", "--file", d, "--content-type", "text/x-brace"], "");
    assert!(typed.starts_with("offset 4, "), "{typed}");
    let (code, error) = failed(&broker, &["pub", "t", "--file", d], "");
    assert!(code == 1 && error.contains("0 of 1 messages acknowledged, 1 refused"), "{error}");
    assert!(error.contains("is declared JSON but isn't"), "{error}");

    let raw = broker.get("/v1/topics/t/messages").await.text().await.unwrap();
    assert_eq!(raw.matches(&format!("\"data\":{json}")).count(), 2, "{raw}");
    let found = broker.read_all("t").await;
    assert_eq!((&found[1]["data"], &found[2]["data_base64"]), (&json!("b\n"), &json!("Y/8=")));
    assert_eq!(found[1]["content_type"], "text/plain; charset=utf-8");
    assert_eq!(found[2]["content_type"], "application/octet-stream");
    assert_eq!(found[3]["content_type"], "application/json");
    assert_eq!(
        (&found[4]["content_type"], &found[4]["data"]),
        (&json!("text/x-brace"), &json!("{"))
    );
}

#[tokio::test]
async fn a_named_producer_goes_on_where_it_was() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let arguments = ["pub", "t", "--producer", "gate-1"];
    let first = printed(&broker, &arguments, "a\nb\n");
    assert_eq!(first, "2 messages acknowledged, the last at offset 1, gate-1's ids 1 to 2\n");
    let acks = printed(&broker, &[&arguments[..], &["--json"]].concat(), "c\nd\n");
    let acks: Vec<Value> = acks.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(acks.len(), 2);
    for (n, ack) in acks.iter().enumerate() {
        assert_eq!((&ack["id"], &ack["offset"]), (&json!(3 + n), &json!(2 + n)));
        assert!(ack["receipt"].is_string() && ack["duplicate"] == false, "{ack}");
    }
    assert_eq!(broker.read_all("t").await.len(), 4);
}

#[tokio::test]
async fn messages_are_spaced_by_the_rate() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let start = Instant::now();
    printed(&broker, &["pub", "t", "--rate", "100"], "x\n".repeat(21));
    // The last of them is due after 200 ms.
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(broker.read_all("t").await.len(), 21);
}

#[tokio::test]
async fn after_a_refusal_the_account_is_what_the_broker_has() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("small", json!({ "message_bytes_max": 3 })).await;
    let input = format!("1\n2\nlong\n{}", "4\n".repeat(5_000));
    let (code, error) = failed(&broker, &["pub", "small"], input);
    let stored = broker.read_all("small").await.len();
    assert!(code == 1 && stored >= 2, "{error}");
    let account = format!("weir: {stored} of {} messages acknowledged, 1 refused: ", stored + 1);
    assert!(error.starts_with(&account), "{error}");
    assert!(error.contains("message 3: message-too-large: "), "{error}");
    assert!(error.contains("hint: `weir topics change small --message-bytes-max"), "{error}");
}

#[tokio::test]
async fn a_broker_that_dies_ends_it_with_an_account_though_input_may_come() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut process = start(&broker.url(""), &["pub", "t", "--json"]);
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"1\n2\n").unwrap();
    let acks: Vec<_> = lines(&mut process).take(2).map(Result::unwrap).collect();
    assert!(acks[1].contains("\"offset\":1"), "{acks:?}");
    broker.kill();
    let output = process.wait_with_output().unwrap();
    drop(input);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("2 of 2 messages acknowledged: the connection broke"), "{error}");
}

#[tokio::test]
async fn a_broker_that_stops_says_so() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut process = start(&broker.url(""), &["pub", "t", "--json"]);
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"1\n").unwrap();
    lines(&mut process).next().unwrap().unwrap();
    broker.terminate();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("1 of 1 messages acknowledged: the broker closed"), "{error}");
    assert!(error.contains("1001 draining"), "{error}");
}

#[tokio::test]
async fn nothing_is_nothing() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    assert_eq!(printed(&broker, &["pub", "t"], ""), "nothing to publish\n");
}

#[test]
fn wrong_use_is_refused_before_anything_is_connected_to() {
    wrong_use(&[
        (&["pub", "a b", "x"], "a name holds only"),
        (&["pub", "t", "x", "--attribute", "colour"], "must be NAME=VALUE"),
        (&["pub", "t", "x", "--attribute", "=red"], "must be NAME=VALUE"),
        (&["pub", "t", "x", "--attribute", "a=1", "--attribute", "a=2"], "is given twice"),
        (&["pub", "t", "--message-id", "m"], "goes with one message"),
        (&["pub", "t", "--file", "/nonexistent"], "/nonexistent"),
        (&["pub", "t", "x", "--file", "y"], "cannot be used with"),
        (&["pub", "t", "x", "--raw"], "cannot be used with"),
        (&["pub", "t", "--rate", "0"], "messages a second"),
        (&["pub", "t", "x", "--ttl-ms", "soon"], "--ttl-ms"),
        (&["pub", "t", "x", "--producer", "a b"], "a name holds only"),
    ]);
}
