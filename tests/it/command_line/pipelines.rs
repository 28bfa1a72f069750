//! Commands between others: readers that have gone, `-` as a file, terminals.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tempfile::tempdir;

use super::{failed, printed, run, text, weir, wrong_use};
use crate::support::broker::Broker;

/// A pipe whose reader has gone.
fn gone() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

/// A disk without room.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Runs it with these for standard output and error, in a directory.
fn between(server: &str, directory: &Path, arguments: &[&str], out: Stdio, error: Stdio) -> i32 {
    let status: ExitStatus = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env("WEIR_SERVER", server)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(error)
        .status()
        .unwrap();
    status.code().unwrap()
}

#[tokio::test]
async fn a_closed_standard_output_changes_nothing_of_what_is_done() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let server = broker.url("");
    let at = directory.path();
    let code = |arguments: &[&str]| between(&server, at, arguments, gone(), Stdio::null());
    for arguments in [
        &["pub", "t", "x"][..],
        &["pub", "t", "y", "--json"],
        &["sub", "t", "--until-now"],
        &["sub", "t", "--until-now", "--json"],
        &["topics", "list"],
        &["topics", "list", "--json"],
        &["topics", "show", "t"],
        &["topics", "create", "a"],
        &["topics", "create", "b", "--json"],
        &["topics", "change", "a", "--ack-level", "os"],
        &["topics", "delete", "a", "b"],
        &["backup", "copy"],
        &["restore", "copy", "restored"],
        &["verify", "restored"],
        &["verify", "restored", "--rebuild-into", "rebuilt"],
        &["verify", "rebuilt"],
        &["--help"],
        &["sub", "--help"],
        &["--version"],
    ] {
        assert_eq!(code(arguments), 0, "{arguments:?}");
    }
    assert_eq!(broker.read_all("t").await.len(), 2, "both are published");
    assert_eq!(broker.json("/v1/topics").await["topics"].as_array().unwrap().len(), 1);
    // One that is cut short is none, so this one is not quiet.
    assert_eq!(code(&["backup", "-"]), 1);
    let output = run(&server, &["pub", "t", "--json"], "1\n".repeat(3_000));
    assert_eq!(text(&output.stdout).lines().count(), 3_000);
}

#[tokio::test]
async fn lines_are_published_to_the_last_though_nobody_reads_the_acknowledgements() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let lines = directory.path().join("lines");
    std::fs::write(&lines, "1\n".repeat(5_000)).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["pub", "t", "--json"])
        .env("WEIR_SERVER", broker.url(""))
        .stdin(File::open(&lines).unwrap())
        .stdout(gone())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(broker.read_all("t").await.len(), 5_000);
}

