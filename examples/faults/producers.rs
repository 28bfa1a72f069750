//! Producers that keep messages in flight over `weir.v1`, survive crashes, and record what was sent
//! and what was acknowledged.
//!
//! There are three kinds, by their action after a crash: one sends nothing twice; one sends again
//! unacknowledged messages, and a few acknowledged ones, under the same `message_id`s; one has a
//! name, asks for its last durable id, and sends everything after it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::broker::PATIENCE;
use crate::control::{Control, Pace, Told};
use crate::history::payload;

/// Messages that are sent again though they were acknowledged.
const AGAIN: usize = 20;

/// What a producer does about messages that may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    SendsOnce,
    MessageIds,
    Named,
}

/// A producer and its state from one connection to the next.
#[derive(Debug)]
pub struct Producer {
    topic: String,
    number: u64,
    kind: Kind,
    /// The number of the next message.
    next: u64,
    /// Sent and not acknowledged.
    unanswered: BTreeSet<u64>,
    /// The last that were acknowledged.
    answered: VecDeque<u64>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Producer {
    pub fn new(topic: &str, number: u64, kind: Kind) -> Self {
        Self {
            topic: topic.to_owned(),
            number,
            kind,
            next: 1,
            unanswered: BTreeSet::new(),
            answered: VecDeque::new(),
        }
    }

    /// It has a name; false once a broker without names has refused it.
    pub fn is_named(&self) -> bool {
        self.kind == Kind::Named
    }

    /// The broker has no `message_id`s: messages sent again would be stored again.
    pub fn forget_message_ids(&mut self) {
        if self.kind == Kind::MessageIds {
            self.kind = Kind::SendsOnce;
        }
    }

    async fn connect(&mut self, address: &str) -> Result<Socket, Error> {
        let path = format!("ws://{address}/v1/topics/{}/producer?acks=each", self.topic);
        if self.kind == Kind::Named {
            let named = format!("{path}&producer=producer.{}", self.number);
            match tokio_tungstenite::connect_async(named).await {
                Err(Error::Http(answer)) if answer.status() == 400 => self.kind = Kind::SendsOnce,
                other => return other.map(|(socket, _)| socket),
            }
        }
        tokio_tungstenite::connect_async(path).await.map(|(socket, _)| socket)
    }

    /// Publishes until it is stopped and everything is answered, or the connection breaks.
    pub async fn run(mut self, address: String, pace: Pace, control: Control) -> (Self, Told) {
        let mut told = Told::default();
        match self.connect(&address).await {
            Err(error) => told.broke = Some(error.to_string()),
            Ok(socket) => {
                let (sink, stream) = socket.split();
                self.produce(sink, stream, pace, &control, &mut told).await;
            }
        }
        if self.kind == Kind::SendsOnce {
            self.unanswered.clear();
        }
        (self, told)
    }

    async fn produce(
        &mut self,
        mut sink: SplitSink<Socket, Message>,
        mut stream: SplitStream<Socket>,
        pace: Pace,
        control: &Control,
        told: &mut Told,
    ) {
        let Ok(Some(Ok(Message::Text(welcome)))) =
            tokio::time::timeout(PATIENCE, stream.next()).await
        else {
            told.broke = Some("no welcome".into());
            return;
        };
        let welcome: Value = serde_json::from_str(&welcome).unwrap_or_default();
        let mut again = self.resume(&welcome["welcome"], told);
        let mut in_flight: BTreeSet<u64> = BTreeSet::new();
        let mut beat = tokio::time::interval(pace.every);
        let mut last_answer = Instant::now();
        loop {
            let stopping = control.is_stopped();
            if stopping && in_flight.is_empty() {
                // The broker answers; its Close is not checked here.
                let _ = sink.close().await;
                return;
            }
            if last_answer.elapsed() > PATIENCE && !in_flight.is_empty() {
                told.complaints.push(format!(
                    "{}: {} messages of producer {} unanswered for {PATIENCE:?}",
                    self.topic,
                    in_flight.len(),
                    self.number
                ));
                return;
            }
            tokio::select! {
                frame = stream.next() => {
                    last_answer = Instant::now();
                    if !self.take_frame(frame, &mut in_flight, control, told) {
                        return;
                    }
                }
                _ = beat.tick() => {
                    for _ in 0..pace.burst {
                        if stopping || in_flight.len() >= pace.in_flight {
                            break;
                        }
                        let number = again.pop_front().unwrap_or_else(|| {
                            self.next += 1;
                            self.next - 1
                        });
                        if in_flight.is_empty() {
                            last_answer = Instant::now();
                        }
                        in_flight.insert(number);
                        if sink.feed(self.message(number, told)).await.is_err() {
                            break;
                        }
                    }
                    // The stream will report that it broke.
                    let _ = sink.flush().await;
                }
            }
        }
    }

    fn message(&mut self, number: u64, told: &mut Told) -> Message {
        let id = (self.number, number);
        told.history.sent(id);
        self.unanswered.insert(number);
        let mut message = json!({ "id": number, "data": payload(id) });
        if self.kind == Kind::MessageIds {
            message["message_id"] = json!(format!("{}-{number}", self.number));
        }
        Message::text(message.to_string())
    }

    /// Messages to send before anything new.
    fn resume(&mut self, welcome: &Value, told: &mut Told) -> VecDeque<u64> {
        match self.kind {
            Kind::SendsOnce => VecDeque::new(),
            Kind::MessageIds => {
                let again: BTreeSet<_> = self.answered.iter().chain(&self.unanswered).collect();
                again.into_iter().copied().collect()
            }
            Kind::Named => {
                let durable = welcome["resume_after"].as_u64().unwrap_or(0);
                if durable >= self.next {
                    told.complaints.push(format!(
                        "{}: producer {} is told resume_after {durable} and has sent {} only",
                        self.topic,
                        self.number,
                        self.next - 1
                    ));
                }
                let unknown = self.unanswered.split_off(&(durable + 1));
                for number in std::mem::replace(&mut self.unanswered, unknown) {
                    told.history.confirmed((self.number, number));
                }
                (durable + 1..self.next).collect()
            }
        }
    }

    /// Takes an answer; false at the end of the connection.
    fn take_frame(
        &mut self,
        frame: Option<Result<Message, Error>>,
        in_flight: &mut BTreeSet<u64>,
        control: &Control,
        told: &mut Told,
    ) -> bool {
        let text = match frame {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(reason))) => {
                told.closed = reason.as_ref().map(|reason| reason.code.into());
                told.broke = Some(format!("closed: {reason:?}"));
                return false;
            }
            Some(Ok(_)) => return true,
            Some(Err(error)) => {
                told.broke = Some(error.to_string());
                return false;
            }
            None => {
                told.broke = Some("the connection ended".into());
                return false;
            }
        };
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(code) = frame["error"]["code"].as_str() {
            told.complaints.push(format!("{}: a frame is refused: {code}", self.topic));
        }
        let now = Instant::now();
        for ack in frame["acks"].as_array().into_iter().flatten() {
            let Some(number) = ack["id"].as_u64() else { continue };
            in_flight.remove(&number);
            if let Some(code) = ack["error"]["code"].as_str() {
                told.refused = Some(code.to_owned());
                if ack["error"]["temporary"] != true && code != "internal" {
                    let problem = ack["error"]["detail"].to_string();
                    told.complaints.push(format!("{}: refused, {code}: {problem}", self.topic));
                }
                continue;
            }
            self.unanswered.remove(&number);
            self.answered.push_back(number);
            if self.answered.len() > AGAIN {
                self.answered.pop_front();
            }
            let id = (self.number, number);
            match ack["offset"].as_u64() {
                Some(offset) => told.history.acknowledged_at(id, offset, now),
                None => told.history.confirmed(id),
            }
            control.count_one();
        }
        true
    }
}
