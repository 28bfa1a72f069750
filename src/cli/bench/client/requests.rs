//! Producers that send, wait and send again: HTTP requests, and frames to random topics.

use std::rc::Rc;

use anyhow::ensure;
use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::Shared;
use super::http::Connection;
use super::pace::Schedule;
use super::producer::SocketProducer;
use crate::cli::bench::payload::{Payloads, now_ns};
use crate::cli::bench::plan::Protocol;

/// One keep-alive connection that publishes.
pub(super) struct Requests {
    connection: Connection,
    payloads: Payloads,
    schedule: Option<Schedule>,
    lot: Lot,
    topic: usize,
    sent: u64,
}

/// The answer to one message.
#[derive(Deserialize)]
struct One {
    #[serde(rename = "offset")]
    _offset: u64,
    duplicate: bool,
}

/// The answer to many.
#[derive(Deserialize)]
struct Many {
    accepted: usize,
    rejected: usize,
}

impl Requests {
    pub(super) fn new(
        connection: Connection,
        n: usize,
        shared: &Shared,
        schedule: Option<Schedule>,
    ) -> Self {
        let connections = shared.plan.producers.connections;
        let (lot, topic) =
            (Lot(shared.plan.seed + n as u64 + 1), shared.plan.topic_of(n, connections));
        Self { connection, payloads: shared.payloads(n), schedule, lot, topic, sent: 0 }
    }

    pub(super) async fn run(mut self, shared: Rc<Shared>) -> anyhow::Result<()> {
        let producers = &shared.plan.producers;
        let topics = shared.plan.topics.iter();
        let paths: Vec<_> = topics.map(|topic| format!("/v1/topics/{topic}/messages")).collect();
        let mut dues_ns = Vec::with_capacity(producers.batch);
        while !shared.has_sent_all(self.schedule.as_ref(), self.sent) {
            let due_ns = |n| match &self.schedule {
                None => now_ns(),
                Some(schedule) => schedule.due_ns(self.sent + n),
            };
            dues_ns.clear();
            dues_ns.extend((0..producers.batch as u64).map(due_ns));
            if let (Some(schedule), Some(last)) = (&self.schedule, dues_ns.last())
                && *last > now_ns()
            {
                schedule.woken().await;
                continue;
            }
            if producers.by_lot {
                self.topic = self.lot.draw(paths.len());
            }
            self.post(&shared, &paths[self.topic], &dues_ns).await?;
            let now_ns = now_ns();
            for due_ns in &dues_ns {
                shared.acknowledged(self.topic, *due_ns, now_ns);
            }
            self.sent += producers.batch as u64;
        }
        Ok(())
    }

    async fn post(&mut self, shared: &Shared, path: &str, dues_ns: &[u64]) -> anyhow::Result<()> {
        let batch = shared.plan.producers.batch;
        let mut body = Vec::with_capacity(batch * (shared.plan.payload_bytes + 1));
        let single = shared.plan.producers.protocol == Protocol::Http;
        let content_type = if single {
            self.payloads.write(&mut body, dues_ns[0]);
            "application/octet-stream"
        } else {
            for due_ns in dues_ns {
                body.push(b'"');
                self.payloads.write(&mut body, *due_ns);
                body.extend_from_slice(b"\"\n");
            }
            "application/x-ndjson"
        };
        let header = ("content-type", content_type);
        let (body, accepted) = (Bytes::from(body), StatusCode::ACCEPTED);
        let answer = self.connection.ask("POST", path, header, body, accepted).await?;
        if single {
            let one: One = serde_json::from_slice(&answer.body)?;
            ensure!(!one.duplicate, "a message was taken for a duplicate");
        } else {
            let many: Many = serde_json::from_slice(&answer.body)?;
            ensure!(many.accepted == batch && many.rejected == 0, "a batch was not accepted whole");
        }
        Ok(())
    }
}

/// Random numbers that are the same in every run: a SplitMix64 sequence (Steele et al., 2014).
struct Lot(u64);

impl Lot {
    fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }
}

/// Sends frames to random sockets, `in_flight` of them at a time.
pub(super) fn by_lot(
    sockets: Vec<SocketProducer>,
    shared: &Rc<Shared>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let sockets: Rc<[_]> = sockets.into_iter().map(Mutex::new).collect();
    let producers = &shared.plan.producers;
    for n in 0..producers.in_flight / producers.batch {
        let (sockets, shared) = (sockets.clone(), shared.clone());
        tasks.spawn_local(async move {
            let mut lot = Lot(shared.plan.seed + n as u64);
            while !shared.is_over() && !sockets.is_empty() {
                let socket = &sockets[lot.draw(sockets.len())];
                socket.lock().await.send_and_wait(&shared).await?;
            }
            anyhow::Ok(())
        });
    }
}