#[tokio::test]
async fn an_error_that_nobody_reads_is_still_in_the_exit_code() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let server = broker.url("");
    std::fs::write(directory.path().join("broker.toml"), "colour = 1\n").unwrap();
    let nobody = "http://127.0.0.1:1";
    for (server, arguments, code) in [
        (&*server, &["topics", "show", "none"][..], 1),
        (&server, &["topics", "delete", "none", "neither"], 1),
        (&server, &["topics", "list", "--prefix", "none"], 0),
        (&server, &["sub", "none", "--until-now"], 1),
        (&server, &["pub", "t", "x", "--content-type", "application/json"], 1),
        (&server, &["verify", "nowhere"], 1),
        (&server, &["restore", "nothing", "there"], 1),
        (nobody, &["topics", "list"], 1),
        (nobody, &["backup", "-"], 1),
        (nobody, &["pub", "t", "x"], 1),
        (&server, &["nonsense"], 2),
        (&server, &["sub", "a b"], 2),
        (&server, &["pub", "t", "--file", "nothing"], 2),
        (&server, &["serve"], 2),
    ] {
        for (out, error) in [(gone(), gone()), (full(), full()), (Stdio::null(), gone())] {
            let found = between(server, directory.path(), arguments, out, error);
            assert_eq!(found, code, "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn an_output_that_takes_nothing_is_an_error_but_no_panic() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    printed(&broker, &["pub", "t", "x"], "");
    printed(&broker, &["backup", directory.path().join("copy").to_str().unwrap()], "");
    for (n, arguments) in [
        &["sub", "t", "--until-now"][..],
        &["topics", "show", "t"],
        &["topics", "delete", "t"],
        &["backup", "-"],
        &["restore", "copy", "restored"],
        &["verify", "restored", "--rebuild-into", "rebuilt"],
    ]
    .into_iter()
    .enumerate()
    {
        let error = directory.path().join(n.to_string());
        let said = File::create(&error).unwrap();
        let code = between(&broker.url(""), directory.path(), arguments, full(), Stdio::from(said));
        let said = std::fs::read_to_string(error).unwrap();
        assert_eq!(code, 1, "{arguments:?}: {said}");
        assert!(said.contains("standard output") && said.contains("No space"), "{said}");
    }
    // What it was to do is done.
    assert!(broker.get("/v1/topics/t").await.status() == 404);
    assert!(directory.path().join("rebuilt").exists());
}

#[tokio::test]
async fn a_backup_goes_through_a_pipe_and_comes_back_through_one() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    printed(&broker, &["pub", "t", "--raw"], [0, 10, 255, 13, 10]);
    printed(&broker, &["pub", "t"], "x\n".repeat(2_000));
    let expected = broker.read_all("t").await;
    let before = std::fs::read_dir(directory.path()).unwrap().count();
    let taken = weir(&broker, &["backup", "-"], "");
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), before, "no file is made");
    let bytes = taken.stdout;
    assert_eq!(text(&taken.stderr), format!("standard output: {} bytes\n", bytes.len()));
    let restore = |name: &str, input: &[u8]| {
        let target = directory.path().join(name);
        let output = weir(&broker, &["restore", "-", target.to_str().unwrap()], input);
        (output.status.code().unwrap(), text(&output.stderr), target)
    };
    let (code, error, restored) = restore("restored", &bytes);
    assert_eq!(code, 0, "{error}");
    let again = Broker::start(&restored);
    assert_eq!(again.read_all("t").await, expected);

    let end = format!(
        "standard input: the backup: bytes follow its end, which is at byte {}",
        bytes.len()
    );
    for (n, behind) in [&b"\n"[..], b"\0\0\0\0", &bytes].into_iter().enumerate() {
        let (code, error, target) = restore(&format!("more-{n}"), &[&bytes, behind].concat());
        assert!(code == 1 && error.contains(&end) && !target.exists(), "{error}");
    }
    let (code, error, target) = restore("less", &bytes[..bytes.len() - 1]);
    assert!(code == 1 && error.contains("cut short") && !target.exists(), "{error}");
    let (code, error, target) = restore("nothing", b"");
    assert!(code == 1 && !target.exists(), "{error}");

    // The same out of a file.
    let file = directory.path().join("copy");
    std::fs::write(&file, [&bytes[..], b"x"].concat()).unwrap();
    let target = directory.path().join("of-a-file");
    let arguments = ["restore", file.to_str().unwrap(), target.to_str().unwrap()];
    let (code, error) = failed(&broker, &arguments, "");
    assert!(code == 1 && error.contains(end.trim_start_matches("standard input: ")), "{error}");
}

#[tokio::test]
async fn standard_input_is_a_file_like_others() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let file = directory.path().join("a.txt");
    std::fs::write(&file, "a").unwrap();
    let arguments = ["pub", "t", "--file", file.to_str().unwrap(), "--file", "-"];
    let said = printed(&broker, &arguments, b"{\"b\":\n1}");
    assert_eq!(said, "2 messages acknowledged, the last at offset 1\n");
    let found = broker.read_all("t").await;
    assert_eq!((&found[0]["data"], &found[1]["data"]), (&json!("a"), &json!({ "b": 1 })));
    printed(&broker, &["pub", "t", "--file", "-", "--message-id", "m"], b"\xff");
    assert_eq!(broker.read_all("t").await[2]["data_base64"], "/w==");
    // A pipe by a name is read once, not opened and closed before that.
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::write(fifo, "through a pipe")
    });
    printed(&broker, &["pub", "t", "--file", fifo.to_str().unwrap()], "");
    writer.join().unwrap().unwrap();
    let found = broker.read_all("t").await;
    assert_eq!(found[3]["data_base64"], "dGhyb3VnaCBhIHBpcGU=");

    let config = "[limits]\n\ntopics_max = 0\n";
    let output = run("", &["serve", "--config", "-", "--data", "unused"], config);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/dev/stdin:3: topics_max"), "{}", text(&output.stderr));
}

