//! The producer socket: messages out, acknowledgements in, and an account of both at the end.

use std::collections::VecDeque;

use anyhow::{Context, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Message;

use super::account::Account;
use super::input::{Input, Payload};
use super::outgoing::Outgoing;
use super::pace::Pace;
use crate::cli::client::{Server, Socket};
use crate::cli::output::{one_line, report};
use crate::cli::problem::Problem;
use crate::model::TopicName;

/// Messages sent and not acknowledged, at most, where the broker's credit is larger.
const UNACKED_MAX: usize = 1_000;

/// The broker's frame.
#[derive(Deserialize)]
struct Frame<'a> {
    welcome: Option<Welcome>,
    #[serde(borrow, default)]
    acks: Vec<&'a RawValue>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Welcome {
    credit: Credit,
    resume_after: Option<u64>,
}

#[derive(Deserialize)]
struct Credit {
    messages: usize,
    bytes: usize,
}

#[derive(Deserialize)]
struct Ack {
    id: u64,
    offset: Option<u64>,
    receipt: Option<String>,
    #[serde(default)]
    duplicate: bool,
    error: Option<Problem>,
}

/// See the module.
pub(super) struct Producer {
    socket: Socket,
    topic: TopicName,
    name: Option<TopicName>,
    outgoing: Outgoing,
    credit: Credit,
    next_id: u64,
    /// Ids and bytes of unanswered messages, in the order sent.
    unanswered: VecDeque<(u64, usize)>,
    unanswered_bytes: usize,
    account: Account,
    json: bool,
    bar: ProgressBar,
}

impl Producer {
    /// Connects, and waits for the broker's terms.
    pub(super) async fn open(
        server: &Server,
        topic: &TopicName,
        name: Option<&TopicName>,
        outgoing: Outgoing,
    ) -> anyhow::Result<Self> {
        let place = server.topic(topic, &["producer"]);
        let place = match name {
            Some(name) => place.with("producer", name.as_str()),
            None => place,
        };
        let about = |error: anyhow::Error| {
            let fenced = is_fenced(&error);
            about_producer(error, name, fenced)
        };
        let mut socket = server.socket(place).await.map_err(about)?;
        let Welcome { credit, resume_after } = welcome(&mut socket, topic).await.map_err(about)?;
        let next_id = resume_after.map_or(1, |id| id.saturating_add(1));
        Ok(Self {
            socket,
            topic: topic.clone(),
            outgoing,
            credit,
            next_id,
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            account: Account::from(next_id, name.cloned()),
            name: name.cloned(),
            json: false,
            bar: ProgressBar::hidden(),
        })
    }

    /// Whether acknowledgements are printed, and the progress bar for their count.
    pub(super) fn show(&mut self, json: bool, bar: ProgressBar) {
        (self.json, self.bar) = (json, bar);
    }

    /// Publishes until the input ends or a message is refused, and waits for all answers.
    pub(super) async fn publish(&mut self, input: Input, pace: Option<Pace>) -> anyhow::Result<()> {
        let sent = self.send_all(input, pace).await;
        if sent.as_ref().is_err_and(|error| error.is::<Problem>() || error.is::<Closed>()) {
            // The broker does not answer what it could not read, and sends nothing after its close.
            return sent;
        }
        // Also if sending failed: earlier answers, and why the broker closed, are still to be
        // received.
        self.hear_out().await.and(sent)
    }

