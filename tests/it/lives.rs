//! A second life of a topic: deleted and made again, or restored from a backup. Nothing that an earlier
//! one gave out is given out again, and its readers are told.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::Broker;
use crate::support::socket::Socket;

async fn publish(broker: &Broker, topic: &str, body: &str) -> Value {
    broker.publish(topic, "text/plain", body.to_owned()).await.json().await.unwrap()
}

async fn epoch(broker: &Broker, topic: &str) -> u64 {
    broker.json(&format!("/v1/topics/{topic}")).await["epoch"].as_u64().unwrap()
}

async fn delete(broker: &Broker, topic: &str) {
    let url = broker.url(&format!("/v1/topics/{topic}"));
    assert_eq!(broker.http.delete(url).send().await.unwrap().status(), 204);
}

async fn stage(broker: &Broker, receipt: &Value) -> Value {
    let path = format!("/v1/receipts/{}", receipt["receipt"].as_str().unwrap());
    let answer = broker.get(&path).await;
    match answer.status().as_u16() {
        200 => answer.json::<Value>().await.unwrap()["stage"].clone(),
        status => json!(status),
    }
}

fn restore(backup: &[u8], directory: &Path) {
    let file = directory.with_extension("backup");
    std::fs::write(&file, backup).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.arg("restore").arg(&file).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_topic_made_again_goes_on_in_a_later_epoch_whatever_happens_between() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let mut broker = Broker::start(&data);
    let mut epochs = Vec::new();
    let mut receipts = Vec::new();
    for round in 0..4 {
        receipts.push(publish(&broker, "t", "x").await);
        epochs.push(epoch(&broker, "t").await);
        delete(&broker, "t").await;
        if round % 2 == 1 {
            broker.kill();
            broker = Broker::start(&data);
        }
    }
    assert_eq!(epochs, [1, 2, 3, 4]);
    publish(&broker, "other", "x").await;
    assert_eq!(epoch(&broker, "other").await, 1, "a name that is new begins anew");
    publish(&broker, "t", "y").await;
    for receipt in receipts {
        assert_eq!(stage(&broker, &receipt).await, 404, "of a topic that is gone");
    }
}

#[tokio::test]
async fn a_restored_copy_gives_out_nothing_that_its_source_or_another_copy_gave_out() {
    let directory = tempdir().unwrap();
    let [data, one, two] = ["data", "one", "two"].map(|name| directory.path().join(name));
    let source = Broker::start(&data);
    let kept = publish(&source, "t", "kept").await;
    let backup = source.get("/v1/backup").await.bytes().await.unwrap();
    let (gone, gone_too) = (publish(&source, "t", "gone").await, publish(&source, "u", "x").await);
    let before = epoch(&source, "t").await;
    drop(source);
    let mut given = vec![("t", before, gone), ("u", before, gone_too)];
    for copy in [&one, &two] {
        restore(&backup, copy);
        let broker = Broker::start(copy);
        for (.., receipt) in &given {
            let stage = stage(&broker, receipt).await;
            assert!(stage == 404 || stage == "lost", "{stage}");
        }
        assert_eq!(stage(&broker, &kept).await, "queued");
        let messages = broker.read_all("t").await;
        assert_eq!(messages[0]["receipt"], kept["receipt"], "as its producer knows it");
        for topic in ["t", "u"] {
            let new = publish(&broker, topic, "new").await;
            let epoch = epoch(&broker, topic).await;
            assert_eq!(stage(&broker, &new).await, "queued");
            let mut earlier = given.iter().filter(|(of, ..)| *of == topic);
            assert!(earlier.all(|(_, e, g)| *e < epoch && g["receipt"] != new["receipt"]));
            given.push((topic, epoch, new));
        }
        // One who kept an offset only is told.
        let page = broker.json("/v1/topics/t/messages?from=2").await;
        assert_eq!(page["gaps"][0]["from"], 2, "{page}");
        assert_eq!(page["messages"][0]["data"], "new");
    }
}

#[tokio::test]
async fn a_copy_of_a_copy_knows_the_receipts_of_all_that_it_holds() {
    let directory = tempdir().unwrap();
    let mut data = directory.path().join("0");
    let mut receipts = Vec::new();
    for life in 1..4 {
        let broker = Broker::start(&data);
        receipts.push(publish(&broker, "t", &life.to_string()).await);
        let backup = broker.get("/v1/backup").await.bytes().await.unwrap();
        drop(broker);
        data = directory.path().join(life.to_string());
        restore(&backup, &data);
    }
    let broker = Broker::start(&data);
    let messages = broker.read_all("t").await;
    assert_eq!(messages.len(), 3);
    for (message, receipt) in messages.iter().zip(&receipts) {
        assert_eq!(message["receipt"], receipt["receipt"]);
        assert_eq!(stage(&broker, receipt).await, "queued");
    }
}

#[tokio::test]
async fn a_named_producer_goes_on_behind_what_the_copy_holds() {
    let directory = tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| directory.path().join(name));
    let broker = Broker::start(&data);
    let path = "/v1/topics/t/producer?producer=meter";
    let mut socket = Socket::open(&broker, path).await;
    socket.frame().await;
    for id in [7, 8] {
        socket.send(json!({ "id": id, "data": id })).await;
        socket.frame().await;
    }
    let backup = broker.get("/v1/backup").await.bytes().await.unwrap();
    socket.send(json!({ "id": 9, "data": 9 })).await;
    socket.frame().await;
    drop((socket, broker));
    restore(&backup, &copy);
    let broker = Broker::start(&copy);
    let mut socket = Socket::open(&broker, path).await;
    assert_eq!(socket.frame().await["welcome"]["resume_after"], 8);
    socket.send(json!({ "id": 9, "data": "again" })).await;
    let ack = socket.frame().await["acks"][0].clone();
    assert_eq!(ack["duplicate"], false);
    assert_eq!(broker.read_all("t").await.len(), 3);
}
