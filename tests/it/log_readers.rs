//! Whatever becomes of those who read its log and its first line, the broker works, stops in order
//! and exits when it has decided to.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::Broker;
use crate::support::eventually;

const DROPPED: &str = "weir_log_lines_dropped_total";
/// An exit waits half a second for its log's reader; the rest is for a busy machine.
const EXIT_SECONDS_MAX: u64 = 8;

/// What the broker's standard error or output is.
#[derive(Clone, Copy, Debug)]
enum Stream {
    /// A pipe whose reader has gone.
    Gone,
    /// A full pipe that nobody reads.
    Stuck,
    /// A disk without room.
    Full,
    /// Closed before the start.
    Closed,
}

const STREAMS: [Stream; 4] = [Stream::Gone, Stream::Stuck, Stream::Full, Stream::Closed];

/// A stream, and what keeps it as it is.
fn made(stream: Stream) -> (Option<OwnedFd>, Option<PipeReader>) {
    match stream {
        Stream::Closed => (None, None),
        Stream::Full => {
            (Some(OpenOptions::new().write(true).open("/dev/full").unwrap().into()), None)
        }
        Stream::Gone => (Some(std::io::pipe().unwrap().1.into()), None),
        Stream::Stuck => {
            let (reader, writer) = std::io::pipe().unwrap();
            // A description of its own, so that writes of the broker do wait.
            let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
            let non_blocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            let filling = OpenOptions::new().write(true).custom_flags(non_blocking).open(path);
            let mut filling: File = filling.unwrap();
            for length in [4_096, 1] {
                loop {
                    match filling.write(&vec![b'y'; length]) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            (Some(writer.into()), Some(reader))
        }
    }
}

/// A broker with these streams; its first line is not read.
fn start(
    data: &Path,
    address: &str,
    arguments: &[&str],
    [out, error]: [Option<OwnedFd>; 2],
) -> Child {
    // The shell closes what is not given.
    let closed = match (&out, &error) {
        (Some(_), Some(_)) => "",
        (None, Some(_)) => ">&-",
        (Some(_), None) => "2>&-",
        (None, None) => ">&- 2>&-",
    };
    let stdio = |given: Option<OwnedFd>| given.map_or_else(Stdio::null, Stdio::from);
    Command::new("sh")
        .args(["-c", &format!("exec \"$0\" \"$@\" {closed}"), env!("CARGO_BIN_EXE_weir")])
        .args(["serve", "--listen", address, "--data"])
        .arg(data)
        .args(arguments)
        .current_dir(data.parent().unwrap())
        // Some lines a request.
        .env("WEIR_LOG", "trace")
        .stdout(stdio(out))
        .stderr(stdio(error))
        .spawn()
        .unwrap()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn works(broker: &Broker) {
    for n in 0..20 {
        let answer = broker.publish("t", "text/plain", n.to_string()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_changes_nothing_but_a_counter() {
    let directory = tempdir().unwrap();
    for (n, stream) in STREAMS.into_iter().enumerate() {
        for format in ["text", "json"] {
            let data = directory.path().join(format!("{n}-{format}"));
            let (error, _reader) = made(stream);
            let address = free_address();
            let out = Some(OpenOptions::new().write(true).open("/dev/null").unwrap().into());
            let process = start(&data, &address, &["--log-format", format], [out, error]);
            let broker = Broker::adopt(process, &address).await;
            works(&broker).await;
            match stream {
                // More than fits into the queue.
                Stream::Stuck => {
                    eventually("lines are dropped", async || {
                        works(&broker).await;
                        broker.counted(DROPPED).await > 0
                    })
                    .await;
                }
                Stream::Gone | Stream::Full => assert!(broker.counted(DROPPED).await > 0),
                // The runtime opens /dev/null in its place.
                Stream::Closed => assert_eq!(broker.counted(DROPPED).await, 0),
            }
            broker.terminate();
            let begun = Instant::now();
            assert_eq!(broker.ended().code(), Some(0), "{stream:?} {format}");
            assert!(begun.elapsed().as_secs() < EXIT_SECONDS_MAX, "{stream:?} {format}");
        }
    }
}

#[tokio::test]
async fn nor_does_standard_output_beside_it() {
    let directory = tempdir().unwrap();
    for (n, stream) in STREAMS.into_iter().enumerate() {
        let data = directory.path().join(n.to_string());
        let (out, _reader) = made(stream);
        // Both the same one, as `2>&1` makes them.
        let error = out.as_ref().map(|out| out.try_clone().unwrap());
        let address = free_address();
        let process = start(&data, &address, &[], [out, error]);
        let broker = Broker::adopt(process, &address).await;
        works(&broker).await;
        broker.terminate();
        let begun = Instant::now();
        assert_eq!(broker.ended().code(), Some(0), "{stream:?}");
        assert!(begun.elapsed().as_secs() < EXIT_SECONDS_MAX, "{stream:?}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_in_the_middle_ends_nothing() {
    let directory = tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (out_reader, out) = std::io::pipe().unwrap();
    let address = free_address();
    let process = start(
        &directory.path().join("data"),
        &address,
        &[],
        [Some(out.into()), Some(writer.into())],
    );
    let broker = Broker::adopt(process, &address).await;
    works(&broker).await;
    drop((reader, out_reader));
    works(&broker).await;
    eventually("lines are dropped", async || {
        works(&broker).await;
        broker.counted(DROPPED).await > 0
    })
    .await;
    broker.terminate();
    assert_eq!(broker.ended().code(), Some(0));
}

#[tokio::test]
async fn what_it_notes_and_a_panic_can_be_read_there() {
    let directory = tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut lines = BufReader::new(reader).lines();
    let mut line_with = |words: &[&str]| {
        let line = lines.find(|line| {
            let line = line.as_ref().unwrap();
            words.iter().all(|word| line.contains(word))
        });
        line.unwrap_or_else(|| panic!("no line with {words:?}"))
    };
    let out = Some(OpenOptions::new().write(true).open("/dev/null").unwrap().into());
    let (data, address) = (directory.path().join("data"), free_address());
    let arguments = ["--log-format", "json"];
    let process = start(&data, &address, &arguments, [out, Some(writer.into())]);
    let broker = Broker::adopt(process, &address).await;
    broker.signal("HUP");
    line_with(&["SIGHUP"]).unwrap();
    broker.plan_fault("handler-publishing", 1).await;
    let answer = broker.publish("t", "text/plain", "x").await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let line = line_with(&["\"panic\"", "src/faults.rs", "ERROR"]).unwrap();
    assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    // All there is to read is read, or the broker could not end with its lines written.
    broker.terminate();
    line_with(&["stopped"]).unwrap();
    assert_eq!(broker.ended().code(), Some(0));
}

#[tokio::test]
async fn a_panic_waits_for_no_reader_of_the_log() {
    let directory = tempdir().unwrap();
    let (error, _reader) = made(Stream::Stuck);
    let address = free_address();
    let out = Some(OpenOptions::new().write(true).open("/dev/null").unwrap().into());
    let process = start(&directory.path().join("data"), &address, &[], [out, error]);
    let broker = Broker::adopt(process, &address).await;
    works(&broker).await;
    broker.plan_fault("ingest-received", 1).await;
    eventually("its ingest logger died and came back", async || {
        broker.publish("t", "text/plain", "x").await;
        broker.counted(r#"weir_restarts_total{actor="ingest logger"}"#).await > 0
    })
    .await;
    works(&broker).await;
    broker.terminate();
    assert_eq!(broker.ended().code(), Some(0));
}

#[tokio::test]
async fn a_journal_that_failed_is_not_ready_and_the_exit_waits_for_no_reader() {
    let directory = tempdir().unwrap();
    let (error, _reader) = made(Stream::Stuck);
    let address = free_address();
    let out = Some(OpenOptions::new().write(true).open("/dev/null").unwrap().into());
    let process = start(&directory.path().join("data"), &address, &[], [out, error]);
    let broker = Broker::adopt(process, &address).await;
    works(&broker).await;
    assert_eq!(broker.get("/readyz").await.status(), StatusCode::OK);
    broker.plan(json!({ "seam": "writer-committing", "nth": 1, "action": "error" })).await;
    let ready = broker.url("/readyz");
    let publishing = broker.http.post(broker.url("/v1/topics/t/messages")).body("x").send();
    let begun = Instant::now();
    let publishing = tokio::spawn(publishing);
    // While the last lines wait for their reader the process still answers.
    let mut reason = None;
    while let Ok(answer) = broker.http.get(&ready).send().await {
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE
            && let Ok(answer) = answer.json::<Value>().await
        {
            reason = Some(answer["reason"].clone());
        }
    }
    assert_eq!(reason, Some(json!("journal-failed")));
    // Nothing is acknowledged any more.
    let published = publishing.await.unwrap();
    assert!(!published.is_ok_and(|answer| answer.status().is_success()));
    assert_eq!(broker.ended().code(), Some(1));
    assert!(begun.elapsed().as_secs() < EXIT_SECONDS_MAX);
}

#[test]
fn what_is_refused_at_the_start_exits_with_its_code_though_nobody_reads_why() {
    let directory = tempdir().unwrap();
    for stream in STREAMS {
        for (arguments, code) in [
            (&["--config", "/nonexistent.toml"][..], 2),
            (&["--no-such-flag"], 2),
            (&["--listen", "192.0.2.1:0", "--insecure"], 1),
        ] {
            let (error, _reader) = made(stream);
            let (out, _out_reader) = made(stream);
            let mut command = arguments.to_vec();
            let listen = if code == 1 { None } else { Some(["--listen", "127.0.0.1:0"]) };
            command.extend(listen.into_iter().flatten());
            let data = directory.path().join("data");
            let stdio = |given: Option<OwnedFd>| given.map_or_else(Stdio::null, Stdio::from);
            let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
                .arg("serve")
                .args(&command)
                .arg("--data")
                .arg(&data)
                .stdout(stdio(out))
                .stderr(stdio(error))
                .spawn()
                .unwrap();
            let status = process.wait().unwrap();
            assert_eq!(status.code(), Some(code), "{stream:?} {arguments:?}");
        }
    }
}
