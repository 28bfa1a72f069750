//! Data that an earlier build wrote: this one must read it. `tests/fixtures/README.md` says what is in
//! there and how it is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::damage::copy_used;
use crate::support::broker::Broker;
use crate::support::socket::Socket;

const BATCH: &str = "application/vnd.weir.messages+json";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Fills a new broker's directory with one of each: topics with both levels, message ids, a named
/// producer, more than a page of blocks, a topic that was deleted.
async fn fill(broker: &Broker) {
    let url = broker.url("/v1/topics/os");
    let settings = json!({ "ack_level": "os", "sync_interval_ms": 50 });
    assert!(broker.http.put(url).json(&settings).send().await.unwrap().status().is_success());
    for n in 0..300 {
        broker.publish("many", "text/plain", format!("message {n}")).await;
    }
    let with_ids: Vec<_> =
        (0..20).map(|n| json!({ "data": { "n": n }, "message_id": format!("id-{n}") })).collect();
    for topic in ["os", "ids", "doomed"] {
        broker.publish(topic, BATCH, json!({ "messages": with_ids }).to_string()).await;
    }
    let mut named = Socket::open(broker, "/v1/topics/ids/producer?producer=meter").await;
    named.frame().await;
    named.send(json!({ "id": 41, "data": "named" })).await;
    named.frame().await;
    let doomed = broker.url("/v1/topics/doomed");
    assert!(broker.http.delete(doomed).send().await.unwrap().status().is_success());
}

/// What a client can see of it.
async fn seen(broker: &Broker) -> Value {
    let mut seen = json!({});
    for topic in ["ids", "many", "os"] {
        let shown = broker.json(&format!("/v1/topics/{topic}")).await;
        seen[topic] = json!({
            "epoch": shown["epoch"],
            "first": shown["first"],
            "head": shown["head"],
            "state": shown["state"],
            "messages": broker.read_all(topic).await,
        });
    }
    seen
}

/// What it remembers of ids and names, which changes it.
async fn check_memory(broker: &Broker) {
    let again = json!({ "messages": [{ "data": { "n": 7 }, "message_id": "id-7" }] }).to_string();
    for topic in ["os", "ids"] {
        let answer: Value = broker.publish(topic, BATCH, again.clone()).await.json().await.unwrap();
        let result = &answer["results"][0];
        assert_eq!((&result["offset"], &result["duplicate"]), (&json!(7), &json!(true)), "{topic}");
    }
    let mut named = Socket::open(broker, "/v1/topics/ids/producer?producer=meter").await;
    assert_eq!(named.frame().await["welcome"]["resume_after"], 41);
}

/// A restored copy goes on in epochs and at offsets of its own; all else is as it was.
fn begins_a_life(found: &mut Value, expected: &Value) {
    for (name, topic) in found.as_object_mut().unwrap() {
        for place in ["epoch", "head"] {
            assert!(topic[place].as_u64() > expected[name][place].as_u64(), "{name}");
            topic[place] = expected[name][place].clone();
        }
    }
}

fn weir(arguments: &[&Path]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test]
async fn a_directory_and_a_backup_of_this_format_are_read() {
    let work = tempdir().unwrap();
    let [data, restored] = ["data", "restored"].map(|name| work.path().join(name));
    copy_used(&fixtures().join("journal-3"), &data);
    // Git keeps no empty folders.
    for keyspace in 1..=4 {
        let tables = data.join(format!("journal/keyspaces/{keyspace}/tables"));
        std::fs::create_dir_all(tables).unwrap();
    }
    weir(&[Path::new("restore"), &fixtures().join("backup-2.weir"), &restored]);
    let expected = std::fs::read(fixtures().join("content.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for data in [&data, &restored] {
        let said = weir(&[Path::new("verify"), data]);
        assert!(said.contains("3 topics, 341 messages read; 0 topics damaged"), "{said}");
        let broker = Broker::start(data);
        let mut found = seen(&broker).await;
        if *data == restored {
            begins_a_life(&mut found, &expected);
        }
        assert!(found == expected, "{data:?} holds something else");
        check_memory(&broker).await;
        let answer: Value = broker.publish("new", "x/y", "1").await.json().await.unwrap();
        assert_eq!(answer["offset"], 0);
    }
}

/// Makes the fixtures anew; see their README.
#[tokio::test]
#[ignore = "writes tests/fixtures"]
async fn make() {
    let work = tempdir().unwrap();
    let data = work.path().join("data");
    let broker = Broker::start_with(&data, &[("WEIR__STORAGE__MEMTABLE_BYTES", "1048576")]);
    fill(&broker).await;
    let content = seen(&broker).await;
    // Before the copy, which writes every tail out: a start has something to read again.
    let _ = std::fs::remove_dir_all(fixtures().join("journal-3"));
    copy_used(&data, &fixtures().join("journal-3"));
    let copy = broker.get("/v1/backup").await.bytes().await.unwrap();
    std::fs::write(fixtures().join("backup-2.weir"), copy).unwrap();
    let content = serde_json::to_vec_pretty(&content).unwrap();
    std::fs::write(fixtures().join("content.json"), content).unwrap();
}
