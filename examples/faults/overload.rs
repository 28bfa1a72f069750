//! Ten and more times as much as the broker can take, through every interface at once, from clients
//! that read no answers and retry at once when they are asked to wait.
//!
//! Must hold: the broker's memory stays below [`MEMORY_MAX_MIB`], it is not killed, it refuses
//! where it has no room, and bystanders that publish a message now and then are served all along.
//! It never sends anything that breaks a protocol; that is for the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::broker::{Broker, Launch};
use crate::bystander::{crowd, percentile};
use crate::client::Client;
use crate::report::Row;
use crate::setting::Setting;

pub const NAME: &str = "overload";

/// The memory of the broker, however much is sent.
const MEMORY_MAX_MIB: u64 = 256;
const BYSTANDERS: usize = 40;
const POSTING: usize = 64;
const FLOODING_SOCKETS: usize = 64;
const ONE_WAY: usize = 32;
const BODY_BYTES: usize = 1024 * 1024;
const FRAME_BYTES: usize = 64 * 1024;

/// The result of the flood.
#[derive(Default)]
struct Flood {
    stop: AtomicBool,
    offered_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
}

impl Flood {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

pub async fn run(setting: &Setting) -> anyhow::Result<Vec<Row>> {
    let mut row = Row::new(NAME);
    let scratch = setting.scratch(NAME)?;
    let launch = Launch::new(&setting.weir, &scratch.join("data"), &scratch);
    let mut broker = launch.open()?;
    let client = Client::new(&broker.address)?;
    // The flood's messages are dropped again, so that the disk does not end it.
    client.put_topic("flood", &json!({ "retention_bytes": 64 << 20 })).await?;
    let run = Duration::from_secs(setting.count(10, 60) as u64);
    let alone = crowd(&broker.address, BYSTANDERS, run / 2).await?;

    let flood = Arc::new(Flood::default());
    let http = reqwest::Client::builder().pool_max_idle_per_host(POSTING + ONE_WAY).build()?;
    let mut attackers = Vec::new();
    for n in 0..POSTING + ONE_WAY {
        let path = if n < POSTING { "messages" } else { "oneway" };
        let url = format!("http://{}/v1/topics/flood/{path}", broker.address);
        attackers.push(tokio::spawn(post(http.clone(), url, flood.clone())));
    }
    for _ in 0..FLOODING_SOCKETS {
        attackers.push(tokio::spawn(send(broker.address.clone(), flood.clone())));
    }
    let beside = crowd(&broker.address, BYSTANDERS, run).await;
    flood.stop.store(true, Ordering::Relaxed);
    for attacker in attackers {
        attacker.abort();
    }

    let peak = peak_mib(&broker)?;
    if peak > MEMORY_MAX_MIB {
        row.violations.push(format!("{peak} MiB at its peak, {MEMORY_MAX_MIB} are allowed"));
    }
    if broker.has_ended() {
        row.violations.push(format!("the broker ended: {}", broker.said()));
    }
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    match beside {
        Ok(beside) => {
            // Requests wait for room in turn, and are refused only if that takes too long.
            let slowed = percentile(&beside, 500) > 2 * percentile(&alone, 500);
            if count(&flood.refused) == 0 && !slowed {
                row.violations.push("nothing was refused or had to wait: no overload".into());
            }
            row.acknowledged = alone.len() + beside.len();
            row.cycles = POSTING + ONE_WAY + FLOODING_SOCKETS;
            let mib = |of| count(of) / (1 << 20) / run.as_secs();
            row.note = format!(
                "peak {peak} MiB; offered {} MiB/s, stored {} MiB/s by HTTP, {} refused; bystanders p50 {:?} p99 {:?} (alone {:?} {:?})",
                mib(&flood.offered_bytes),
                mib(&flood.stored_bytes),
                count(&flood.refused),
                rounded(percentile(&beside, 500)),
                rounded(percentile(&beside, 990)),
                rounded(percentile(&alone, 500)),
                rounded(percentile(&alone, 990)),
            );
        }
        Err(error) => row.violations.push(format!("{error:#}")),
    }
    Ok(vec![row])
}

pub fn rounded(time: Duration) -> Duration {
    Duration::from_micros(time.as_micros() as u64 / 100 * 100)
}

/// The largest memory of the broker so far.
pub fn peak_mib(broker: &Broker) -> anyhow::Result<u64> {
    Ok(broker.memory_kib("VmHWM:")? / 1024)
}

/// Posts large bodies without a pause, whatever the answer.
async fn post(http: reqwest::Client, url: String, flood: Arc<Flood>) {
    let body = bytes::Bytes::from(vec![7; BODY_BYTES]);
    while flood.goes_on() {
        flood.offered_bytes.fetch_add(BODY_BYTES as u64, Ordering::Relaxed);
        let count = match http.post(&url).body(body.clone()).send().await {
            Ok(answer) if answer.status().is_success() => {
                flood.stored_bytes.fetch_add(BODY_BYTES as u64, Ordering::Relaxed);
                continue;
            }
            Ok(_) => &flood.refused,
            Err(_) => &flood.broken,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends frames without a pause and never reads an answer.
async fn send(address: String, flood: Arc<Flood>) {
    let url = format!("ws://{address}/v1/topics/flood/producer");
    let frame = json!({ "data": "x".repeat(FRAME_BYTES) }).to_string();
    while flood.goes_on() {
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(&url).await else {
            flood.broken.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            continue;
        };
        while flood.goes_on() && socket.send(Message::text(frame.clone())).await.is_ok() {
            flood.offered_bytes.fetch_add(FRAME_BYTES as u64, Ordering::Relaxed);
        }
    }
}
