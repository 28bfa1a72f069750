//! What the broker shows of itself: metrics, status, logs, traces.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::socket::Socket;

#[tokio::test]
async fn metrics_say_what_went_through_and_how_things_stand() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "ack_level": "os", "sync_interval_ms": 70 })).await;
    let mut tail = Socket::tail(&broker, "t", "latest").await;
    for _ in 0..3 {
        broker.publish("t", "x/y", "12345").await;
    }
    tail.messages(3).await;
    let mut producer = Socket::producer(&broker, "t", "").await;
    producer.send(r#"[{"id":1,"data":1},{"data":2}]"#).await;
    producer.frame().await;
    broker.json("/v1/topics/t/messages").await;
    broker.get("/v1/topics/none").await;
    tail.messages(2).await;
    for (series, value) in [
        (r#"weir_published_messages_total{way="http"}"#, 3),
        (r#"weir_published_messages_total{way="socket"}"#, 2),
        (r#"weir_read_messages_total{way="tail"}"#, 5),
        (r#"weir_read_messages_total{way="poll"}"#, 5),
        (r#"weir_ack_seconds_count{way="http"}"#, 3),
        (r#"weir_ack_seconds_count{way="socket"}"#, 1),
        (r#"weir_commit_messages_bucket{le="1"}"#, 4),
        (r#"weir_problems_total{code="topic-not-found"}"#, 1),
        ("weir_topics", 1),
        ("weir_readers", 1),
        ("weir_reader_lag_messages", 0),
        ("weir_sessions", 2),
        ("weir_ready", 1),
        (r#"weir_topic_head{topic="t"}"#, 5),
        (r#"weir_topic_loss_bound_ms{topic="t"}"#, 70),
    ] {
        assert_eq!(broker.counted(series).await, value, "{series}");
    }
    assert!(broker.counted("weir_connections").await >= 3);
    broker.plan_fault("topic-head-advanced", 1).await;
    broker.publish("t", "x/y", "1").await;
    eventually("the restart is counted", async || {
        broker.counted(r#"weir_restarts_total{actor="topic"}"#).await == 1
    })
    .await;
    // Whoever reads it in Prometheus' format finds a type before every series.
    let text = broker.get("/metrics").await.text().await.unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        let of = |suffix: &str| name.strip_suffix(suffix).unwrap_or(name).to_owned();
        let typed = [name.to_owned(), of("_bucket"), of("_sum"), of("_count")]
            .iter()
            .any(|name| text.contains(&format!("# TYPE {name} ")));
        assert!(typed, "{line}");
    }
}

#[tokio::test]
async fn no_more_topics_than_allowed_have_series_of_their_own() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__METRICS_TOPICS_MAX", "2")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    for topic in ["a", "b", "c"] {
        broker.put_topic(topic, json!({})).await;
    }
    let text = broker.get("/metrics").await.text().await.unwrap();
    assert!(text.contains(r#"weir_topic_head{topic="b"}"#) && !text.contains(r#"topic="c""#));
}

#[tokio::test]
async fn the_status_is_short() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.publish("t", "x/y", "1").await;
    // A block's share of the budget is given back a moment after its answer.
    eventually("nothing is under way", async || {
        broker.json("/v1/status").await["in_flight_bytes"] == 0
    })
    .await;
    let status = broker.json("/v1/status").await;
    assert_eq!((&status["state"], &status["topics"]), (&json!("running"), &json!(1)));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["quarantined"], json!([]));
    assert!(status["uptime_ms"].as_u64().unwrap() < 60_000);
}

#[tokio::test]
async fn a_trace_can_be_followed_through_the_log_and_nothing_a_client_sends_breaks_a_line() {
    let directory = tempdir().unwrap();
    let log = directory.path().join("log");
    let mut broker = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"])
        .arg(directory.path().join("data"))
        .current_dir(directory.path())
        .env("WEIR_LOG", "info,weir=debug")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = broker.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let address = line.trim().strip_prefix("weir listening on ").unwrap().to_owned();
    let client = reqwest::Client::new();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = client.post(format!("{address}/v1/topics/t/messages"));
    let request = request.header("traceparent", format!("00-{trace_id}-00f067aa0ba902b7-01"));
    assert_eq!(request.body("1").send().await.unwrap().status(), 202);
    client.get(format!("{address}/v1/topics/a%0Ab%22/messages")).send().await.unwrap();
    let stages = || -> Vec<String> {
        let text = std::fs::read_to_string(&log).unwrap();
        let lines = text.lines().map(|line| -> Value {
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
        });
        let ours = lines.filter(|line| line["span"]["trace_id"] == trace_id);
        ours.map(|line| line["span"]["name"].as_str().unwrap().to_owned()).collect()
    };
    eventually("every stage is told of", async || {
        let stages = stages();
        ["publish", "ingest", "commit"].iter().all(|stage| stages.iter().any(|s| s == stage))
    })
    .await;
    broker.kill().unwrap();
    broker.wait().unwrap();
}
