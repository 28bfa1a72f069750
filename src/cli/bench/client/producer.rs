//! Producers: a window of unanswered messages over a socket, or one request after the other.

use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Shared;
use super::frames::{Frames, read_answer};
use super::http::Connection;
use super::pace::{self, Pacer, Schedule};
use super::requests::{self, Requests};
use crate::cli::bench::payload::now_ns;
use crate::cli::bench::plan::{Plan, Protocol};

pub(super) type Socket = WebSocketStream<TcpStream>;

/// The size of one read.
const READ_BYTES: usize = 16 * 1024;

/// Opens the WebSocket at a path.
pub(super) async fn open_socket(
    address: &str,
    path: &str,
    subprotocol: Option<&'static str>,
) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    if let Some(subprotocol) = subprotocol {
        let header = ("sec-websocket-protocol", subprotocol.parse()?);
        request.headers_mut().insert(header.0, header.1);
    }
    // The library clears its whole read buffer at each read.
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
    let config = config.max_message_size(None).max_frame_size(None);
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    Ok(opened.await.context("opening a WebSocket")?.0)
}

/// The producers' connections of a process.
pub(super) struct Producers {
    sockets: Vec<Socket>,
    requests: Vec<Connection>,
}

impl Producers {
    pub(super) async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let mut all = Self { sockets: Vec::new(), requests: Vec::new() };
        for n in 0..plan.producers.connections {
            if plan.producers.protocol.is_http() {
                all.requests.push(Connection::open(&plan.address).await?);
                continue;
            }
            let topic = &plan.topics[plan.topic_of(n, plan.producers.connections)];
            let path = format!("/v1/topics/{topic}/producer?acks=range");
            let raw = (plan.producers.protocol == Protocol::Raw).then_some("weir.raw.v1");
            let mut socket = open_socket(&plan.address, &path, raw).await?;
            let welcome = socket.next().await.context("the broker closed the socket")??;
            read_answer(&welcome)?;
            all.sockets.push(socket);
        }
        Ok(all)
    }

    /// Starts all of them, in an open loop paced as long as the pacer is kept.
    pub(super) fn start(
        self,
        shared: &Rc<Shared>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Option<Pacer>> {
        let producers = &shared.plan.producers;
        let paced = producers
            .rate
            .map(|rate| pace::schedules(producers.connections, producers.batch, rate, now_ns()));
        let (schedules, pacer) = paced.transpose()?.unzip();
        let mut schedules = schedules.into_iter().flatten();
        for (n, connection) in self.requests.into_iter().enumerate() {
            let requests = Requests::new(connection, n, shared, schedules.next());
            tasks.spawn_local(requests.run(shared.clone()));
        }
        if producers.by_lot {
            let sockets = self.sockets.into_iter().enumerate();
            let sockets = sockets.map(|(n, socket)| SocketProducer::new(socket, n, shared, None));
            requests::by_lot(sockets.collect(), shared, tasks);
            return Ok(pacer);
        }
        for (n, socket) in self.sockets.into_iter().enumerate() {
            let producer = SocketProducer::new(socket, n, shared, schedules.next());
            tasks.spawn_local(producer.run(shared.clone()));
        }
        Ok(pacer)
    }
}

/// A producer socket and its unanswered messages.
pub(super) struct SocketProducer {
    socket: Socket,
    topic: usize,
    frames: Frames,
    schedule: Option<Schedule>,
    /// When each unanswered message was due.
    unanswered: VecDeque<u64>,
    due_ns: Vec<u64>,
    sent: u64,
    acked: u64,
}

impl SocketProducer {
    fn new(socket: Socket, n: usize, shared: &Shared, schedule: Option<Schedule>) -> Self {
        let plan = &shared.plan;
        Self {
            socket,
            topic: plan.topic_of(n, plan.producers.connections),
            frames: Frames::new(shared.payloads(n), plan.producers.protocol, plan.payload_bytes),
            schedule,
            unanswered: VecDeque::new(),
            due_ns: Vec::new(),
            sent: 0,
            acked: 0,
        }
    }

    async fn run(mut self, shared: Rc<Shared>) -> anyhow::Result<()> {
        let until_delivered = shared.plan.producers.until_delivered;
        loop {
            let is_over = self.is_over(&shared);
            if !is_over {
                while self.has_room(&shared) && self.send(&shared).await? {}
                self.socket.flush().await?;
            } else if self.unanswered.is_empty() {
                return Ok(());
            }
            let paced = async {
                match &self.schedule {
                    Some(schedule) if !is_over => schedule.woken().await,
                    _ => std::future::pending().await,
                }
            };
            let delivery = async {
                match until_delivered && !is_over {
                    true => shared.delivery.notified().await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                frame = self.socket.next() => {
                    let frame = frame.context("the broker closed the socket")??;
                    if let Some(acked) = read_answer(&frame)? {
                        self.take_acked(acked.from, acked.to, &shared)?;
                    }
                }
                () = paced => {}
                () = delivery => {}
            }
        }
    }

    fn is_over(&self, shared: &Shared) -> bool {
        shared.has_sent_all(self.schedule.as_ref(), self.sent)
    }

    fn has_room(&self, shared: &Shared) -> bool {
        let producers = &shared.plan.producers;
        let (batch, in_flight) = (producers.batch as u64, producers.in_flight as u64);
        if producers.until_delivered {
            return shared
                .have_all_got((shared.sent_total.get() + batch).saturating_sub(in_flight));
        }
        self.unanswered.len() as u64 + batch <= in_flight
    }

    /// Sends a frame, if one is due.
    async fn send(&mut self, shared: &Shared) -> anyhow::Result<bool> {
        let batch = shared.plan.producers.batch as u64;
        self.due_ns.clear();
        let now_ns = now_ns();
        match &self.schedule {
            None => self.due_ns.extend((0..batch).map(|_| now_ns)),
            Some(schedule) => {
                if schedule.due_ns(self.sent + batch - 1) > now_ns {
                    return Ok(false);
                }
                self.due_ns.extend((0..batch).map(|n| schedule.due_ns(self.sent + n)));
            }
        }
        self.unanswered.extend(&self.due_ns);
        self.sent += batch;
        shared.sent_total.set(shared.sent_total.get() + batch);
        self.socket.feed(self.frames.next(&self.due_ns)?).await?;
        Ok(!self.is_over(shared))
    }

    fn take_acked(&mut self, from: u64, to: u64, shared: &Shared) -> anyhow::Result<()> {
        ensure!(
            from == self.acked + 1 && (from..=self.sent).contains(&to),
            "acknowledged {from} to {to} after {} of {} sent",
            self.acked,
            self.sent
        );
        let now_ns = now_ns();
        for due_ns in self.unanswered.drain(..(to - self.acked) as usize) {
            shared.acknowledged(self.topic, due_ns, now_ns);
        }
        self.acked = to;
        Ok(())
    }

    /// Sends one frame and waits until all of it is answered.
    pub(super) async fn send_and_wait(&mut self, shared: &Shared) -> anyhow::Result<()> {
        if !self.send(shared).await? && self.unanswered.is_empty() {
            bail!("nothing was sent");
        }
        self.socket.flush().await?;
        while !self.unanswered.is_empty() {
            let frame = self.socket.next().await.context("the broker closed the socket")??;
            if let Some(acked) = read_answer(&frame)? {
                self.take_acked(acked.from, acked.to, shared)?;
            }
        }
        Ok(())
    }
}