    async fn send_all(&mut self, mut input: Input, mut pace: Option<Pace>) -> anyhow::Result<()> {
        while self.account.refused() == 0 {
            let next = async {
                if let Some(pace) = &pace {
                    pace.due().await;
                }
                input.next().await
            };
            tokio::select! {
                payload = next, if self.has_room() => match payload? {
                    Some(payload) => self.send(&payload).await?,
                    None => break,
                },
                text = hear(&mut self.socket) => {
                    self.take(text?.as_deref())?;
                    continue;
                }
            }
            if let Some(pace) = &mut pace {
                pace.sent();
            }
            if input.is_idle() || pace.is_some() || !self.has_room() {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    async fn hear_out(&mut self) -> anyhow::Result<()> {
        while !self.unanswered.is_empty() {
            let text = hear(&mut self.socket).await?;
            self.take(text.as_deref())?;
        }
        Ok(())
    }

    /// The broker does not read beyond its credit.
    fn has_room(&self) -> bool {
        self.unanswered.len() < self.credit.messages.clamp(1, UNACKED_MAX)
            && (self.unanswered.is_empty() || self.unanswered_bytes < self.credit.bytes)
    }

    async fn send(&mut self, payload: &Payload) -> anyhow::Result<()> {
        let id = self.next_id;
        let frame = self.outgoing.frame(id, payload)?;
        self.next_id = id.checked_add(1).context("this producer's name has no more ids")?;
        // It counts as sent from the first byte on.
        self.account.sent += 1;
        self.unanswered.push_back((id, payload.bytes.len()));
        self.unanswered_bytes += payload.bytes.len();
        self.socket.feed(Message::text(frame)).await.context(BROKE)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.socket.flush().await.context(BROKE)
    }

    fn take(&mut self, text: Option<&str>) -> anyhow::Result<()> {
        let Some(text) = text else { return Ok(()) };
        let frame: Frame<'_> = read(text)?;
        for raw in &frame.acks {
            let ack: Ack = read(raw.get())?;
            let sent = self.unanswered.iter().position(|(id, _)| *id == ack.id);
            let Some((_, bytes)) = sent.and_then(|place| self.unanswered.remove(place)) else {
                bail!("the broker answered a message that waits for no answer: {raw}");
            };
            self.unanswered_bytes -= bytes;
            match ack.error {
                Some(error) => self.account.refuse(ack.id, error.about(&self.topic)),
                None => self.account.acknowledge(ack.offset, ack.receipt, ack.duplicate),
            }
        }
        self.bar.set_position(self.account.acknowledged);
        if self.json {
            // Without a reader, too: the input still has to be published.
            report(frame.acks.iter().map(|raw| one_line(raw.get()).into_owned()))?;
        }
        match frame.error {
            Some(error) => Err(error.about(&self.topic).into()),
            None => Ok(()),
        }
    }

    /// The report at the end; `None` if everything was printed already.
    ///
    /// # Errors
    /// The failure, with the account of what was acknowledged nevertheless.
    pub(super) async fn end(
        mut self,
        published: anyhow::Result<()>,
    ) -> anyhow::Result<Option<String>> {
        self.bar.finish_and_clear();
        // Every answer has been received.
        let _ = self.socket.close(None).await;
        let fenced = self.account.is_fenced() || published.as_ref().is_err_and(is_fenced);
        let report = self.account.close(published);
        let report = report.map_err(|error| about_producer(error, self.name.as_ref(), fenced))?;
        Ok((!self.json).then_some(report))
    }
}

/// Waits for the broker's terms.
async fn welcome(socket: &mut Socket, topic: &TopicName) -> anyhow::Result<Welcome> {
    loop {
        let Some(text) = hear(socket).await? else { continue };
        let frame: Frame<'_> = read(&text)?;
        if let Some(error) = frame.error {
            return Err(error.about(topic).into());
        }
        if let Some(welcome) = frame.welcome {
            return Ok(welcome);
        }
    }
}

/// The broker closed the socket. With 1008 it would close the next one, too.
#[derive(Debug, thiserror::Error)]
#[error("the broker closed the socket{}{reason}", if *for_good { " for good" } else { "" })]
struct Closed {
    for_good: bool,
    /// Code and words in brackets, if there are any.
    reason: String,
}

/// Another socket took the producer's name.
fn is_fenced(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Problem>().is_some_and(Problem::is_fenced)
        || error
            .downcast_ref()
            .is_some_and(|Closed { for_good, reason }| *for_good && reason.contains("fenced"))
}

/// The error of a named producer, with its name.
fn about_producer(error: anyhow::Error, name: Option<&TopicName>, fenced: bool) -> anyhow::Error {
    match (name, fenced) {
        (None, _) => error,
        (Some(name), false) => error.context(format!("producer {name}")),
        (Some(name), true) => {
            error.context(format!("producer {name}: another client publishes under this name now"))
        }
    }
}

const BROKE: &str = "the connection broke";

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> anyhow::Result<T> {
    serde_json::from_str(text).context("the broker's answer can't be read")
}

/// The text of the next frame, if it has one. Cancelling the wait loses nothing.
async fn hear(socket: &mut Socket) -> anyhow::Result<Option<String>> {
    match socket.next().await.ok_or_else(|| anyhow!(BROKE))?.context(BROKE)? {
        Message::Text(text) => Ok(Some(text.to_string())),
        Message::Close(reason) => {
            let for_good = reason.as_ref().is_some_and(|reason| u16::from(reason.code) == 1008);
            let reason = reason.map(|r| format!(" ({} {})", r.code, r.reason)).unwrap_or_default();
            Err(Closed { for_good, reason }.into())
        }
        _ => Ok(None),
    }
}
