//! Thousands of tails that wait, a thousand that never read the messages they asked for, and some
//! that do; then the same with every other way to read: pages in three forms, a message, events, a
//! backup, each by readers that take nothing and by readers that take a little now and then.
//!
//! Must hold: healthy readers are served as if the others did not exist, every socket costs little,
//! and the process stays within its memory bound. It never waits for the stuck ones to be cut off
//! (they are after a minute); that is for the tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::broker::{Broker, Launch};
use crate::bystander::percentile;
use crate::client::Client;
use crate::overload::{peak_mib, rounded};
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "stuck-readers";

const IDLE: usize = 5_000;
const STUCK: usize = 1_000;
const READING: usize = 100;
/// What an idle tail may cost the broker.
const IDLE_KIB_MAX: u64 = 16;
/// Stored in the topic before, so that a stuck reader has enough pending data.
const BACKLOG_BYTES: usize = 8 << 20;
const MESSAGES: usize = 500;
/// Slow readers of each form.
const SLOW: usize = 400;
/// The memory of the process, at default settings.
const MEMORY_MIB_MAX: u64 = 256;
/// How long slow readers are watched, and how long a poll beside them may take.
const WATCHED: Duration = Duration::from_secs(8);
const POLL_MAX: Duration = Duration::from_secs(5);
const PACE: Duration = Duration::from_millis(10);

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut row = Row::new(NAME);
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    let scratch = setting.scratch(NAME)?;
    let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch);
    let broker = launch.open()?;
    let client = Client::new(&broker.address)?;
    client.put_topic("quiet", &json!({})).await?;
    let filler = "x".repeat(10_000);
    for _ in 0..BACKLOG_BYTES / 1_000_000 {
        client.publish_many("busy", &vec![json!(filler); 100]).await?;
    }
    let alone = delivered(&broker, READING).await?;

    let before = broker.memory_kib("VmRSS:")?;
    let idle = open(&broker, "quiet", "latest", IDLE)?;
    let with_idle = broker.memory_kib("VmRSS:")?;
    let idle_kib = with_idle.saturating_sub(before) / IDLE as u64;
    let stuck = open(&broker, "busy", "earliest", STUCK)?;
    let beside = delivered(&broker, READING).await?;
    let with_stuck = broker.memory_kib("VmRSS:")?;
    let stuck_kib = with_stuck.saturating_sub(with_idle) / STUCK as u64;

    let status = client.get("/v1/status").await?;
    let readers = status["readers"].as_u64().unwrap_or(0);
    if readers < (IDLE + STUCK) as u64 {
        row.violations.push(format!("only {readers} readers are left: {status}"));
    }
    if idle_kib > IDLE_KIB_MAX {
        row.violations.push(format!("{idle_kib} KiB an idle tail, {IDLE_KIB_MAX} are allowed"));
    }
    drop((idle, stuck));
    let slow = slow_readers(&broker, &client, &mut row).await?;
    let peak = peak_mib(&broker)?;
    if peak > MEMORY_MIB_MAX {
        row.violations.push(format!("a peak of {peak} MiB, {MEMORY_MIB_MAX} are allowed"));
    }
    row.cycles = IDLE + STUCK + READING + slow;
    row.acknowledged = 2 * MESSAGES;
    row.note = format!(
        "{idle_kib} KiB an idle tail, {stuck_kib} KiB a stuck one, peak {peak} MiB with {slow} slow readers of all forms; delivery to {READING} p50 {:?} p99 {:?} (alone {:?} {:?})",
        rounded(percentile(&beside, 500)),
        rounded(percentile(&beside, 990)),
        rounded(percentile(&alone, 500)),
        rounded(percentile(&alone, 990)),
    );
    Ok(vec![row])
}

/// Every way to read but the tail: the path, and the `Accept` header.
const WAYS: [(&str, &str, usize); 6] = [
    ("/v1/topics/busy/messages?max=10000&max_bytes=67108864", "application/json", SLOW),
    ("/v1/topics/busy/messages?max=10000", "application/x-ndjson", SLOW),
    ("/v1/topics/busy/messages?max=10000", "application/msgpack", SLOW),
    ("/v1/topics/large/messages/0", "*/*", SLOW),
    ("/v1/topics/busy/events?from=earliest", "*/*", SLOW),
    ("/v1/backup", "*/*", 1),
];

