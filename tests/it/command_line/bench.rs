//! `weir bench`

use std::io::Read;

use serde_json::Value;
use tempfile::tempdir;

use super::{failed, printed, start, text, wrong_use};
use crate::support::broker::Broker;

const SHORT: [&str; 5] = ["--seconds", "0.5", "--warm-up-seconds", "0.1", "--json"];

/// What a short measurement says about each thing that it timed.
fn measured(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let all = [&["bench"], arguments, &SHORT, &["--repeat", "1"]].concat();
    let report: Value = serde_json::from_str(&printed(broker, &all, "")).unwrap();
    let results = report["results"].as_array().unwrap().clone();
    for result in &results {
        let median = &result["median"];
        assert!(median["per_second"].as_f64().unwrap() > 0.0, "{arguments:?}: {result}");
        let us = |name: &str| median[name].as_f64().unwrap();
        assert!(us("p50_us") <= us("p99_us") && us("p99_us") <= us("max_us"), "{result}");
    }
    results
}

fn kinds(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["what"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_workload_is_measured_and_checked_and_leaves_nothing_behind() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let few = ["--connections", "2", "--in-flight", "8"];
    for protocol in ["raw", "json", "msgpack", "http"] {
        let arguments = [&["publish", "--protocol", protocol], &few[..]].concat();
        assert_eq!(kinds(&measured(&broker, &arguments)), ["message to acknowledgement"]);
    }
    let batches = ["publish", "--protocol", "http-batch", "--connections", "2", "--batch", "5"];
    measured(&broker, &batches);
    measured(&broker, &["publish", "--rate", "500", "--processes", "2", "--ack-level", "os"]);
    for protocol in ["json", "raw"] {
        let batch = if protocol == "raw" { "1" } else { "4" };
        let tail = ["tail", "--tails", "20", "--protocol", protocol, "--batch", batch];
        let results = measured(&broker, &tail);
        assert_eq!(kinds(&results), ["message to acknowledgement", "message to delivery"]);
    }
    for form in ["json", "ndjson", "msgpack"] {
        for protocol in ["json", "msgpack"] {
            let poll = ["poll", "--form", form, "--messages", "700", "--protocol", protocol];
            let results = measured(&broker, &[&poll[..], &["--page", "64"]].concat());
            assert_eq!(kinds(&results), ["polled message, of its page", "page"], "{form}");
        }
    }
    measured(&broker, &["e2e", "--rate", "400", "--connections", "2"]);
    measured(&broker, &["many-topics", "--topics", "30", "--in-flight", "10"]);
    measured(&broker, &["many-topics", "--topics", "30", "--protocol", "http"]);
    let mixed = ["mixed", "--rate", "400", "--messages", "100", "--topics", "2"];
    assert_eq!(measured(&broker, &mixed).len(), 4);
    let left = broker.json("/v1/topics").await;
    assert_eq!(left["topics"], serde_json::json!([]), "its topics are deleted");
}

#[tokio::test]
async fn a_broker_of_its_own_beside_a_bare_server_and_a_page_for_people() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let page = directory.path().join("report.html");
    let arguments = [
        &["bench", "publish", "--self", "--protocol", "http", "--beside-bare"][..],
        &["--dir", directory.path().to_str().unwrap(), "--html", page.to_str().unwrap()],
        &["--repeat", "2", "--seconds", "1", "--connections", "4"],
    ];
    let table = printed(&broker, &arguments.concat(), "");
    for line in ["weir: message to acknowledgement", "bare server: message to acknowledgement"] {
        assert!(table.contains(line), "{table}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 4, "two plots a server");
    assert!(!page.contains("http://") && !page.contains("<script"), "it needs nothing else");
    let short = ["bench", "publish", "--repeat", "1", "--seconds", "0.2", "--html", "-"];
    let page = printed(&broker, &short, "");
    assert!(page.starts_with("<!") && page.matches("<svg").count() == 2, "{page:.100}");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 2, "the data directory and the page: the temporary ones are gone");
}

#[tokio::test]
async fn what_does_not_go_together_is_said() {
    wrong_use(&[
        (&["bench", "publish", "--protocol", "raw", "--batch", "2"], "--batch must be 1"),
        (&["bench", "publish", "--payload-bytes", "10"], "64 or more"),
        (&["bench", "publish", "--beside-bare"], "--protocol http"),
        (&["bench", "publish", "--protocol", "http", "--batch", "2"], "--batch must be 1"),
        (&["bench", "many-topics", "--rate", "9"], "no --rate"),
        (&["bench", "tail", "--processes", "2"], "one process"),
        (&["bench", "publish", "--batch", "9", "--in-flight", "3"], "--in-flight must be"),
        (&["bench", "publish", "--server", "ftp://x"], "must be http://"),
        (&["bench", "publish", "--payload-bytes", "7d"], "neither bytes nor a size"),
        (&["bench", "publish", "--json", "--html", "-"], "both go to standard output"),
        (&["bench", "nonsense"], "invalid value"),
    ]);
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let url = ["bench", "publish", "--server", "http://127.0.0.1:1"];
    let (code, error) = failed(&broker, &url, "");
    assert_eq!(code, 1);
    assert!(error.contains("can't reach"), "{error}");
}

/// A message that nobody of the measurement sent: the final count and a tail must notice.
#[tokio::test]
async fn a_message_too_many_fails_the_measurement() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let cases = [("publish", "1.5", "acknowledged"), ("e2e", "600", "payload has 5 bytes")];
    for (workload, seconds, noticed) in cases {
        let arguments = ["bench", workload, "--rate", "100", "--seconds", seconds, "--repeat", "1"];
        let mut bench = start(&broker.url(""), &arguments);
        let topic = loop {
            let listed = broker.json("/v1/topics?prefix=weir-bench.").await;
            let topics = listed["topics"].as_array().unwrap();
            if let Some(topic) = topics.iter().find(|topic| topic["head"].as_u64() > Some(0)) {
                break topic["name"].as_str().unwrap().to_owned();
            }
        };
        broker.publish(&topic, "text/plain", "alien").await;
        let mut error = String::new();
        bench.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let output = bench.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{workload}: {}", text(&output.stdout));
        assert!(error.contains(noticed), "{workload}: {error}");
        printed(&broker, &["topics", "delete", &topic], "");
    }
}
