//! The README's examples, run as they stand there, one after the other, against one broker.
//!
//! What an example needs and the machine does not have (Python's `websockets`, a Node with
//! WebSocket) is passed over with a word, unless `WEIR_TEST_ALL` says that it must be there.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::tempdir;

use crate::support::broker::Broker;

const README: &str = include_str!("../../README.md");
/// Where the README says the broker listens.
const ADDRESS: &str = "127.0.0.1:7077";

/// The block after "```LANGUAGE NAME", and the block that follows it: what it prints.
fn example(label: &str) -> (String, String) {
    let (_, rest) = README.split_once(&format!("```{label}\n")).expect(label);
    let (code, rest) = rest.split_once("```").expect("the block ends");
    let (_, rest) = rest.split_once("```").expect("a block follows");
    let (_, rest) = rest.split_once('\n').expect("its first line ends");
    let (shown, _) = rest.split_once("```").expect("it ends");
    (code.to_owned(), shown.to_owned())
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

/// Runs an example and gives what it printed.
fn printed(program: &str, arguments: &[&str], code: &str) -> String {
    let output = run(program, arguments, code);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{code}\n{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the machine has it; it must where `WEIR_TEST_ALL` is set.
fn have(what: &str, program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program).args(arguments).output();
    let have = found.is_ok_and(|output| output.status.success());
    assert!(have || std::env::var_os("WEIR_TEST_ALL").is_none(), "{what} is missing");
    if !have {
        println!("passed over, since {what} is missing");
    }
    have
}

/// Receipts and times differ from run to run; everything else must be as the README shows it.
fn without_chance(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    for member in ["\"receipt\":\"", "\"receipt\":\"", "\"published_at\":\""] {
        let Some((before, after)) = rest.split_once(member) else { break };
        out.push_str(before);
        out.push_str(member);
        rest = after.split_once('"').map_or("", |(_, after)| after);
    }
    out + rest
}

#[tokio::test]
async fn the_examples_do_what_the_readme_shows() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start_at(&data, ADDRESS, &[]);
    let mut all = true;

    let (code, shown) = example("sh curl");
    // curl ends no line after an answer, the README does.
    let answers = printed("sh", &[], &code).replace("}{\"topic\"", "}\n{\"topic\"") + "\n";
    assert_eq!(without_chance(&answers), without_chance(&shown));

    let python = have("Python's websockets", "python3", &["-c", "import websockets"]);
    all &= python;
    if python {
        for label in ["python producer", "python tail"] {
            let (code, shown) = example(label);
            assert_eq!(printed("python3", &["-"], &code), shown, "{label}");
        }
    }
    let node = have("a Node with WebSocket", "node", &["--experimental-websocket", "-e", "0"]);
    all &= node;
    if node {
        let (code, shown) = example("js browser");
        assert_eq!(printed("node", &["--experimental-websocket", "-"], &code), shown);
    }
    let (code, shown) = example("sh cli");
    let code = code.replace("cargo run --release -q --", env!("CARGO_BIN_EXE_weir"));
    let printed = printed("sh", &[], &code);
    // The offset depends on which examples ran, the receipt on the key.
    let offset = |text: &str| text.split_whitespace().next().map(str::to_owned);
    assert_eq!(offset(&printed), offset(&shown), "{printed}");
    assert_eq!(printed.lines().nth(1), shown.lines().nth(1));

    let (code, shown) = example("sh topics");
    let found = self::printed(
        "sh",
        &[],
        &code.replace("weir ", &format!("{} ", env!("CARGO_BIN_EXE_weir"))),
    );
    let without_receipt = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(", receipt").next().unwrap_or(line).to_owned()).collect()
    };
    assert_eq!(without_receipt(&found), without_receipt(&shown));

    let (code, shown) = example("sh receipt");
    let without_times = |text: &str| -> String {
        text.split("\"at\":\"")
            .map(|part| part.split_once("Z\"").map_or(part, |(_, rest)| rest))
            .collect()
    };
    assert_eq!(without_times(&self::printed("sh", &[], &code)), without_times(&shown));

    let (code, shown) = example("sh resend");
    let answers = self::printed("sh", &[], &code).replace("}{", "}\n{") + "\n";
    assert_eq!(without_chance(&answers), without_chance(&shown));

    let (code, shown) = example("sh bench");
    let weir = env!("CARGO_BIN_EXE_weir");
    let code =
        code.replace("cargo run --release --", &format!("cd {:?} && {weir}", directory.path()));
    let short = format!("{} --repeat 5 --seconds 0.2 --warm-up-seconds 0.5", code.trim());
    let found = self::printed("sh", &[], &short);
    let heads =
        |text: &str| text.lines().nth(1).map(|line| line.split_whitespace().collect::<String>());
    assert_eq!(heads(&found), heads(&shown), "{found}");
    assert_eq!(found.lines().count(), shown.lines().count(), "{found}");

    broker.kill();
    let (code, shown) = example("sh verify");
    let weir = format!("cd {:?} && {}", directory.path(), env!("CARGO_BIN_EXE_weir"));
    let found = self::printed("sh", &[], &code.replace("weir ", &format!("{weir} ")));
    if all {
        assert_eq!(found, shown);
    }
}
