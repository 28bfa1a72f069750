//! Readers that take little or nothing: what they cost, who is cut off, and that everybody is given
//! the same bytes, however little room there is.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::support::broker::Broker;
use crate::support::socket::Socket;
use crate::support::wire::{Wire, upgrade_request};
use crate::support::{eventually, msgpack};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const MSGPACK: &str = "application/msgpack";

/// As little room as there may be for what goes out.
const LITTLE: (&str, &str) = ("WEIR__LIMITS__OUTGOING_BYTES_MAX", "1048576");

fn start(environment: &[(&str, &str)]) -> (Broker, TempDir) {
    let directory = tempdir().unwrap();
    (Broker::start_with(&directory.path().join("data"), environment), directory)
}

/// Messages of 1 to 200,000 bytes: text with quotes and line ends, JSON, and bytes.
async fn fill(broker: &Broker, count: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for n in 0..count {
        let length = [1, 300, 20_000, 70_000, 200_000][n % 5];
        let (content_type, payload) = match n % 3 {
            0 => ("text/plain", "\"a\nb\" ".repeat(length / 6 + 1).into_bytes()),
            1 => (JSON, json!({ "n": n, "text": "x".repeat(length) }).to_string().into_bytes()),
            _ => ("x/y", (0..length).map(|at| (at * 31 + n) as u8).collect()),
        };
        let answer = broker.publish("t", content_type, payload.clone()).await;
        assert_eq!(answer.status(), 202);
        payloads.push(payload);
    }
    payloads
}

/// Many small messages in few blocks.
async fn fill_small(broker: &Broker, count: usize) {
    let messages: Vec<_> = (0..count).map(|n| json!({ "data": "x".repeat(n % 50) })).collect();
    for some in messages.chunks(5_000) {
        let batch = json!({ "messages": some }).to_string();
        let answer = broker.publish("t", "application/vnd.weir.messages+json", batch).await;
        assert_eq!(answer.status(), 202);
    }
}

fn request(broker: &Broker, path: &str, accept: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", broker.address)
}

/// The ways to read the topic, as requests.
fn ways(broker: &Broker) -> Vec<String> {
    let page = "/v1/topics/t/messages?max=10000&max_bytes=67108864";
    vec![
        request(broker, page, JSON),
        request(broker, page, LINES),
        request(broker, page, MSGPACK),
        request(broker, "/v1/topics/t/messages/4", "*/*"),
        request(broker, "/v1/topics/t/events?from=earliest", "*/*"),
        upgrade_request(broker, "/v1/topics/t/tail?from=earliest"),
    ]
}

async fn stuck(broker: &Broker, request: &str, count: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..count {
        let mut wire = Wire::narrow(broker).await;
        wire.send(request).await;
        wires.push(wire);
    }
    wires
}

async fn outgoing_bytes(broker: &Broker) -> u64 {
    broker.json("/v1/status").await["outgoing_bytes"].as_u64().unwrap()
}

/// A page in this form, as a JSON object.
async fn page(broker: &Broker, query: &str, accept: &str) -> Value {
    let url = broker.url(&format!("/v1/topics/t/messages?{query}"));
    let answer = broker.http.get(url).header("accept", accept).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let next = answer.headers().get("weir-next").map(|next| next.to_str().unwrap().to_owned());
    let body = answer.bytes().await.unwrap();
    match accept {
        LINES => {
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let messages: Vec<Value> =
                lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
            json!({ "next": next.unwrap().parse::<u64>().unwrap(), "messages": messages })
        }
        MSGPACK => msgpack(&body),
        _ => serde_json::from_slice(&body).unwrap(),
    }
}

/// All offsets, page by page.
async fn offsets(broker: &Broker, accept: &str) -> Vec<u64> {
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let page = page(broker, &format!("from={from}&max=10000"), accept).await;
        let messages = page["messages"].as_array().unwrap();
        if messages.is_empty() {
            return found;
        }
        found.extend(messages.iter().map(|message| message["offset"].as_u64().unwrap()));
        from = page["next"].as_u64().unwrap();
        assert_eq!(from, found.last().unwrap() + 1, "{accept}");
    }
}

#[tokio::test]
async fn pages_longer_than_a_piece_are_whole_in_every_form_from_the_cache_and_from_the_disk() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    let payloads = fill(&broker, 30).await;
    fill_small(&broker, 12_000).await;
    let all: Vec<u64> = (0..12_030).collect();
    let check = async |broker: &Broker| {
        for accept in [JSON, LINES, MSGPACK] {
            assert_eq!(offsets(broker, accept).await, all, "{accept}");
        }
        for (offset, payload) in payloads.iter().enumerate() {
            let one = broker.get(&format!("/v1/topics/t/messages/{offset}")).await;
            assert!(one.bytes().await.unwrap() == payload.as_slice(), "message {offset}");
        }
        let many = page(broker, "max=30&max_bytes=67108864", JSON).await;
        assert_eq!(many["messages"][1]["data"]["text"].as_str().unwrap().len(), 300);
        let text = String::from_utf8(payloads[3].clone()).unwrap();
        assert_eq!(many["messages"][3]["data"], text);
    };
    check(&broker).await;
    broker.terminate();
    assert!(broker.ended().success());
    check(&Broker::start(&data)).await;
}

