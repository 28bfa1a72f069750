//! Producers that keep many messages in flight and write down what happens to each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use super::broker::Broker;
use super::history::{History, payload};
use super::socket::Socket;

/// Messages one producer keeps unacknowledged.
const IN_FLIGHT: u64 = 200;

/// Says when to stop, and how far all producers have come.
#[derive(Clone, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Control {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }
}

/// Starts producers 0, 1, … on one topic.
pub fn start(broker: &Broker, topic: &str, count: u64, control: &Control) -> Vec<Producing> {
    let start = |n| {
        let (address, control) = (broker.address.clone(), control.clone());
        tokio::spawn(produce(address, topic.to_owned(), n, 0, control))
    };
    (0..count).map(start).collect()
}

/// A producer at work.
pub type Producing = JoinHandle<History>;

/// What all of them know, once they have ended.
pub async fn gather(producers: Vec<Producing>) -> History {
    let mut history = History::default();
    for producer in producers {
        history.merge(producer.await.expect("a producer ends"));
    }
    history
}

/// Publishes numbered messages from `first_number` on until told to stop, then waits for what is
/// in flight; or until the connection breaks, which ends it early. Returns what it knows.
pub async fn produce(
    address: String,
    topic: String,
    producer: u64,
    first_number: u64,
    control: Control,
) -> History {
    let mut history = History::default();
    let path = format!("/v1/topics/{topic}/producer");
    let Ok(socket) = Socket::try_open(&address, &path).await else { return history };
    let (mut sink, mut stream) = socket.0.split();
    let mut in_flight = 0;
    let mut number = first_number;
    loop {
        let stopping = control.stop.load(Ordering::SeqCst);
        while !stopping && in_flight < IN_FLIGHT {
            let id = (producer, number);
            history.sent(id);
            let frame = json!({ "id": number, "data": payload(id) }).to_string();
            if sink.feed(Message::text(frame)).await.is_err() {
                return history;
            }
            number += 1;
            in_flight += 1;
        }
        if (stopping && in_flight == 0) || sink.flush().await.is_err() {
            return history;
        }
        let Some(Ok(frame)) = stream.next().await else { return history };
        let Message::Text(text) = frame else { continue };
        let frame: Value = serde_json::from_str(&text).expect("a JSON frame");
        for ack in frame["acks"].as_array().into_iter().flatten() {
            in_flight -= 1;
            // A refusal is an answer too: the message may not be there, nothing is promised.
            if let (Some(number), Some(offset)) = (ack["id"].as_u64(), ack["offset"].as_u64()) {
                history.acknowledged((producer, number), offset);
                control.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}
