//! The program as people start it.

mod bench;
mod fenced;
mod pipelines;
mod publish;
mod start_up;
mod subscribe;
mod topics;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::tempdir;

use crate::support::broker::Broker;

/// Nobody listens there, so that whatever connects ends with exit code 1.
const NOBODY: &str = "http://127.0.0.1:1";

/// Starts it; the caller has its standard input and output.
fn start(server: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env("WEIR_SERVER", server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn lines(process: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(process.stdout.take().unwrap()).lines()
}

/// Runs it to its end.
fn run(server: &str, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut process = start(server, arguments);
    // It may end without reading.
    let _ = process.stdin.take().unwrap().write_all(input.as_ref());
    process.wait_with_output().unwrap()
}

fn weir(broker: &Broker, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    run(&broker.url(""), arguments, input)
}

/// What it prints when all goes well.
fn printed(broker: &Broker, arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let output = weir(broker, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Its exit code, and what it says on standard error.
fn failed(broker: &Broker, arguments: &[&str], input: impl AsRef<[u8]>) -> (i32, String) {
    let output = weir(broker, arguments, input);
    (output.status.code().unwrap(), text(&output.stderr))
}

/// Each is refused with exit code 2 and these words, before anything is connected to.
fn wrong_use(cases: &[(&[&str], &str)]) {
    for (arguments, said) in cases {
        let output = run(NOBODY, arguments, "");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_shows_in_the_exit_code() {
    wrong_use(&[
        (&["nonsense"], "unrecognized subcommand"),
        (&["pub", "t", "x", "--server", "gopher:"], "must be http://"),
        (&["pub", "t", "x", "--server", "https://localhost"], "must be http://"),
        (&["serve", "--listen", "0.0.0.0:0", "--data", "/nonexistent"], "--insecure"),
        (&["serve", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ]);
    for arguments in [&["topics", "list"][..], &["pub", "t", "x"], &["sub", "t"]] {
        let output = run(NOBODY, arguments, "");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains("can't reach http://127.0.0.1:1 (is `weir serve`"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_brokers_is_shown() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
        while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        stream.write_all(b"HTTP/1.1 418 \r\ncontent-length: 6\r\n\r\nteapot").unwrap();
    });
    let output = run(&server, &["topics", "list"], "");
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("418") && error.contains("teapot"), "{error}");
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