#[tokio::test]
async fn with_little_room_everybody_is_given_the_same_and_those_who_take_nothing_give_way() {
    let (broker, _directory) = start(&[LITTLE]);
    let payloads = fill(&broker, 30).await;
    fill_small(&broker, 2_000).await;
    let expected = page(&broker, "max=10000&max_bytes=67108864", JSON).await;
    let mut wires = Vec::new();
    for request in ways(&broker) {
        wires.extend(stuck(&broker, &request, 20).await);
    }
    eventually("there is little room left", async || outgoing_bytes(&broker).await > 600_000).await;
    assert!(outgoing_bytes(&broker).await <= 1 << 20);
    assert_eq!(page(&broker, "max=10000&max_bytes=67108864", JSON).await, expected);
    for accept in [JSON, LINES, MSGPACK] {
        assert_eq!(offsets(&broker, accept).await.len(), 2_030);
    }
    for offset in [2, 4, 14] {
        let one = broker.get(&format!("/v1/topics/t/messages/{offset}")).await;
        assert!(one.bytes().await.unwrap() == payloads[offset].as_slice(), "message {offset}");
    }
    let mut tail = Socket::tail(&broker, "t", "earliest").await;
    tail.messages(2_030).await;
    drop(wires);
    eventually("all room is free again", async || outgoing_bytes(&broker).await == 0).await;
}

#[tokio::test]
async fn readers_that_take_nothing_cost_little_in_every_form() {
    let (broker, _directory) = start(&[]);
    fill(&broker, 30).await;
    fill_small(&broker, 20_000).await;
    for request in ways(&broker) {
        let before = broker.resident_bytes();
        let wires = stuck(&broker, &request, 60).await;
        eventually("they hold room", async || outgoing_bytes(&broker).await > 500_000).await;
        let grown = broker.resident_bytes().saturating_sub(before);
        eprintln!("{}: {} KiB each", request.lines().next().unwrap(), grown / 60 / 1024);
        assert!(grown < 24 << 20, "{request}: it grew by {grown} bytes");
        drop(wires);
        eventually("they are forgotten", async || outgoing_bytes(&broker).await == 0).await;
    }
}

#[tokio::test]
async fn a_reader_below_the_floor_is_cut_off_and_one_above_it_is_not() {
    let floor = [
        ("WEIR__LIMITS__STALL_TIMEOUT_MS", "500"),
        ("WEIR__LIMITS__READER_BYTES_PER_S_MIN", "10000000"),
    ];
    let (slow, _one) = start(&floor);
    let (patient, _other) = start(&floor[..1]);
    for broker in [&slow, &patient] {
        fill(broker, 60).await;
    }
    for request in ways(&slow).into_iter().filter(|request| !request.contains("messages/4")) {
        let trickle = async |broker: &Broker| {
            let mut wire = Wire::narrow(broker).await;
            wire.send(&request).await;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let mut sips = 0;
            while sips < 80 && wire.sip().await {
                pace.tick().await;
                sips += 1;
            }
            sips
        };
        let (cut, kept) = tokio::join!(trickle(&slow), trickle(&patient));
        assert!(cut < 80, "{request}: it is cut off");
        assert_eq!(kept, 80, "{request}");
    }
}

#[tokio::test]
async fn a_backup_that_nobody_takes_holds_a_bounded_part_and_ends_with_its_reader() {
    let (broker, _directory) = start(&[LITTLE]);
    fill(&broker, 100).await;
    let before = broker.resident_bytes();
    let backup = stuck(&broker, &request(&broker, "/v1/backup", "*/*"), 1).await;
    eventually("it is under way", async || outgoing_bytes(&broker).await > 100_000).await;
    assert!(outgoing_bytes(&broker).await <= 1 << 20);
    let page = page(&broker, "max=10", JSON).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 10, "others are served beside it");
    assert!(broker.resident_bytes().saturating_sub(before) < 16 << 20);
    drop(backup);
    eventually("its room is free", async || outgoing_bytes(&broker).await == 0).await;
    let whole = broker.get("/v1/backup").await.bytes().await.unwrap();
    assert!(whole.starts_with(b"weir backup 2\n") && whole.len() > 4_000_000);
}

#[tokio::test]
async fn what_is_published_beside_a_backup_that_nobody_takes_is_not_kept_in_memory() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__TAIL_CACHE_BYTES_MAX", "1048576")]);
    fill(&broker, 100).await;
    let _backup = stuck(&broker, &request(&broker, "/v1/backup", "*/*"), 1).await;
    eventually("it is under way", async || outgoing_bytes(&broker).await > 100_000).await;
    let before = broker.resident_bytes();
    for n in 0..250u32 {
        let payload: Vec<u8> =
            (0..1_000_000).map(|at: u32| (at.wrapping_mul(7919) + n) as u8).collect();
        assert_eq!(broker.publish("t", "x/y", payload).await.status(), 202);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 150 << 20, "it grew by {grown} bytes");
}
