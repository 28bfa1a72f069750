//! Messages as they arrive, from a tail socket; it reconnects when the broker is back.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Message;

use super::printer::Printer;
use crate::cli::client::{Server, Socket};
use crate::cli::output::note;
use crate::cli::problem::Problem;
use crate::model::{Gap, TopicName};

/// Pause between attempts to reconnect, if the broker names none.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default)]
    messages: Vec<&'a RawValue>,
    gap: Option<Gap>,
    error: Option<Problem>,
}

/// Prints messages until the count is reached.
pub(super) async fn follow(
    server: &Server,
    topic: &TopicName,
    from: String,
    printer: Printer,
) -> anyhow::Result<()> {
    let mut follower = Follower { topic, from, printer };
    let mut connected_before = false;
    while !follower.printer.is_done() {
        let place = server.topic(topic, &["tail"]).with("from", &follower.from);
        let ended = match server.socket(place).await {
            Ok(socket) => {
                connected_before = true;
                follower.read(socket).await?
            }
            Err(error) if connected_before => Some(error),
            Err(error) => return Err(error),
        };
        if !follower.printer.is_done() {
            tokio::time::sleep(follower.pause(ended)?).await;
        }
    }
    Ok(())
}

struct Follower<'a> {
    topic: &'a TopicName,
    /// The position to continue at.
    from: String,
    printer: Printer,
}

impl Follower<'_> {
    /// Reads a tail until the count is reached or it ends; returns the broker's reason, if it gave
    /// one.
    async fn read(&mut self, mut socket: Socket) -> anyhow::Result<Option<anyhow::Error>> {
        while !self.printer.is_done() {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Frame<'_> =
                        serde_json::from_str(&text).context("the broker's frame can't be read")?;
                    if let Some(error) = frame.error {
                        return Ok(Some(error.about(self.topic).into()));
                    }
                    let gap = frame.gap.inspect(|gap| self.printer.gap(*gap));
                    let read_to = self.printer.messages(&frame.messages, u64::MAX)?;
                    if let Some(next) = read_to.or(gap.map(|gap| gap.end())) {
                        self.from = next.to_string();
                    }
                }
                Some(Ok(Message::Close(reason))) => {
                    if let Some(reason) = reason.filter(|reason| u16::from(reason.code) == 1008) {
                        bail!("the broker ended the tail ({})", reason.reason);
                    }
                    return Ok(None);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// How long to wait before reconnecting.
    ///
    /// # Errors
    /// Reconnecting would not help.
    fn pause(&self, ended: Option<anyhow::Error>) -> anyhow::Result<Duration> {
        let mut pause = RETRY;
        if let Some(error) = ended {
            if let Some(problem) = error.downcast_ref::<Problem>() {
                if !problem.temporary {
                    return Err(error);
                }
                pause = problem.retry_after_ms.map_or(RETRY, Duration::from_millis);
            }
            note(&format!("weir: {error:#}; trying again"));
        }
        if self.from == "latest" {
            note("weir: disconnected; what is published meanwhile will be missing");
        }
        Ok(pause)
    }
}
