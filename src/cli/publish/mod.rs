//! `weir pub`: a producer socket behind an argument, files or standard input.

mod account;
mod input;
mod outgoing;
mod pace;
mod producer;
mod progress;

use std::path::PathBuf;

use clap::Args;

use self::input::Input;
use self::outgoing::Outgoing;
use self::pace::{Pace, rate};
use self::producer::Producer;
use super::attributes::{attribute, together};
use super::client::Server;
use super::{Usage, output};
use crate::config::units::milliseconds;
use crate::model::TopicName;

#[derive(Args)]
pub(super) struct Publish {
    /// The topic
    #[arg(value_parser = TopicName::new)]
    topic: TopicName,
    /// The message; without it, every line of standard input is one. Valid JSON is sent as JSON,
    /// other text as text, anything else as bytes
    message: Option<String>,
    /// Publish a file as one message, `-` for standard input; may be repeated. Its type follows
    /// from its extension: .json, .txt, else bytes
    #[arg(long = "file", value_name = "FILE", conflicts_with = "message")]
    files: Vec<PathBuf>,
    /// Publish all of standard input as one message
    #[arg(long, conflicts_with_all = ["message", "files"])]
    raw: bool,
    /// The media type, regardless of the content
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The key of the messages
    #[arg(long)]
    key: Option<String>,
    /// An attribute; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// A message id: sent again, the message is not stored twice. For a single message only
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// How long the messages live, in milliseconds or as `1h30m`
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    ttl_ms: Option<u64>,
    /// Messages a second, evenly spaced [default: as fast as the broker accepts them]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Number the messages under this name, continuing after its last durable one
    #[arg(long, value_name = "NAME", value_parser = TopicName::new)]
    producer: Option<TopicName>,
    /// Print each acknowledgement as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Publish {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let outgoing = Outgoing {
            content_type: self.content_type,
            key: self.key,
            attributes: together(self.attributes)?,
            message_id: self.message_id,
            ttl_ms: self.ttl_ms,
        };
        let single = self.message.is_some() || self.raw || self.files.len() == 1;
        if outgoing.message_id.is_some() && !single {
            let why = "--message-id: goes with one message: MESSAGE, one --file or --raw";
            return Err(Usage(why.to_owned()).into());
        }
        let bar = progress::bar(&self.files, self.message.is_some() || self.raw, self.json);
        let input = match (self.message, self.raw) {
            (Some(message), _) => Input::message(message.into_bytes()),
            (None, true) => Input::whole_stdin()?,
            (None, false) if self.files.is_empty() => Input::stdin_lines()?,
            (None, false) => Input::files(self.files)?,
        };
        let name = self.producer.as_ref();
        let mut producer = Producer::open(&self.server, &self.topic, name, outgoing).await?;
        producer.show(self.json, bar);
        let published = producer.publish(input, self.rate.map(Pace::new)).await;
        match producer.end(published).await? {
            Some(report) => output::report([report]),
            None => Ok(()),
        }
    }
}
