//! `kill -9` at random moments under load: everything acknowledged is there.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;
use reqwest::StatusCode;
use serde_json::json;
use tempfile::tempdir;

use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::history::History;
use crate::support::load::{Control, produce};

const TOPICS: [(&str, &str); 4] =
    [("sync.one", "sync"), ("sync.two", "sync"), ("os.one", "os"), ("os.two", "os")];
const PRODUCERS_A_TOPIC: u64 = 2;

/// Starts a broker on the directory, checks what it has against what is known, loads it, and kills
/// it after some random number of acknowledgements.
async fn cycle(data: &Path, number: u64, histories: &mut [History]) {
    let start = Instant::now();
    let broker = Broker::start(data);
    check(&broker, histories).await;
    let control = Control::default();
    let mut producers = Vec::new();
    for (n, (topic, _)) in TOPICS.iter().enumerate() {
        for producer in 0..PRODUCERS_A_TOPIC {
            // Numbers rise from cycle to cycle, so that order can be checked across them.
            let first_number = number << 24;
            let load = produce(
                broker.address.clone(),
                (*topic).into(),
                producer,
                first_number,
                control.clone(),
            );
            producers.push((n, tokio::spawn(load)));
        }
    }
    eventually("publishing works again", async || control.acknowledged() > 0).await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "publishing again after {:?}",
        start.elapsed()
    );
    let last = rand::rng().random_range(1..6_000);
    eventually("the random moment", async || control.acknowledged() > last).await;
    broker.kill();
    for (n, producer) in producers {
        histories[n].merge(producer.await.unwrap());
    }
}

async fn check(broker: &Broker, histories: &mut [History]) {
    for ((topic, _), history) in TOPICS.iter().zip(histories) {
        history.found(broker.read_all(topic).await);
        assert_eq!(history.violations(), [], "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_at_random_moments_lose_nothing_acknowledged() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let mut histories = vec![History::default(); TOPICS.len()];
    let broker = Broker::start(&data);
    for (topic, ack_level) in TOPICS {
        let settings = json!({ "ack_level": ack_level, "sync_interval_ms": 20 });
        assert_eq!(broker.put_topic(topic, settings).await.status(), StatusCode::CREATED);
    }
    broker.kill();
    for number in 1..=20 {
        cycle(&data, number, &mut histories).await;
    }
    check(&Broker::start(&data), &mut histories).await;
    let acknowledged: usize = histories.iter().map(History::acknowledged_count).sum();
    println!("20 kills, {acknowledged} messages acknowledged, no violation");
}

#[tokio::test]
async fn a_directory_is_served_by_one_broker_at_a_time() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let _broker = Broker::start(&data);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("in use by another process"), "{error}");
}
