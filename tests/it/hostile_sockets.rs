//! Sockets, streams and connections from clients that mean no good, or can't do better.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::socket::Socket;
use crate::support::wire::{
    BINARY, PING, PONG, TEXT, Wire, begun, close, frame, unharmed, upgrade_request,
};

const CONTINUATION: u8 = 0x80;
/// Without FIN.
const MORE: u8 = 0x7f;

const PRODUCER: &str = "/v1/topics/t/producer";
const TAIL: &str = "/v1/topics/t/tail?from=earliest";
const EVENTS: &str = "/v1/topics/t/events?from=earliest";
const POLL: &str = "/v1/topics/t/messages?max=10000&max_bytes=67108864";

fn start(environment: &[(&str, &str)]) -> (Broker, TempDir) {
    let directory = tempdir().unwrap();
    (Broker::start_with(&directory.path().join("data"), environment), directory)
}

async fn status(broker: &Broker, member: &str) -> u64 {
    broker.json("/v1/status").await[member].as_u64().unwrap()
}

/// Publishes so many messages of so many bytes.
async fn fill(broker: &Broker, topic: &str, count: usize, bytes: usize) {
    let messages: Vec<Value> = (0..count).map(|_| json!({ "data": "m".repeat(bytes) })).collect();
    for some in messages.chunks((8 << 20) / bytes.max(1)) {
        let batch = json!({ "messages": some }).to_string();
        let answer = broker.publish(topic, "application/vnd.weir.messages+json", batch).await;
        assert_eq!(answer.status(), 202);
    }
}

/// Writes the same again and again, until the other side takes nothing for a while or has closed;
/// how often it was written. Far more than any buffer on the way is a failure.
async fn flood(wire: &mut Wire, bytes: &[u8]) -> usize {
    let mut times = 0;
    let pause = Duration::from_millis(300);
    while let Ok(Ok(())) = timeout(pause, wire.stream.write_all(bytes)).await {
        times += 1;
        assert!(times * bytes.len() < 100 << 20, "it reads on and on");
    }
    times
}

