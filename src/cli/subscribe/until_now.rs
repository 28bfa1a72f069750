//! A topic's present messages, read by polling up to the head of the first answer.

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::printer::Printer;
use crate::cli::client::Server;
use crate::cli::problem::Problem;
use crate::model::{Gap, TopicName};

#[derive(Deserialize)]
struct Page<'a> {
    head: u64,
    next: u64,
    #[serde(default)]
    gaps: Vec<Gap>,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// Prints messages until the count is reached, or none are left.
pub(super) async fn read(
    server: &Server,
    topic: &TopicName,
    mut from: String,
    mut printer: Printer,
) -> anyhow::Result<()> {
    let mut end = None;
    while !printer.is_done() {
        let place = server.topic(topic, &["messages"]).with("from", &from).with("max", "1000");
        let answer = match server.get(place).await {
            Ok(answer) => answer,
            // Retention has removed the offset meanwhile.
            Err(error) => match (end, gap(&error, &from)) {
                (Some(_), Some(gap)) => {
                    printer.gap(gap);
                    from = gap.end().to_string();
                    continue;
                }
                _ => return Err(error),
            },
        };
        let body = answer.text().await.context("the broker broke off")?;
        let page: Page<'_> = serde_json::from_str(&body).context("the answer can't be read")?;
        let end = *end.get_or_insert(page.head);
        page.gaps.iter().for_each(|gap| printer.gap(*gap));
        printer.messages(&page.messages, end)?;
        let next = page.next.to_string();
        if page.next >= end || next == from {
            break;
        }
        from = next;
    }
    Ok(())
}

/// The gap in a refusal of this offset.
fn gap(error: &anyhow::Error, from: &str) -> Option<Gap> {
    let first = error.downcast_ref::<Problem>()?.first?;
    Gap::before(from.parse().ok()?, first)
}
