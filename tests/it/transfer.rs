//! `weir verify`, `weir verify --rebuild-into`, `weir backup` and `weir restore`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::load::{Control, gather, start};
use crate::support::socket::Socket;

fn weir(arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output();
    command.expect("weir runs")
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Every file with its content.
fn content(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            content(&entry.path(), found);
        } else {
            found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
}

/// Some messages in two topics, with tables, then a kill.
async fn fill(data: &Path) -> Vec<(&'static str, Vec<Value>)> {
    let small = [("WEIR__STORAGE__MEMTABLE_BYTES", "1048576")];
    let broker = Broker::start_with(data, &small);
    for n in 0..40u64 {
        let batch: Vec<_> =
            (0..50).map(|m| json!({ "data": format!("{n}-{m}-{}", "x".repeat(700)) })).collect();
        let batch = json!({ "messages": batch }).to_string();
        let topic = ["one", "two"][n as usize % 2];
        broker.publish(topic, "application/vnd.weir.messages+json", batch).await;
    }
    let found = vec![("one", broker.read_all("one").await), ("two", broker.read_all("two").await)];
    broker.kill();
    found
}

async fn holds(data: &Path, expected: &[(&str, Vec<Value>)]) {
    let broker = Broker::start(data);
    for (topic, messages) in expected {
        assert_eq!(&broker.read_all(topic).await, messages, "{topic}");
    }
}

#[tokio::test]
async fn a_sound_directory_is_verified_and_left_as_it_is() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    fill(&data).await;
    let mut before = BTreeMap::new();
    content(&data, &mut before);
    let output = weir(&["verify", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("2 topics, 2000 messages read; 0 topics damaged"),
        "{}",
        said(&output)
    );
    let mut after = BTreeMap::new();
    content(&data, &mut after);
    assert!(before == after, "nothing was changed");
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    let _broker = Broker::start(&data);
    let output = weir(&["verify", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("in use"), "{}", said(&output));
}

#[tokio::test]
async fn damage_is_told_by_topic_and_offset() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let filled = fill(&data).await;
    let receipt = |offset: usize| {
        format!("/v1/receipts/{}", filled[0].1[offset]["receipt"].as_str().unwrap())
    };
    let wal = std::fs::read_dir(data.join("journal")).unwrap().flatten().map(|entry| entry.path());
    let wal = wal.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max().unwrap();
    let mut bytes = std::fs::read(&wal).unwrap();
    // The last batch of topic one: its tables are not written yet.
    let at = bytes.windows(5).rposition(|window| window == b"38-49").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&wal, &bytes).unwrap();
    let output = weir(&["verify", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("suspect from 950 on"), "{text}");
    assert!(text.contains("2 topics, 1950 messages read; 1 topics damaged"), "{text}");

    // A broker says the same, serves the rest, and goes on when the gap is accepted.
    let broker = Broker::start(&data);
    let shown = broker.json("/v1/topics/one").await;
    assert_eq!((&shown["state"], &shown["head"]), (&json!("quarantined"), &json!(950)));
    assert_eq!(
        broker.json("/readyz").await["degraded"],
        json!([{ "reason": "damaged", "topic": "one" }])
    );
    assert_eq!(broker.read_all("two").await.len(), 1_000);
    assert_eq!(broker.read_all("one").await.len(), 950);
    assert_eq!(broker.publish("one", "x/y", "1").await.status(), 503);
    assert_eq!(broker.publish("two", "x/y", "1").await.status(), 202);
    // What became of the suspects nobody can say yet.
    problem(broker.get(&receipt(960)).await, 503, "quarantined").await;
    assert_eq!(broker.json(&receipt(940)).await["stage"], "queued");
    let damage = &shown["damage"][0];
    let url = broker.url("/v1/topics/one/recover");
    let recover = async |body: Value| broker.http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(recover(json!({ "accept_gap": { "from": 1, "to": 2 } })).await.status(), 400);
    let gap = json!({ "from": damage["from"], "to": damage["to"] });
    let shown: Value = recover(json!({ "accept_gap": gap })).await.json().await.unwrap();
    assert_eq!((&shown["state"], &shown["epoch"]), (&json!("running"), &json!(2)));
    assert_eq!(shown["gaps"], json!([gap]));
    broker.kill();
    let broker = Broker::start(&data);
    let shown = broker.json("/v1/topics/one").await;
    assert_eq!((&shown["state"], &shown["epoch"]), (&json!("running"), &json!(2)), "it stays so");
    let answer: Value = broker.publish("one", "x/y", "1").await.json().await.unwrap();
    assert_eq!(answer["offset"].as_u64(), gap["to"].as_u64().map(|to| to + 1));
    assert_eq!(broker.json(&receipt(960)).await["stage"], "lost");
    assert_eq!(broker.json(&receipt(940)).await["stage"], "queued");
    let page = broker.json("/v1/topics/one/messages?from=949").await;
    assert_eq!(page["gaps"], json!([gap]));
    assert_eq!(page["messages"].as_array().unwrap().len(), 2);
    let time = page["messages"][1]["published_at"].as_str().unwrap();
    let page = broker.json(&format!("/v1/topics/one/messages?from={time}")).await;
    assert_eq!(page["messages"][0]["offset"], answer["offset"], "times are found behind a gap");
    let mut tail = Socket::tail(&broker, "one", "949").await;
    assert_eq!(tail.messages(1).await[0]["offset"], 949);
    assert_eq!(tail.frame().await, json!({ "gap": gap }));
    assert_eq!(tail.messages(1).await[0]["offset"], answer["offset"]);
}

#[tokio::test]
async fn what_fjall_will_not_open_is_rebuilt() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let expected = fill(&data).await;
    let list = data.join("journal/keyspaces/1/current");
    std::fs::write(&list, b"nonsense").unwrap();
    let serve = weir(&["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    assert_eq!(serve.status.code(), Some(1));
    assert!(said(&serve).contains("keyspaces/1/current"), "{}", said(&serve));
    let rebuilt = directory.path().join("rebuilt");
    let arguments = ["verify", data.to_str().unwrap(), "--rebuild-into", rebuilt.to_str().unwrap()];
    let output = weir(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("2 topics, 2000 messages"), "{}", said(&output));
    holds(&rebuilt, &expected).await;
    assert!(weir(&arguments).status.code() == Some(1), "it is never written over");
}

#[tokio::test]
async fn a_backup_taken_under_load_is_consistent_and_comes_back() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let file = directory.path().join("copy.weir");
    let broker = Broker::start(&data);
    let control = Control::default();
    let mut producers = start(&broker, "a", 2, &control);
    producers.extend(start(&broker, "b", 2, &control));
    let mut named = Socket::open(&broker, "/v1/topics/n/producer?producer=p").await;
    named.frame().await;
    named.send(json!({ "id": 7, "data": 1, "message_id": "m" })).await;
    named.frame().await;
    eventually("there is something", async || control.acknowledged() > 2_000).await;
    let server = format!("http://{}", broker.address);
    let arguments = ["backup", file.to_str().unwrap(), "--server", &server];
    let taking = tokio::task::spawn_blocking({
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        move || weir(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = taking.await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    control.stop();
    gather(producers).await;
    let live = [("a", broker.read_all("a").await), ("b", broker.read_all("b").await)];
    drop(broker);

    let restored = directory.path().join("restored");
    let output = weir(&["restore", file.to_str().unwrap(), restored.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(weir(&["verify", restored.to_str().unwrap()]).status.success());
    let broker = Broker::start(&restored);
    for (topic, live) in &live {
        let found = broker.read_all(topic).await;
        assert!(found.len() > 100);
        assert_eq!(
            found,
            live[..found.len()],
            "{topic}: a beginning of what there is, receipts too"
        );
        let head = broker.json(&format!("/v1/topics/{topic}")).await["head"].clone();
        let answer: Value = broker.publish(topic, "x/y", "1").await.json().await.unwrap();
        assert_eq!(answer["offset"], head, "it goes on where the copy ends");
    }
    let mut named = Socket::open(&broker, "/v1/topics/n/producer?producer=p").await;
    assert_eq!(named.frame().await["welcome"]["resume_after"], 7);
    named.send(json!({ "id": 8, "data": 1, "message_id": "m" })).await;
    assert_eq!(named.frame().await["acks"][0]["duplicate"], true);

    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let again = directory.path().join("again");
    let restore = || weir(&["restore", file.to_str().unwrap(), again.to_str().unwrap()]);
    let output = restore();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cut short") && !again.exists(), "{}", said(&output));
    // What was begun is gone, and in the way of nothing.
    std::fs::write(&file, &whole).unwrap();
    let incomplete = directory.path().join("again.incomplete");
    assert!(!incomplete.exists());
    // One that is being made, or that a kill has left, is touched by no other restore.
    std::fs::create_dir(&incomplete).unwrap();
    let output = restore();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("again.incomplete") && said.contains("another restore"), "{said}");
    assert!(incomplete.exists() && !again.exists());
    std::fs::remove_dir(&incomplete).unwrap();
    let output = restore();
    assert!(output.status.success() && again.exists(), "{output:?}");
}
