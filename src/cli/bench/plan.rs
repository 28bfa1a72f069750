//! The work of one client process: every workload is some producers, tails and pollers over topics.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How messages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Protocol {
    /// WebSocket weir.raw.v1: a frame is a payload
    Raw,
    /// WebSocket weir.v1, text frames
    Json,
    /// WebSocket weir.v1, binary frames
    Msgpack,
    /// POST, one message a request
    Http,
    /// POST, many messages a request, as NDJSON
    HttpBatch,
}

impl Protocol {
    /// Payloads are JSON strings, not any bytes.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Json | Self::HttpBatch)
    }

    /// A frame or request is one message.
    pub(super) fn is_one_by_one(self) -> bool {
        matches!(self, Self::Raw | Self::Http)
    }

    pub(super) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::HttpBatch)
    }
}

/// The format of a poll's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    /// application/json
    Json,
    /// application/x-ndjson
    Ndjson,
    /// application/msgpack
    Msgpack,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// ADDR:PORT
    pub(super) address: String,
    pub(super) topics: Vec<String>,
    pub(super) payload_bytes: usize,
    pub(super) producers: Producers,
    /// Tails of this process, spread over the topics.
    pub(super) tails: usize,
    pub(super) pollers: Pollers,
    pub(super) warm_up_ms: u64,
    pub(super) measured_ms: u64,
    /// Distinguishes the payloads of processes and repetitions.
    pub(super) seed: u64,
    /// The number of this client process, from 0.
    pub(super) process: usize,
}

impl Plan {
    /// The topic of the `n`th of N connections of a kind, each process having as many.
    pub(super) fn topic_of(&self, n: usize, count: usize) -> usize {
        (self.process * count + n) % self.topics.len()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Producers {
    pub(super) connections: usize,
    pub(super) protocol: Protocol,
    /// Messages in a frame or request.
    pub(super) batch: usize,
    /// Unanswered messages of one connection, at most.
    pub(super) in_flight: usize,
    /// Messages a second of one connection (open loop); `None`: as fast as answers come (closed).
    pub(super) rate: Option<f64>,
    /// The window counts messages that not every tail of this process has received.
    pub(super) until_delivered: bool,
    /// Each frame goes to a random topic; else each connection has one.
    pub(super) by_lot: bool,
    /// The measurement ends after N messages of one connection, whatever the time.
    pub(super) messages_max: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pollers {
    pub(super) connections: usize,
    pub(super) form: Form,
    /// Messages a page.
    pub(super) page: usize,
}