/// Opens readers in every form, first ones that take nothing, then ones that take a little, and
/// polls beside them; returns the number of readers.
async fn slow_readers(broker: &Broker, client: &Client, row: &mut Row) -> anyhow::Result<usize> {
    client.publish_many("large", &[json!("x".repeat(1_000_000))]).await?;
    let mut count = 0;
    for trickle in [false, true] {
        let mut readers = Vec::new();
        for (path, accept, count) in WAYS {
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n",
                broker.address
            );
            for _ in 0..count {
                let mut reader = narrow(broker)?;
                reader.write_all(head.as_bytes())?;
                reader.set_nonblocking(true)?;
                readers.push(reader);
            }
        }
        let begun = Instant::now();
        let mut worst = Duration::ZERO;
        while begun.elapsed() < WATCHED {
            if trickle {
                for reader in &mut readers {
                    // Nothing may be pending, or it may be cut off.
                    let _ = reader.read(&mut [0; 512]);
                }
            }
            let asked = Instant::now();
            let page = client.get("/v1/topics/busy/messages?max=100").await?;
            worst = worst.max(asked.elapsed());
            ensure!(page["messages"].as_array().is_some_and(|m| m.len() == 100), "{page}");
            tokio::time::sleep(PACE).await;
        }
        if worst > POLL_MAX {
            row.violations.push(format!("a poll beside slow readers took {worst:?}"));
        }
        count += readers.len();
    }
    Ok(count)
}

/// A connection whose client buffers little unread data.
fn narrow(broker: &Broker) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect(&broker.address).context("a reader")?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(4_096)?;
    Ok(socket)
}

/// Opens tails by hand: a WebSocket library would keep buffers for each.
fn open(broker: &Broker, topic: &str, from: &str, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let request = format!(
        "GET /v1/topics/{topic}/tail?from={from} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        broker.address
    );
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut socket = narrow(broker)?;
        socket.write_all(request.as_bytes())?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer)?;
        ensure!(answer == *b"HTTP/1.1 101", "a tail is refused: {:?}", answer.escape_ascii());
        sockets.push(socket);
    }
    Ok(sockets)
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// Publishes at a pace to a topic with N readers; returns the time from when each message was due
/// until each reader had it, in order.
async fn delivered(broker: &Broker, readers: usize) -> anyhow::Result<Vec<Duration>> {
    let url = format!("ws://{}/v1/topics/busy/tail?from=latest", broker.address);
    let mut reading = Vec::new();
    for _ in 0..readers {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await?;
        reading.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while latencies.len() < MESSAGES {
                let frame = socket.next().await.context("a reader is cut off")??;
                let Message::Text(text) = frame else { continue };
                let frame: Value = serde_json::from_str(&text)?;
                for message in frame["messages"].as_array().into_iter().flatten() {
                    let due = message["data"].as_u64().context("a time")?;
                    latencies.push(Duration::from_micros(now_us().saturating_sub(due)));
                }
            }
            anyhow::Ok(latencies)
        }));
    }
    let (begun, begun_us) = (Instant::now(), now_us());
    let http = reqwest::Client::new();
    let publish = format!("http://{}/v1/topics/busy/messages", broker.address);
    for n in 1..=MESSAGES as u32 {
        let after = PACE * n;
        tokio::time::sleep_until((begun + after).into()).await;
        let due = begun_us + after.as_micros() as u64;
        let request = http.post(&publish).header("content-type", "application/json");
        let answer = request.body(due.to_string()).send().await?;
        ensure!(answer.status().is_success(), "a publish is refused: {}", answer.status());
    }
    let mut latencies = Vec::new();
    for reader in reading {
        latencies.extend(reader.await??);
    }
    latencies.sort_unstable();
    Ok(latencies)
}
