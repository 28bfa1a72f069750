//! `weir sub`: a topic's messages printed line by line.

mod filter;
mod follow;
mod printer;
mod until_now;

use clap::Args;
use clap::builder::ArgPredicate;

use self::filter::Filter;
use self::printer::Printer;
use super::attributes::{attribute, together};
use super::client::Server;
use crate::model::{Position, Timestamp, TopicName};

#[derive(Args)]
pub(super) struct Subscribe {
    /// The topic
    #[arg(value_parser = TopicName::new)]
    topic: TopicName,
    /// Where to begin: an offset, `earliest`, `latest` or an RFC 3339 time [default: latest, with
    /// --until-now earliest]
    #[arg(
        long,
        default_value = "latest",
        default_value_if("until_now", ArgPredicate::IsPresent, "earliest"),
        hide_default_value = true,
        value_parser = from
    )]
    from: String,
    /// End after N messages; filtered ones don't count
    #[arg(long)]
    count: Option<u64>,
    /// End at the topic's present last message, instead of waiting for more
    #[arg(long)]
    until_now: bool,
    /// Only messages with this key; may be repeated for more keys
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Only messages with this attribute; if repeated, with all of them
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    /// Print the whole message as a JSON object on a line, instead of the payload alone
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

fn from(text: &str) -> Result<String, &'static str> {
    let known = matches!(text, "earliest" | "latest")
        || text.parse::<u64>().is_ok()
        || text.parse::<Position>().is_ok()
        || text.parse::<Timestamp>().is_ok();
    if known {
        Ok(text.to_owned())
    } else {
        Err("must be an offset, a position, `earliest`, `latest` or an RFC 3339 time")
    }
}

impl Subscribe {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let filter = Filter::new(self.keys, together(self.attributes)?);
        let printer = Printer::new(filter, self.json, self.count);
        if self.until_now {
            until_now::read(&self.server, &self.topic, self.from, printer).await
        } else {
            follow::follow(&self.server, &self.topic, self.from, printer).await
        }
    }
}
