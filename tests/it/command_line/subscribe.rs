//! `weir sub`

use serde_json::{Value, json};
use tempfile::tempdir;

use super::{failed, lines, printed, start, text, wrong_use};
use crate::support::broker::Broker;
use crate::support::eventually;

#[tokio::test]
async fn what_pub_takes_from_an_argument_or_lines_sub_prints() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let one = printed(&broker, &["pub", "t", "hello, it's me"], "");
    assert!(one.starts_with("offset 0, receipt "), "{one}");
    let lines: String = (0..3_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let many = printed(&broker, &["pub", "t"], &lines);
    assert_eq!(many, "3000 messages acknowledged, the last at offset 3000\n");
    let sub = ["sub", "t", "--from", "earliest", "--count", "3001"];
    assert_eq!(printed(&broker, &sub, ""), format!("hello, it's me\n{lines}"));
    // Three pages.
    assert_eq!(
        printed(&broker, &["sub", "t", "--until-now"], ""),
        format!("hello, it's me\n{lines}")
    );
    assert_eq!(
        printed(&broker, &["sub", "t", "--from", "2999", "--until-now"], ""),
        "{\"n\": 2998}\n{\"n\": 2999}\n"
    );
}

#[tokio::test]
async fn as_json_every_message_is_one_line_as_it_was_sent() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let payload = "{\r\n  \"n\": 1.0e0,\n  \"s\": \"a\\nb  c\"\n}";
    printed(&broker, &["pub", "t", payload, "--key", "k"], "");
    printed(&broker, &["pub", "t", "two\nlines"], "");
    for end in [&["--count", "2", "--from", "earliest"][..], &["--until-now"]] {
        let printed = printed(&broker, &[&["sub", "t", "--json"], end].concat(), "");
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines.len(), 2, "{printed}");
        assert!(lines[0].contains("\"n\": 1.0e0"), "numbers stay as they were: {printed}");
        let found: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found, broker.read_all("t").await);
    }
    let printed = printed(&broker, &["sub", "t", "--until-now"], "");
    assert_eq!(printed, format!("{payload}\ntwo\nlines\n"));
}

#[tokio::test]
async fn only_what_passes_the_filters_is_printed_and_counts() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let attributes = ["--attribute", "a=1", "--attribute", "b=2"];
    for (message, about) in [
        ("none", &[][..]),
        ("key x", &["--key", "x"]),
        ("a", &attributes[..2]),
        ("key y, a and b", &[&["--key", "y"], &attributes[..]].concat()),
        ("a and b", &attributes),
        ("key x again", &["--key", "x"]),
    ] {
        printed(&broker, &[&["pub", "t", message], about].concat(), "");
    }
    let sub = |arguments: &[&str]| {
        printed(&broker, &[&["sub", "t", "--from", "earliest"], arguments].concat(), "")
    };
    assert_eq!(sub(&["--key", "x", "--count", "2"]), "key x\nkey x again\n");
    assert_eq!(sub(&["--key", "x", "--key", "y", "--count", "2"]), "key x\nkey y, a and b\n");
    let both = &["--attribute", "a=1", "--attribute", "b=2", "--count", "2"];
    assert_eq!(sub(both), "key y, a and b\na and b\n");
    assert_eq!(sub(&["--key", "y", "--attribute", "a=1", "--until-now"]), "key y, a and b\n");
    assert_eq!(sub(&["--key", "nobody", "--until-now"]), "");
}

#[tokio::test]
async fn until_now_ends_where_nothing_is() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("empty", json!({})).await;
    assert_eq!(printed(&broker, &["sub", "empty", "--until-now"], ""), "");
    printed(&broker, &["pub", "t", "x"], "");
    for from in ["latest", "1", "2999-01-01T00:00:00Z"] {
        assert_eq!(
            printed(&broker, &["sub", "t", "--until-now", "--from", from], ""),
            "",
            "{from}"
        );
    }
    let time = ["sub", "t", "--until-now", "--from", "2001-01-01T00:00:00+02:00"];
    assert_eq!(printed(&broker, &time, ""), "x\n");
    let (code, error) = failed(&broker, &["sub", "nowhere", "--until-now"], "");
    assert!(code == 1 && error.contains("`weir topics create nowhere`"), "{error}");
}

#[tokio::test]
async fn a_gap_is_told_of_and_passed() {
    let directory = tempdir().unwrap();
    let often = [("WEIR__STORAGE__RETENTION_INTERVAL_MS", "100")];
    let broker = Broker::start_with(&directory.path().join("data"), &often);
    broker.put_topic("t", json!({ "retention_bytes": 65_536 })).await;
    for _ in 0..8 {
        broker.publish("t", "text/plain", "x".repeat(40_000)).await;
    }
    let first = async || broker.json("/v1/topics/t").await["first"].as_u64().unwrap();
    eventually("retention trims", async || first().await > 0).await;
    let (code, error) = failed(&broker, &["sub", "t", "--from", "0", "--until-now"], "");
    assert!(code == 1 && error.contains("offset-gone"), "{error}");
    assert!(error.contains("hint: begin at offset"), "{error}");
    let sub = super::weir(&broker, &["sub", "t", "--from", "0", "--count", "1"], "");
    assert!(sub.status.success());
    assert_eq!(text(&sub.stdout).trim_end(), "x".repeat(40_000));
    assert!(text(&sub.stderr).contains("gap: there are no messages from offset 0 to "));
}

#[tokio::test]
async fn it_comes_back_when_the_broker_does() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let address = broker.address.clone();
    let mut process = start(&broker.url(""), &["sub", "t", "--from", "earliest", "--count", "2"]);
    let mut printed_lines = lines(&mut process);
    printed(&broker, &["pub", "t", "one"], "");
    assert_eq!(printed_lines.next().unwrap().unwrap(), "one");
    broker.kill();
    let broker = Broker::start_at(&data, &address, &[]);
    printed(&broker, &["pub", "t", "two"], "");
    assert_eq!(printed_lines.next().unwrap().unwrap(), "two");
    assert!(process.wait().unwrap().success());
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut process = start(&broker.url(""), &["sub", "t", "--from", "earliest"]);
    printed(&broker, &["pub", "t", "one"], "");
    assert_eq!(lines(&mut process).next().unwrap().unwrap(), "one");
    printed(&broker, &["topics", "delete", "t"], "");
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("topic-not-found"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    printed(&broker, &["pub", "t"], "line\n".repeat(30_000));
    let mut process = start(&broker.url(""), &["sub", "t", "--until-now"]);
    assert_eq!(lines(&mut process).next().unwrap().unwrap(), "line");
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[tokio::test]
async fn what_the_broker_refuses_ends_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let (code, error) = failed(&broker, &["sub", "t", "--from", "7"], "");
    assert!(code == 1 && error.contains("the next message will be 0"), "{error}");
}

#[test]
fn wrong_use_is_refused_before_anything_is_connected_to() {
    wrong_use(&[
        (&["sub", "a b"], "a name holds only"),
        (&["sub", "t", "--from", "yesterday"], "RFC 3339"),
        (&["sub", "t", "--count", "few"], "--count"),
        (&["sub", "t", "--attribute", "colour"], "must be NAME=VALUE"),
        (&["sub", "t", "--attribute", "a=1", "--attribute", "a=2"], "is given twice"),
    ]);
}
