//! `weir topics`: the topics and their settings.

mod settings;
mod table;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::header::{CONTENT_TYPE, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::settings::Settings;
use super::Usage;
use super::client::Server;
use super::output::{note, one_line, print, report};
use super::problem::Problem;
use crate::model::TopicName;

/// Topics asked for at once.
const PAGE: &str = "250";

#[derive(Subcommand)]
pub(super) enum Topics {
    /// List topics by name
    List(List),
    /// Show everything about a topic
    Show(Show),
    /// Create a topic; omitted settings take the broker's defaults
    Create(Create),
    /// Change some settings of a topic; the others are unchanged
    Change(Change),
    /// Delete topics with all their messages
    Delete(Delete),
}

#[derive(Args)]
pub(super) struct List {
    /// Only topics with this name prefix
    #[arg(long, default_value = "")]
    prefix: String,
    /// Print each topic as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args)]
pub(super) struct Show {
    /// The topic
    #[arg(value_parser = TopicName::new)]
    name: TopicName,
    /// Print it as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args)]
pub(super) struct Create {
    /// The topic to create; must not exist
    #[arg(value_parser = TopicName::new)]
    name: TopicName,
    /// Print the topic as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
    // Last, since its heading would cover what follows.
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
pub(super) struct Change {
    /// The topic
    #[arg(value_parser = TopicName::new)]
    name: TopicName,
    /// Print the topic as a JSON object on a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
    // Last, since its heading would cover what follows.
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
pub(super) struct Delete {
    /// The topics
    #[arg(value_name = "NAME", required = true, value_parser = TopicName::new)]
    names: Vec<TopicName>,
    #[command(flatten)]
    server: Server,
}

impl Topics {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Create(create) => create.run().await,
            Self::Change(change) => change.run().await,
            Self::Delete(delete) => delete.run().await,
        }
    }
}

/// `GET /v1/topics`
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    topics: Vec<&'a RawValue>,
    next: Option<String>,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let place = self.server.place(&["v1", "topics"]);
            let place = place.with("prefix", &self.prefix).with("limit", PAGE);
            let place = if after.is_empty() { place } else { place.with("after", &after) };
            let body = self.server.get(place).await?.bytes().await?;
            let page: Page<'_> = serde_json::from_slice(&body).with_context(unreadable)?;
            if self.json {
                print(page.topics.iter().map(|topic| one_line(topic.get()).into_owned()))?;
            } else {
                for topic in &page.topics {
                    found.push(serde_json::from_str(topic.get()).with_context(unreadable)?);
                }
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        match (self.json, found.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => {
                note("no topics");
                Ok(())
            }
            (false, false) => print([table::list(&found).to_string()]),
        }
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let answer = self.server.get(self.server.topic(&self.name, &[])).await?;
        let body = answer.text().await?;
        if self.json {
            return print([&*one_line(&body)]);
        }
        print([table::details(&serde_json::from_str(&body).with_context(unreadable)?).to_string()])
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.together()?;
        let place = self.server.topic(&self.name, &[]);
        let send = self.server.send(Method::PUT, place, |request| {
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            request.headers_mut().insert(CONTENT_TYPE, JSON);
            *request.body_mut() = Some(Value::from(settings.clone()).to_string().into());
        });
        say(send.await?, "created", &self.name, &settings, self.json).await
    }
}

impl Change {
    async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.together()?;
        if settings.is_empty() {
            let why = "nothing to change: give settings, say --retention-ms 3600000 (see --help)";
            return Err(Usage(why.to_owned()).into());
        }
        let place = self.server.topic(&self.name, &[]);
        let send = self.server.send(Method::PATCH, place, |request| {
            request.headers_mut().insert(CONTENT_TYPE, JSON);
            *request.body_mut() = Some(Value::from(settings.clone()).to_string().into());
        });
        say(send.await?, "changed", &self.name, &settings, self.json).await
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Reports the change, and the present values of the given settings.
async fn say(
    answer: Response,
    done: &str,
    name: &TopicName,
    given: &Map<String, Value>,
    json: bool,
) -> anyhow::Result<()> {
    let body = answer.text().await?;
    if json {
        return print([&*one_line(&body)]);
    }
    let topic: Map<String, Value> = serde_json::from_str(&body).with_context(unreadable)?;
    let set = given.keys().filter_map(|key| Some((key, topic.get(key)?)));
    let set: Vec<String> =
        set.map(|(key, value)| format!("{key} {}", table::cell(value))).collect();
    let colon = if set.is_empty() { "" } else { ": " };
    print([format!("{done} {name}{colon}{}", set.join(", "))])
}

impl Delete {
    /// A topic that can't be deleted doesn't stop the deletion of the others.
    async fn run(self) -> anyhow::Result<()> {
        let (mut left, mut reported) = (0, Ok(()));
        for name in &self.names {
            // Without the topic, since a hint on how to create it would not help.
            let place = self.server.place(&["v1", "topics", name.as_str()]);
            match self.server.send(Method::DELETE, place, |_| {}).await {
                Ok(_) => reported = reported.and(report([format!("deleted {name}")])),
                Err(error) if error.is::<Problem>() && self.names.len() > 1 => {
                    left += 1;
                    note(&format!("weir: {name}: {error:#}"));
                }
                Err(error) => return Err(error.context(name.to_string())),
            }
        }
        if left > 0 {
            bail!("{left} of {} topics not deleted", self.names.len());
        }
        reported
    }
}

fn unreadable() -> &'static str {
    "the answer can't be read (is it a weir broker?)"
}