#[tokio::test]
async fn frames_that_break_the_protocol_or_a_limit_close_the_socket_with_the_right_code() {
    let (broker, _directory) = start(&[
        ("WEIR__LIMITS__MESSAGE_BYTES_MAX", "1000"),
        ("WEIR__TOPIC_DEFAULTS__MESSAGE_BYTES_MAX", "1000"),
        ("WEIR__LIMITS__FRAME_BYTES_MAX", "2000"),
        ("WEIR__LIMITS__FRAGMENTS_MAX", "10"),
    ]);
    let endless = [frame(TEXT & MORE, "\""), frame(CONTINUATION & MORE, "").repeat(10)].concat();
    let too_long = [frame(TEXT & MORE, [b'x'; 1500]), frame(CONTINUATION, [b'x'; 501])].concat();
    let not_text = [frame(TEXT & MORE, b"\xc3"), frame(CONTINUATION, "x")].concat();
    let whole_within = [frame(TEXT & MORE, "x"), frame(TEXT, "x")].concat();
    for (what, bytes, code) in [
        ("a declared length of a tebibyte", begun(TEXT, 1 << 40), 1009),
        ("a declared length of a tebibyte in a fragment", begun(BINARY & MORE, 1 << 40), 1009),
        ("the largest length there is", begun(BINARY, i64::MAX as u64), 1009),
        ("a length with its highest bit set", begun(BINARY, 1 << 63), 1002),
        ("all bits of a length set", begun(BINARY, u64::MAX), 1002),
        ("a tebibyte of ping", begun(PING, 1 << 40), 1002),
        ("a frame one byte over the limit", frame(TEXT, [b'x'; 2001]), 1009),
        ("more fragments than allowed", endless, 1009),
        ("fragments longer than a frame may be", too_long, 1009),
        ("text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
        ("fragments that are not UTF-8", not_text, 1007),
        ("an unmasked frame", vec![TEXT, 1, b'x'], 1002),
        ("a reserved bit", frame(0xc1, "x"), 1002),
        ("an unknown opcode", frame(0x83, "x"), 1002),
        ("a continuation of nothing", frame(CONTINUATION, "x"), 1002),
        ("a whole message within another", whole_within, 1002),
        ("a fragmented ping", frame(PING & MORE, "x"), 1002),
        ("a goodbye with a code that may not be sent", close(1005, ""), 1002),
    ] {
        for path in [PRODUCER, TAIL, "/v1/debug/echo"] {
            let mut wire = Wire::upgraded(&broker, path).await;
            wire.offer(&bytes).await;
            assert_eq!(wire.close_code().await, code, "{what}, {path}");
        }
    }
    // The broker is none the worse, and a frame of exactly the limit is taken.
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send(format!("{:<2000}", r#"{"id":1,"data":1}"#)).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 0);
    // So are ten fragments that are as long together.
    let message = format!("{:<2000}", r#"{"data":2}"#);
    let mut pieces = message.as_bytes().chunks(200);
    let mut bytes = frame(TEXT & MORE, pieces.next().unwrap());
    for _ in 0..8 {
        bytes.extend(frame(CONTINUATION & MORE, pieces.next().unwrap()));
    }
    bytes.extend(frame(CONTINUATION, pieces.next().unwrap()));
    let mut wire = Wire::upgraded(&broker, PRODUCER).await;
    wire.send(bytes).await;
    let mut tail = Socket::tail(&broker, "t", "1").await;
    assert_eq!(tail.messages(1).await[0]["data"], 2);
}

#[tokio::test]
async fn a_message_in_fragments_with_a_ping_between_them_is_taken() {
    let (broker, _directory) = start(&[]);
    let mut wire = Wire::upgraded(&broker, PRODUCER).await;
    let bytes = [
        frame(TEXT & MORE, b"{\"data\":\"h\xc3"),
        frame(PING, "are you there"),
        frame(CONTINUATION & MORE, b"\xa9\"}"),
        frame(CONTINUATION, ""),
    ];
    wire.send(bytes.concat()).await;
    let mut tail = Socket::tail(&broker, "t", "earliest").await;
    assert_eq!(tail.messages(1).await[0]["data"], "hé");
}

#[tokio::test]
async fn messages_followed_by_the_end_of_the_connection_are_taken() {
    let (broker, _directory) = start(&[]);
    let mut head = 0;
    for count in [1, 10, 100, 1_000] {
        let mut wire = Wire::upgraded(&broker, PRODUCER).await;
        wire.send(frame(TEXT, r#"{"data":1}"#).repeat(count)).await;
        wire.stream.shutdown().await.unwrap();
        wire.rest().await;
        head += count;
        assert_eq!(broker.json("/v1/topics/t").await["head"], head);
    }
}

#[tokio::test]
async fn frames_that_are_only_announced_cost_no_memory() {
    let (broker, _directory) = start(&[]);
    let before = broker.resident_bytes();
    let mut wires = Vec::new();
    for n in 0..300 {
        let path = [PRODUCER, TAIL, "/v1/debug/echo"][n % 3];
        let mut wire = Wire::upgraded(&broker, path).await;
        let fragment = frame(TEXT & MORE, "begun");
        let large = begun(if n % 2 == 0 { TEXT } else { CONTINUATION }, 4_000_000);
        let begun = if n % 2 == 0 { large } else { [fragment, large].concat() };
        wire.send([&begun[..], &[0; 14]].concat()).await;
        wires.push(wire);
    }
    // They have been read once a later socket's message has been answered on every worker.
    for _ in 0..8 {
        let mut socket = Socket::producer(&broker, "t", "").await;
        socket.send(r#"{"id":1,"data":1}"#).await;
        socket.frame().await;
    }
    unharmed(&broker, before).await;
}

#[tokio::test]
async fn frames_that_come_but_for_their_end_cost_little_however_many_they_are() {
    let (broker, _directory) = start(&[]);
    let before = broker.resident_bytes();
    let large = [begun(TEXT, 4_000_000), vec![b'x'; 3_900_000]].concat();
    let fragments = [frame(TEXT & MORE, vec![b'x'; 1 << 20]).as_slice()]
        .concat()
        .into_iter()
        .chain(frame(CONTINUATION & MORE, vec![b'x'; 1 << 20]).repeat(2))
        .collect::<Vec<u8>>();
    let mut wires = Vec::new();
    for n in 0..50 {
        let mut wire = Wire::upgraded(&broker, [PRODUCER, TAIL][n % 2]).await;
        // There is room for a few; what the others send waits in the kernel, as far as it takes it.
        let bytes = if n % 4 < 2 { &large } else { &fragments };
        let _ = timeout(Duration::from_millis(500), wire.offer(bytes)).await;
        wires.push(wire);
    }
    unharmed(&broker, before).await;
}

#[tokio::test]
async fn fragments_without_end_are_cut_off_and_cost_little() {
    let (broker, _directory) = start(&[]);
    let before = broker.resident_bytes();
    let kinds = [
        ("empty fragments", frame(CONTINUATION & MORE, "")),
        ("small fragments", frame(CONTINUATION & MORE, [b'x'; 100])),
        ("large fragments", frame(CONTINUATION & MORE, [b'x'; 100_000])),
    ];
    let cases = kinds.iter().flat_map(|kind| [PRODUCER, TAIL].map(|path| (kind, path)));
    join_all(cases.map(async |((what, fragment), path)| {
        let mut wire = Wire::upgraded(&broker, path).await;
        wire.send(frame(TEXT & MORE, "")).await;
        // Until it is closed, or not read any more.
        let many = fragment.repeat(100);
        while let Ok(true) = timeout(Duration::from_millis(500), wire.offer(&many)).await {}
        assert_eq!(wire.close_code().await, 1009, "{what}, {path}");
    }))
    .await;
    unharmed(&broker, before).await;
}

#[tokio::test]
async fn sockets_that_do_not_answer_pings_are_closed_and_those_that_do_stay() {
    let (broker, _directory) = start(&[
        ("WEIR__LIMITS__PING_INTERVAL_MS", "100"),
        ("WEIR__LIMITS__SILENCE_TIMEOUT_MS", "400"),
    ]);
    let mut healthy = Wire::upgraded(&broker, "/v1/debug/echo").await;
    let mut silent = Vec::new();
    for path in [PRODUCER, TAIL, "/v1/debug/echo"] {
        for begun in [
            // Nothing at all; within a header; within a frame; within a message.
            Vec::new(),
            vec![TEXT],
            begun(TEXT, 100),
            begun(BINARY, 1_000_000),
            [begun(TEXT, 100), vec![b'x'; 99]].concat(),
            frame(TEXT & MORE, "x"),
        ] {
            let mut wire = Wire::upgraded(&broker, path).await;
            wire.send(begun).await;
            silent.push(wire);
        }
    }
    let silent = tokio::spawn(async move {
        for mut wire in silent {
            let mut pings = 0;
            while let Some(frame) = wire.frame().await {
                pings += usize::from(frame.first == PING);
            }
            assert!((2..=8).contains(&pings), "asked {pings} times");
        }
    });
    // A frame that comes little by little for ever is silence, too.
    let mut wire = Wire::upgraded(&broker, "/v1/debug/echo").await;
    wire.send(begun(TEXT, 1_000_000)).await;
    let slow = tokio::spawn(async move { wire.dripping("x").await });
    // Long after the others are gone.
    for _ in 0..20 {
        let asked = healthy.frame().await.expect("a ping");
        assert_eq!(asked.first, PING);
        healthy.send(frame(PONG, asked.payload)).await;
    }
    silent.await.unwrap();
    slow.await.unwrap();
    healthy.send(frame(TEXT, "still here")).await;
    while healthy.frame().await.expect("an echo").payload != b"still here" {}
    assert_eq!(status(&broker, "sessions").await, 1);
}

#[tokio::test]
async fn readers_that_take_nothing_are_cut_off_and_the_others_go_on() {
    // Longer than the reader in this process may have to wait for a turn on a busy machine.
    let (broker, _directory) = start(&[("WEIR__LIMITS__STALL_TIMEOUT_MS", "3000")]);
    fill(&broker, "t", 2_000, 10_000).await;
    let before = broker.resident_bytes();
    let connections = status(&broker, "connections").await;
    let mut stuck = Vec::new();
    for _ in 0..15 {
        stuck.push(Wire::narrow(&broker).await.upgrade(&broker, TAIL).await);
        for path in [EVENTS, POLL] {
            let get = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", broker.address);
            let mut wire = Wire::narrow(&broker).await;
            wire.send(get).await;
            stuck.push(wire);
        }
    }
    let mut healthy = Socket::tail(&broker, "t", "earliest").await;
    let mut read = healthy.messages(2_000).await.len();
    // Four reads at a time hold the chunks they read from, of 8 MiB here, beside the block cache of
    // 32 MiB, and the allocator keeps what they gave back (92 to 152 MiB have been seen, more the less
    // of the topic the tail cache holds); 45 readers at once would take 360 MiB.
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 192 << 20, "it grew by {grown} bytes");
    eventually("only the healthy reader is left", async || {
        status(&broker, "readers").await == 1
            && status(&broker, "connections").await <= connections + 1
    })
    .await;
    fill(&broker, "t", 100, 10_000).await;
    read += healthy.messages(100).await.len();
    assert_eq!(read, 2_100);
    // They were given less than all there was.
    for mut wire in stuck {
        assert!(wire.rest().await.len() < 10_000_000);
    }
}

#[tokio::test]
async fn readers_that_take_little_by_little_are_not_cut_off() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__STALL_TIMEOUT_MS", "1000")]);
    fill(&broker, "t", 400, 10_000).await;
    let get =
        format!("GET {POLL} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", broker.address);
    let mut slow = Wire::narrow(&broker).await;
    slow.send(get).await;
    let begun = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while slow.sip().await {
        pace.tick().await;
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "longer than a stall may take");
    let answer = slow.answer().await;
    assert_eq!(answer.json()["messages"].as_array().unwrap().len(), 400);
}

#[tokio::test]
async fn floods_of_frames_whose_answers_nobody_reads_stop_at_the_socket() {
    let numbers = format!("[{}0]", "0,".repeat(9_999));
    let packed = [&[0xdc, 0x27, 0x10][..], &[0; 10_000]].concat();
    for (what, path, bytes) in [
        ("messages", PRODUCER, frame(TEXT, r#"{"id":1,"data":1}"#).repeat(1_000)),
        ("frames that are no messages", PRODUCER, frame(TEXT, "x").repeat(1_000)),
        ("lists of what are no messages", PRODUCER, frame(TEXT, &numbers)),
        ("lists in MessagePack", PRODUCER, frame(BINARY, packed)),
        ("pings", PRODUCER, frame(PING, [b'x'; 125]).repeat(100)),
        ("frames to a tail", TAIL, frame(TEXT, "").repeat(1_000)),
        ("small echoes", "/v1/debug/echo", frame(TEXT, "x").repeat(1_000)),
    ] {
        // What is stored is not what this is about.
        let (broker, _directory) = start(&[("WEIR__LIMITS__TAIL_CACHE_BYTES_MAX", "1048576")]);
        fill(&broker, "t", 1, 1).await;
        let before = broker.resident_bytes();
        let floods = (0..4).map(async |_| {
            let mut wire = Wire::narrow(&broker).await.upgrade(&broker, path).await;
            flood(&mut wire, &bytes).await;
            wire
        });
        let wires = join_all(floods).await;
        eprintln!("{what}");
        unharmed(&broker, before).await;
        // Who begins to read is given what is there; who sent nothing but errors has been closed.
        let closed = what.starts_with("lists");
        for mut wire in wires {
            for _ in 0..if closed { 0 } else { 100 } {
                assert!(wire.frame().await.is_some(), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn floods_of_frames_that_have_no_answer_are_read_and_cost_little() {
    let (broker, _directory) = start(&[("WEIR__LIMITS__TAIL_CACHE_BYTES_MAX", "1048576")]);
    fill(&broker, "t", 1, 1).await;
    let before = broker.resident_bytes();
    let one_way = frame(TEXT, r#"{"data":1}"#).repeat(1_000);
    let mut wires = Vec::new();
    for (path, bytes) in [(TAIL, frame(PONG, "").repeat(1_000)), (PRODUCER, one_way)] {
        for _ in 0..4 {
            let mut wire = Wire::upgraded(&broker, path).await;
            for _ in 0..10 {
                wire.send(&bytes).await;
            }
            wires.push(wire);
        }
    }
    eventually("all are taken", async || broker.json("/v1/topics/t").await["head"] == 40_001).await;
    unharmed(&broker, before).await;
}

#[tokio::test]
async fn a_frame_may_hold_as_many_messages_as_the_limit_and_no_more() {
    let (broker, _directory) = start(&[]);
    let of = |count: u64| -> Vec<Value> {
        (1..=count).map(|id| json!({ "id": id, "data": 1 })).collect()
    };
    let mut socket = Socket::producer(&broker, "t", "?acks=range").await;
    socket.send(json!(of(10_000))).await;
    let mut acknowledged = 0;
    while acknowledged < 10_000 {
        acknowledged = socket.frame().await["acked"]["to"].as_u64().unwrap();
    }
    let mut socket = Socket::producer(&broker, "t", "").await;
    for batch in [10_001, 20_000] {
        socket.send(json!(of(batch))).await;
        let answer = socket.frame().await;
        assert_eq!(answer["error"]["code"], "invalid-request", "{answer:.300}");
        assert!(answer["error"]["detail"].as_str().unwrap().contains("10000"), "{answer}");
    }
    // 2^32 of them are announced, and none comes.
    socket.send_binary([0xdd, 255, 255, 255, 255]).await;
    assert_eq!(socket.frame().await["error"]["code"], "invalid-request");
    let batch =
        |count| json!({ "messages": of(count) }).to_string().replace(r#""id""#, r#""ttl_ms""#);
    let content_type = "application/vnd.weir.messages+json";
    let answer = broker.publish("u", content_type, batch(10_000)).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["accepted"], 10_000);
    problem(broker.publish("u", content_type, batch(10_001)).await, 400, "invalid-request").await;
    let lines = |count| "1\n".repeat(count);
    let answer = broker.publish("u", "application/x-ndjson", lines(10_000)).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["accepted"], 10_000);
    let answer = broker.publish("u", "application/x-ndjson", lines(10_001)).await;
    problem(answer, 400, "invalid-request").await;
    let head = |topic| broker.json(topic);
    assert_eq!(head("/v1/topics/t").await["head"], 10_000);
    assert_eq!(head("/v1/topics/u").await["head"], 20_000);
}

#[tokio::test]
async fn beyond_its_credit_a_socket_is_not_read_until_acknowledgements_catch_up() {
    let (broker, _directory) = start(&[
        ("WEIR__LIMITS__CREDIT_MESSAGES", "100"),
        ("WEIR__SUPERVISION__BACKOFF_MS", "1500"),
        ("WEIR__SUPERVISION__BACKOFF_MS_MAX", "1500"),
    ]);
    broker.publish("t", "x/y", "0").await;
    broker.plan_fault("ingest-received", 1).await;
    let before = broker.resident_bytes();
    let mut wires = Vec::new();
    for _ in 0..4 {
        let mut wire = Wire::narrow(&broker).await.upgrade(&broker, PRODUCER).await;
        let welcome = wire.frame().await.unwrap();
        let welcome: Value = serde_json::from_slice(&welcome.payload).unwrap();
        assert_eq!(welcome["welcome"]["credit"]["messages"], 100);
        wires.push(wire);
    }
    let message = frame(TEXT, r#"{"id":1,"data":1}"#);
    // The ingest logger is away; no more is taken than the buffers on the way hold.
    let many = message.repeat(100);
    let floods = wires.iter_mut().map(async |wire| flood(wire, &many).await * 100);
    let written = join_all(floods).await;
    unharmed(&broker, before).await;
    // Nothing that came whole is lost.
    for (wire, written) in wires.iter_mut().zip(written) {
        let mut acknowledged = 0;
        while acknowledged < written {
            let frame = wire.frame().await.expect("acknowledgements");
            let Ok(answer) = serde_json::from_slice::<Value>(&frame.payload) else { continue };
            acknowledged += answer["acks"].as_array().map_or(0, Vec::len);
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_there_is_room_again_when_one_ends() {
    for (limit, other) in [
        ("WEIR__LIMITS__CONNECTIONS_MAX", "connections_max"),
        ("WEIR__LIMITS__CONNECTIONS_PER_ADDRESS_MAX", "connections_per_address_max"),
    ] {
        let (broker, _directory) = start(&[(limit, "4")]);
        let get = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", broker.address);
        let mut open = Vec::new();
        for path in [PRODUCER, TAIL] {
            open.push(Wire::upgraded(&broker, path).await);
        }
        for _ in 0..2 {
            let mut wire = Wire::sending(&broker, &get).await;
            assert_eq!(wire.answer().await.status, 200, "up to the limit");
            open.push(wire);
        }
        let producer = upgrade_request(&broker, PRODUCER);
        for request in [&get, &producer, &get.replace("GET", "PUT"), &get.repeat(3)] {
            let mut wire = Wire::sending(&broker, request).await;
            let answer = wire.answer().await;
            let problem = answer.problem(429, "too-many-connections");
            assert!(problem["detail"].as_str().unwrap().contains(other), "{problem}");
            assert_eq!(
                (&problem["temporary"], answer.header("retry-after")),
                (&json!(true), Some("1"))
            );
            wire.rest().await;
        }
        // Those within it are served as before.
        open[3].send(&get).await;
        assert_eq!(open[3].answer().await.status, 200);
        for closed in 0..4 {
            open.swap_remove(closed % open.len());
            let next = RefCell::new(None);
            eventually("there is room again", async || {
                let mut wire = Wire::sending(&broker, &get).await;
                let has_room = wire.answer().await.status == 200;
                next.replace(has_room.then_some(wire));
                has_room
            })
            .await;
            open.extend(next.take());
            let refused = Wire::sending(&broker, &get).await.answer().await;
            assert_eq!(refused.status, 429, "and for no more than one");
        }
    }
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out_for_long() {
    let (broker, _directory) = start(&[
        ("WEIR__LIMITS__CONNECTIONS_MAX", "10"),
        ("WEIR__LIMITS__HEADER_TIMEOUT_MS", "500"),
    ]);
    let before = broker.resident_bytes();
    // More than those over the limit that are accepted at all.
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(Wire::connect(&broker).await);
    }
    let get = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", broker.address);
    eventually("there is room again", async || {
        Wire::sending(&broker, &get).await.answer().await.status == 200
    })
    .await;
    unharmed(&broker, before).await;
}
