//! `weir pub`: a producer socket behind an argument or standard input.

use std::collections::VecDeque;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_tungstenite::tungstenite::Message;

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
    /// as JSON, anything else as text
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
        let socket = self.server.socket(&format!("/v1/topics/{topic}/producer")).await?;
        let mut producer = Producer { socket, next_id: 1, unacked: VecDeque::new(), last: None };
        match self.message {
            Some(message) => {
                producer.send(&message).await?;
                producer.settle(0).await?;
            }
            None => {
                let mut lines = BufReader::new(tokio::io::stdin()).lines();
                while let Some(line) = lines.next_line().await.context("standard input")? {
                    producer.send(&line).await?;
                    producer.settle(UNACKED_MAX).await?;
                }
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
    async fn send(&mut self, message: &str) -> anyhow::Result<()> {
        let id = self.next_id;
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(message).is_ok();
        let frame = if is_json {
            // As it is: a re-encoding could change numbers.
            format!(r#"{{"id":{id},"data":{message}}}"#)
        } else {
            let content_type = "text/plain; charset=utf-8";
            json!({ "id": id, "content_type": content_type, "data": message }).to_string()
        };
        self.socket.feed(Message::text(frame)).await.context("the connection broke")?;
        self.next_id += 1;
        self.unacked.push_back(id);
        Ok(())
    }

    /// Waits until no more than so many messages are unacknowledged.
    async fn settle(&mut self, unacked_max: usize) -> anyhow::Result<()> {
        if self.unacked.len() <= unacked_max {
            return Ok(());
        }
        self.socket.flush().await.context("the connection broke")?;
        while self.unacked.len() > unacked_max {
            let lost = || format!("{} messages were not acknowledged", self.unacked.len());
            let frame = self.socket.next().await.with_context(lost)?.with_context(lost)?;
            match frame {
                Message::Text(text) => self.take(&text)?,
                Message::Close(reason) => {
                    let why =
                        reason.map(|r| format!("{} {}", r.code, r.reason)).unwrap_or_default();
                    bail!("the broker closed the socket ({why}); {}", lost());
                }
                _ => {}
            }
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