#[test]
fn a_dash_that_makes_no_sense_is_refused() {
    wrong_use(&[
        (&["restore", "-", "-"], "a directory is needed"),
        (&["restore", "copy", "-"], "a directory is needed"),
        (&["verify", "-"], "a directory is needed"),
        (&["verify", "data", "--rebuild-into", "-"], "a directory is needed"),
        (&["serve", "--data", "-"], "a directory is needed"),
        (&["pub", "t", "--file", "-", "--file", "-"], "is given twice"),
        (&["pub", "t", "--file", "-", "--raw"], "cannot be used with"),
        (&["pub", "t", "--file", "/"], "is a directory"),
        (&["backup", ""], "FILE"),
    ]);
}

#[tokio::test]
async fn what_sub_prints_into_a_pipe_are_the_bytes_that_were_sent() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let all: Vec<u8> = (0..=255).collect();
    for (n, (content_type, payload)) in [
        ("application/octet-stream", &all[..]),
        ("application/x-www-form-urlencoded", b"hi"),
        ("text/plain", b"\xff is no text"),
        ("text/plain; charset=utf-8", "\u{1b}[2Jüber\r\n\0".as_bytes()),
        ("application/json", b" {\"a\" : 1.0e0,\r\n\t\"b\":[ ] }\n\n"),
        ("application/ld+json", b"\t\"x\\u00e9\" "),
        ("application/vnd.weir", b""),
        ("image/png", b"aGk="),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("t{n}");
        assert_eq!(broker.publish(&topic, content_type, payload).await.status(), 202);
        let expected = [payload, b"\n"].concat();
        for end in [&["--until-now"][..], &["--from", "earliest", "--count", "1"]] {
            let output = weir(&broker, &[&["sub", &topic], end].concat(), "");
            assert_eq!(output.stdout, expected, "{content_type} {end:?}");
        }
    }
}

/// What it writes to a terminal, and its exit code.
fn on_terminal(server: &str, arguments: &[&str]) -> (i32, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let open = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .env("WEIR_SERVER", server)
        .stdin(open())
        .stdout(open())
        .stderr(open())
        .spawn()
        .unwrap();
    let reading = std::thread::spawn(move || {
        let mut found = Vec::new();
        // Its end is an error (EIO), once nobody has the other side open.
        let _ = File::from(ours).read_to_end(&mut found);
        found
    });
    let code = process.wait().unwrap().code().unwrap();
    (code, text(&reading.join().unwrap()))
}

#[tokio::test]
async fn a_terminal_is_given_text_and_nothing_it_would_obey() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let server = broker.url("");
    for (content_type, payload) in [
        ("text/plain", "title \u{1b}]0;owned\u{7} and \u{9b}2J".as_bytes()),
        ("application/octet-stream", b"\x1b[2J is text by its bytes"),
        ("application/octet-stream", b"\xff\xfe\x1b[2J"),
        ("application/json", "{\"a\":\t\"\u{9b}2J\"}".as_bytes()),
    ] {
        assert_eq!(broker.publish("t", content_type, payload).await.status(), 202);
    }
    let (code, shown) = on_terminal(&server, &["sub", "t", "--until-now"]);
    assert_eq!(code, 0, "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    let expected = [
        r"title \u{1b}]0;owned\u{7} and \u{9b}2J",
        r"\u{1b}[2J is text by its bytes",
        "<binary, 6 bytes>",
        // The terminal itself spells the tab out.
        r#"{"a":   "\u{9b}2J"}"#,
    ];
    assert_eq!(lines.len(), expected.len(), "{shown}");
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(line.replace('\t', "   "), expected);
    }
    let (_, shown) = on_terminal(&server, &["sub", "t", "--until-now", "--json"]);
    assert!(shown.contains(r"\u001b]0;owned\u0007 and \u009b2J"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{shown:?}");

    for arguments in [&["backup", "-"][..], &["restore", "-", "there"], &["serve", "--config", "-"]]
    {
        let (code, shown) = on_terminal(&server, arguments);
        assert_eq!(code, 2, "{shown}");
        assert!(shown.contains("which is a terminal"), "{shown}");
    }
}
