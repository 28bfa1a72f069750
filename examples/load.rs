//! A small load on a broker, measured from outside: durable acknowledged messages a second over
//! `weir.v1`, and the latency of one message in flight.
//!
//! ```text
//! cargo run --release --example load
//! ```
//!
//! It starts a broker on a temporary directory in its own process and talks to it over loopback
//! sockets, from threads of its own. What it prints beside the broker's figures is the machine's:
//! how long a bare append of the same size with fdatasync takes in the same run.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use weir::config::Config;

const CONNECTIONS: usize = 8;
const PAYLOAD_BYTES: usize = 256;
const RUN: Duration = Duration::from_secs(5);
const ONE_IN_FLIGHT: usize = 3_000;

fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(".")?;
    let bare = bare_appends(directory.path())?;
    let address = start_broker(directory.path());
    let alone = one_in_flight(address)?;
    println!(
        "payload {PAYLOAD_BYTES} bytes, ack level sync, {CONNECTIONS} connections, {RUN:?} a run"
    );
    println!("bare append + fdatasync          p50 {:>7.0?}  p99 {:>7.0?}", bare.0, bare.1);
    println!("one message in flight            p50 {:>7.0?}  p99 {:>7.0?}", alone.0, alone.1);
    for (per_frame, in_flight) in [(1, 64), (1, 512), (64, 1_024)] {
        let rate = many_in_flight(address, per_frame, in_flight)?;
        println!("{per_frame:>2} a frame, {in_flight:>4} in flight each  {rate:>9.0} messages/s");
    }
    Ok(())
}

/// The machine's part of the latency: p50 and p99.
fn bare_appends(directory: &Path) -> anyhow::Result<(Duration, Duration)> {
    let mut file = std::fs::File::create(directory.join("bare"))?;
    file.set_len(64 * 1024 * 1024)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for _ in 0..ONE_IN_FLIGHT {
        let start = Instant::now();
        file.write_all(&[7; PAYLOAD_BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(percentiles(times))
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// A broker on its own thread, until the process ends.
fn start_broker(directory: &Path) -> SocketAddr {
    let mut config = Config::default();
    config.storage.path = directory.join("data");
    config.server.listen = ([127, 0, 0, 1], 0).into();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let listening = move |address| tell.send(address).expect("main waits for it");
        let run = weir::broker::run(config, listening, std::future::pending());
        actix_web::rt::System::new().block_on(run).expect("the broker runs");
    });
    told.recv().expect("the broker starts")
}

/// 256 bytes that do not compress, as a JSON string.
fn payload(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let text = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                [state as usize % 64],
        )
    });
    format!("\"{}\"", text.take(PAYLOAD_BYTES - 2).collect::<String>())
}

fn one_in_flight(address: SocketAddr) -> anyhow::Result<(Duration, Duration)> {
    block_on(async move {
        let url = format!("ws://{address}/v1/topics/load.one/producer?acks=range");
        let (mut socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
        socket.next().await.expect("a welcome")?;
        let data = payload(1);
        let mut times = Vec::new();
        for id in 1..=ONE_IN_FLIGHT {
            let start = Instant::now();
            socket.send(Message::text(format!(r#"{{"id":{id},"data":{data}}}"#))).await?;
            acked_to(&socket.next().await.expect("an answer")?)?;
            times.push(start.elapsed());
        }
        Ok(percentiles(times))
    })
}

/// Messages a second over all connections.
fn many_in_flight(address: SocketAddr, per_frame: u64, in_flight: u64) -> anyhow::Result<f64> {
    let start = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            std::thread::spawn(move || block_on(produce(address, n as u64, per_frame, in_flight)))
        })
        .collect();
    let mut acked = 0;
    for thread in threads {
        acked += thread.join().expect("a producer")?;
    }
    Ok(acked as f64 / start.elapsed().as_secs_f64())
}

async fn produce(
    address: SocketAddr,
    seed: u64,
    per_frame: u64,
    in_flight: u64,
) -> anyhow::Result<u64> {
    let url = format!("ws://{address}/v1/topics/load.many/producer?acks=range");
    let (socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
    let (mut sink, mut stream) = socket.split();
    stream.next().await.expect("a welcome")?;
    let data = payload(seed);
    let (mut sent, mut acked) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < RUN || acked < sent {
        while start.elapsed() < RUN && sent + per_frame <= acked + in_flight {
            let messages: Vec<_> = (0..per_frame)
                .map(|n| format!(r#"{{"id":{},"data":{data}}}"#, sent + n + 1))
                .collect();
            let frame = match &messages[..] {
                [one] => one.clone(),
                many => format!("[{}]", many.join(",")),
            };
            sink.feed(Message::text(frame)).await?;
            sent += per_frame;
        }
        sink.flush().await?;
        if acked < sent {
            acked = acked_to(&stream.next().await.expect("an answer")?)?;
        }
    }
    Ok(acked)
}

/// The last id of an acknowledged range.
fn acked_to(frame: &Message) -> anyhow::Result<u64> {
    let Message::Text(text) = frame else { anyhow::bail!("not an acknowledgement: {frame:?}") };
    let answer: serde_json::Value = serde_json::from_str(text)?;
    let to = answer["acked"]["to"].as_u64();
    to.ok_or_else(|| anyhow::anyhow!("not an acknowledgement: {answer}"))
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
