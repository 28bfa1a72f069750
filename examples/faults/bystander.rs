//! An uninvolved client: one message at a time at a steady pace, so that its latency shows what an
//! attack on others costs it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::broker::PATIENCE;

/// The interval between messages.
const PACE: Duration = Duration::from_millis(200);

/// Publishes for this long and measures each acknowledgement from when the message was due, so that
/// a stalled broker is not sent less (coordinated omission).
pub async fn publish(
    address: String,
    topic: String,
    run: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let url = format!("ws://{address}/v1/topics/{topic}/producer");
    let connected = tokio_tungstenite::connect_async_with_config(url, None, true).await;
    let (mut socket, _) = connected.context("a bystander can't connect")?;
    socket.next().await.context("a welcome")??;
    let begun = Instant::now();
    let mut latencies = Vec::new();
    for n in 1u32.. {
        let due = begun + PACE * n;
        // A client that has to wait long sends less, but never waits for ever.
        if due.duration_since(begun) > run || begun.elapsed() > 2 * run {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        socket.send(Message::text(json!({ "id": n, "data": n }).to_string())).await?;
        let answer = loop {
            let frame = tokio::time::timeout(PATIENCE, socket.next()).await;
            match frame.context("a bystander waits in vain")?.context("it is cut off")?? {
                Message::Text(text) => break serde_json::from_str::<Value>(&text)?,
                Message::Close(why) => bail!("a bystander is turned away: {why:?}"),
                _ => {}
            }
        };
        if answer["acks"][0]["offset"].is_null() {
            bail!("a bystander is refused: {answer}");
        }
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// N bystanders, each on a topic of its own; returns all their latencies, in order. They have a
/// thread to themselves, so that they measure the broker and not the harness.
pub async fn crowd(address: &str, count: usize, run: Duration) -> anyhow::Result<Vec<Duration>> {
    let address = address.to_owned();
    let apart = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let one = |n| tokio::spawn(publish(address.clone(), format!("bystander.{n}"), run));
            let running: Vec<_> = (0..count).map(one).collect();
            let mut latencies = Vec::new();
            for bystander in running {
                latencies.extend(bystander.await??);
            }
            latencies.sort_unstable();
            Ok(latencies)
        })
    };
    tokio::task::spawn_blocking(apart).await?
}

/// The latency below which N of a thousand stay, of latencies in order.
pub fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    let at = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}
