//! `weir pub`: a producer socket behind an argument or standard input.

use std::collections::VecDeque;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Usage;
use super::client::{Server, Socket};
use crate::model::TopicName;

/// Messages sent and not acknowledged, at most; well within the broker's credit.
const UNACKED_MAX: usize = 1_000;

#[derive(Args)]
pub(super) struct Publish {
    /// The topic
    topic: String,
    /// The message; without it, every line of standard input is one. What is valid JSON is sent
    /// as JSON, other text as text, anything else as bytes
    message: Option<String>,
    #[command(flatten)]
    server: Server,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    acks: Vec<Ack>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Ack {
    id: u64,
    offset: Option<u64>,
    receipt: Option<String>,
    error: Option<Value>,
}

impl Publish {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let topic = TopicName::new(&self.topic).map_err(|e| Usage(format!("TOPIC: {e}")))?;
        let socket = self.server.socket(self.server.topic(&topic, &["producer"])).await?;
        let mut producer = Producer { socket, next_id: 1, unacked: VecDeque::new(), last: None };
        match self.message {
            Some(message) => {
                producer.send(message.as_bytes()).await?;
                producer.settle(0).await?;
            }
            None => {
                producer.publish_lines().await?;
                producer.settle(0).await?;
            }
        }
        producer.report();
        producer.socket.close(None).await.ok();
        Ok(())
    }
}

struct Producer {
    socket: Socket,
    next_id: u64,
    unacked: VecDeque<u64>,
    last: Option<(u64, String)>,
}

impl Producer {
    async fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        let id = self.next_id;
        let frame = match std::str::from_utf8(message) {
            // As it is: a re-encoding could change numbers.
            Ok(json) if serde_json::from_str::<&RawValue>(json).is_ok() => {
                format!(r#"{{"id":{id},"data":{json}}}"#)
            }
            Ok(text) => {
                let content_type = "text/plain; charset=utf-8";
                json!({ "id": id, "content_type": content_type, "data": text }).to_string()
            }
            Err(_) => json!({ "id": id, "data_base64": STANDARD.encode(message) }).to_string(),
        };
        self.socket.feed(Message::text(frame)).await.context("the connection broke")?;
        self.next_id += 1;
        self.unacked.push_back(id);
        Ok(())
    }

    /// Publishes standard input line by line, as the lines come; answers and pings meanwhile.
    async fn publish_lines(&mut self) -> anyhow::Result<()> {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        loop {
            tokio::select! {
                // What was read of a line stays in `line` if the socket is faster.
                read = input.read_until(b'\n', &mut line) => {
                    let ended = read.context("standard input")? == 0;
                    if !line.is_empty() {
                        let text = line.strip_suffix(b"\n").unwrap_or(&line);
                        self.send(text.strip_suffix(b"\r").unwrap_or(text)).await?;
                        line.clear();
                    }
                    if ended {
                        return Ok(());
                    }
                    if !input.buffer().contains(&b'\n') {
                        self.socket.flush().await.context("the connection broke")?;
                    }
                    self.settle(UNACKED_MAX).await?;
                }
                frame = self.socket.next() => self.take_frame(frame)?,
            }
        }
    }

    /// Waits until no more than so many messages are unacknowledged.
    async fn settle(&mut self, unacked_max: usize) -> anyhow::Result<()> {
        if self.unacked.len() <= unacked_max {
            return Ok(());
        }
        self.socket.flush().await.context("the connection broke")?;
        while self.unacked.len() > unacked_max {
            let frame = self.socket.next().await;
            self.take_frame(frame)?;
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Option<Result<Message, Error>>) -> anyhow::Result<()> {
        let lost = || format!("{} messages were not acknowledged", self.unacked.len());
        match frame.with_context(lost)?.with_context(lost)? {
            Message::Text(text) => self.take(&text)?,
            Message::Close(reason) => {
                let why = reason.map(|r| format!("{} {}", r.code, r.reason)).unwrap_or_default();
                bail!("the broker closed the socket ({why}); {}", lost());
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, text: &str) -> anyhow::Result<()> {
        let answer: Answer = serde_json::from_str(text).context("an answer that is no JSON")?;
        if let Some(error) = answer.error {
            bail!("refused: {error}");
        }
        for ack in answer.acks {
            if let Some(error) = ack.error {
                bail!("message {} was refused: {error}", ack.id);
            }
            self.unacked.retain(|id| *id != ack.id);
            self.last = ack.offset.zip(ack.receipt);
        }
        Ok(())
    }

    fn report(&self) {
        let count = self.next_id - 1;
        match &self.last {
            Some((offset, receipt)) if count == 1 => {
                println!("offset {offset}, receipt {receipt}");
            }
            Some((offset, _)) => {
                println!("{count} messages acknowledged, the last at offset {offset}")
            }
            None => println!("nothing to publish"),
        }
    }
}
