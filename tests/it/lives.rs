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
async fn a_position_of_one_copy_passes_over_nothing_in_another() {
    let directory = tempdir().unwrap();
    let [data, one, two] = ["data", "one", "two"].map(|name| directory.path().join(name));
    let source = Broker::start(&data);
    publish(&source, "t", "kept").await;
    let backup = source.get("/v1/backup").await.bytes().await.unwrap();
    drop(source);
    let mut positions = Vec::new();
    for (copy, name) in [(&one, "one"), (&two, "two")] {
        restore(&backup, copy);
        let broker = Broker::start(copy);
        for n in 0..5 {
            publish(&broker, "t", &format!("{name} {n}")).await;
        }
        let page = broker.json("/v1/topics/t/messages").await;
        positions.push(page["position"].as_str().unwrap().to_owned());
        let page = broker.json(&format!("/v1/topics/t/messages?from={}", positions[0])).await;
        let found = page["messages"].as_array().unwrap();
        let expected = if name == "one" { 0 } else { 5 };
        assert_eq!(found.len(), expected, "{page}");
        assert_eq!(page["gaps"].is_array(), name == "two", "{page}");
    }
    assert_ne!(positions[0], positions[1]);
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

/// The events that come first, until so many of them have come: gaps and messages' data.
async fn events(
    broker: &Broker,
    query: &str,
    last_event_id: Option<&str>,
    count: usize,
) -> Vec<String> {
    let mut request = broker.http.get(broker.url(&format!("/v1/topics/t/events{query}")));
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{query}");
    let mut text = String::new();
    loop {
        let events = text.split("\n\n").filter(|event| event.contains("data:")).count();
        if events > count || (events == count && text.ends_with("\n\n")) {
            break;
        }
        text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
    }
    let data = |event: &str| {
        let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
        let value: Value = serde_json::from_str(data).unwrap();
        Some(match event.contains("event: gap") {
            true => format!("gap {}-{}", value["from"], value["to"]),
            false => value["data"].as_str().unwrap().to_owned(),
        })
    };
    text.split("\n\n").filter_map(data).take(count).collect()
}

#[tokio::test]
async fn readers_that_come_with_a_position_of_an_earlier_life_begin_at_the_beginning_and_are_told()
{
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for n in 0..5 {
        publish(&broker, "t", &format!("old {n}")).await;
    }
    let page = broker.json("/v1/topics/t/messages").await;
    assert_eq!(page["position"], "1-5");
    delete(&broker, "t").await;
    for n in 0..7 {
        publish(&broker, "t", &format!("new {n}")).await;
    }
    let expected = ["gap 5-5", "new 0", "new 1"];
    for (query, id) in [("", Some("1-4")), ("?lastEventId=1-4", None), ("?from=1-5", None)] {
        assert_eq!(events(&broker, query, id, 3).await, expected, "{query}");
    }
    let mut tail = Socket::open(&broker, "/v1/topics/t/tail?from=1-5").await;
    assert_eq!(tail.frame().await, json!({ "gap": { "from": 5, "to": 5 } }));
    assert_eq!(tail.messages(7).await[0]["data"], "new 0");
    let page = broker.json("/v1/topics/t/messages?from=1-5").await;
    assert_eq!(page["gaps"], json!([{ "from": 5, "to": 5 }]));
    assert_eq!(page["messages"].as_array().unwrap().len(), 7);
    assert_eq!(page["position"], "2-7");
    // A position of this life is an offset, in every form.
    for (accept, position) in [("application/x-ndjson", "2-3"), ("application/msgpack", "2-3")] {
        let url = broker.url(&format!("/v1/topics/t/messages?from={position}"));
        let answer = broker.http.get(url).header("accept", accept).send().await.unwrap();
        if accept == "application/x-ndjson" {
            assert_eq!(answer.headers()["weir-position"], "2-7");
            assert_eq!(answer.text().await.unwrap().lines().count(), 4);
        } else {
            let page = crate::support::msgpack(&answer.bytes().await.unwrap());
            assert_eq!(page["position"], "2-7");
            assert_eq!(page["messages"].as_array().unwrap().len(), 4);
        }
    }
    assert_eq!(events(&broker, "?from=2-3", None, 1).await, ["new 3"]);
    assert_eq!(events(&broker, "", Some("2-3"), 1).await, ["new 4"]);
    for wrong in ["2-8", "2-", "x-1", "2-1-1"] {
        let answer = broker.get(&format!("/v1/topics/t/messages?from={wrong}")).await;
        assert_eq!(answer.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn readers_of_a_restored_copy_are_told_what_they_saw_that_is_not_there() {
    let directory = tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| directory.path().join(name));
    let source = Broker::start(&data);
    publish(&source, "t", "kept").await;
    let backup = source.get("/v1/backup").await.bytes().await.unwrap();
    publish(&source, "t", "gone 1").await;
    publish(&source, "t", "gone 2").await;
    drop(source);
    restore(&backup, &copy);
    let broker = Broker::start(&copy);
    publish(&broker, "t", "new").await;
    // One who saw all of the source, and one who saw what is here.
    assert_eq!(events(&broker, "", Some("1-2"), 2).await, ["gap 1-1099511627775", "new"]);
    assert_eq!(events(&broker, "", Some("1-0"), 2).await, ["gap 1-1099511627775", "new"]);
    let mut tail = Socket::open(&broker, "/v1/topics/t/tail?from=1-3").await;
    assert_eq!(tail.frame().await["gap"]["from"], 1);
    assert_eq!(tail.messages(1).await[0]["data"], "new");
    let page = broker.json("/v1/topics/t/messages?from=1-1").await;
    assert_eq!(
        (&page["gaps"][0]["from"], &page["messages"][0]["data"]),
        (&json!(1), &json!("new"))
    );
}
