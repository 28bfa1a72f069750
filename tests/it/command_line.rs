//! The program as people start it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::tempdir;

use crate::support::broker::Broker;

fn weir(broker: &Broker, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env("WEIR_SERVER", broker.url(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = process.stdin.take().unwrap().write_all(input.as_ref());
    process.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn what_pub_takes_from_an_argument_or_lines_sub_prints() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let one = weir(&broker, &["pub", "t", "hello, it's me"], "");
    assert!(one.status.success(), "{}", text(&one.stderr));
    assert!(text(&one.stdout).starts_with("offset 0, receipt "), "{}", text(&one.stdout));
    let lines: String = (0..3_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let many = weir(&broker, &["pub", "t"], &lines);
    assert_eq!(text(&many.stdout), "3000 messages acknowledged, the last at offset 3000\n");
    let sub = weir(&broker, &["sub", "t", "--from", "earliest", "--count", "3001"], "");
    assert_eq!(text(&sub.stdout), format!("hello, it's me\n{lines}"));
}

#[tokio::test]
async fn lines_that_are_no_text_are_published_as_bytes() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let lines = weir(&broker, &["pub", "t"], b"one\n\xff\xfe\nthree\r\n");
    assert!(lines.status.success(), "{}", text(&lines.stderr));
    let found = broker.read_all("t").await;
    assert_eq!((&found[0]["data"], &found[1]["data_base64"]), (&"one".into(), &"//4=".into()));
    assert_eq!(found[2]["data"], "three");
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_shows_in_the_exit_code() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("small", serde_json::json!({ "message_bytes_max": 2 })).await;
    for (arguments, code, said) in [
        (&["pub", "a b", "x"][..], 2, "TOPIC: a name holds only"),
        (&["pub", "small", "123"], 1, "message-too-large"),
        (&["pub", "t", "x", "--server", "http://127.0.0.1:1"], 1, "is `weir serve` running?"),
        (&["pub", "t", "x", "--server", "gopher:"], 2, "must be http://"),
        (&["sub", "t", "--from", "yesterday"], 2, "RFC 3339"),
        (&["sub", "t", "--from", "7"], 1, "the next message will be 0"),
        (&["nonsense"], 2, "unrecognized subcommand"),
        (&["serve", "--listen", "0.0.0.0:0", "--data", "/nonexistent"], 2, "--insecure"),
        (&["serve", "--config", "/nonexistent.toml"], 2, "/nonexistent.toml"),
    ] {
        let output = weir(&broker, arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_mistake_in_broker_toml_ends_with_its_place() {
    let directory = tempdir().unwrap();
    let config = directory.path().join("broker.toml");
    std::fs::write(&config, "[limits]\ntopics_max = 3\ncolour = 1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("broker.toml:3: colour: unknown field"));
}
