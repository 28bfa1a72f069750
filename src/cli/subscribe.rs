//! `weir sub`: a tail socket printed line by line; it comes back when the broker does.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Message;

use super::Usage;
use super::client::Server;
use crate::model::{Timestamp, TopicName};

/// Pause between attempts to come back.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Subscribe {
    /// The topic
    topic: String,
    /// Where to begin: an offset, `earliest`, `latest` or an RFC 3339 time
    #[arg(long, default_value = "latest")]
    from: String,
    /// End after so many messages
    #[arg(long)]
    count: Option<u64>,
    #[command(flatten)]
    server: Server,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    messages: Vec<Received<'a>>,
    #[serde(borrow)]
    gap: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Received<'a> {
    offset: u64,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

/// A member that is there and null is a value too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Subscribe {
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let topic = TopicName::new(&self.topic).map_err(|e| Usage(format!("TOPIC: {e}")))?;
        let known = matches!(self.from.as_str(), "earliest" | "latest");
        if !known && self.from.parse::<u64>().is_err() && self.from.parse::<Timestamp>().is_err() {
            let why = "must be an offset, `earliest`, `latest` or an RFC 3339 time";
            return Err(Usage(format!("--from {}: {why}", self.from)).into());
        }
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut connected_before = false;
        while left > 0 {
            let place = self.server.topic(&topic, &["tail"]).with("from", &self.from);
            let mut socket = match self.server.socket(place).await {
                Ok(socket) => socket,
                Err(error) if connected_before => {
                    eprintln!("weir: {error:#}; trying again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            connected_before = true;
            while left > 0 {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => self.print(&text, &mut left)?,
                    Some(Ok(Message::Close(reason))) => {
                        let policy = reason.as_ref().is_some_and(|r| u16::from(r.code) == 1008);
                        anyhow::ensure!(!policy, "the broker ended the tail");
                        break;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            if left > 0 {
                if self.from == "latest" {
                    eprintln!("weir: disconnected; what is published meanwhile will be missing");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        Ok(())
    }

    fn print(&mut self, text: &str, left: &mut u64) -> anyhow::Result<()> {
        let frame: Frame<'_> = serde_json::from_str(text)?;
        if let Some(gap) = frame.gap {
            eprintln!("weir: gap {gap}");
        }
        if let Some(error) = frame.error {
            eprintln!("weir: {error}");
        }
        let mut out = std::io::stdout().lock();
        for message in frame.messages.iter().take(usize::try_from(*left).unwrap_or(usize::MAX)) {
            match (message.data, &message.data_base64) {
                (Some(data), _) if message.content_type.starts_with("text/") => {
                    writeln!(out, "{}", serde_json::from_str::<Cow<'_, str>>(data.get())?)?;
                }
                (Some(data), _) => writeln!(out, "{data}")?,
                (None, encoded) => writeln!(out, "{}", encoded.as_deref().unwrap_or_default())?,
            }
            self.from = (message.offset + 1).to_string();
            *left -= 1;
        }
        out.flush()?;
        Ok(())
    }
}
