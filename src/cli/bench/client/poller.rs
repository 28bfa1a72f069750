//! A poller: reads its topic page by page, from its first message to its head, again and again.

use std::rc::Rc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;

use super::Shared;
use super::http::{Answer, Connection};
use super::page::{Dues, Received, check_all};
use crate::cli::bench::payload::now_ns;
use crate::cli::bench::plan::{Form, Plan};

/// Bytes asked for at most; the broker may give less.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Page<'a> {
    head: u64,
    next: u64,
    #[serde(borrow)]
    messages: Vec<Received<'a>>,
}

/// See the module.
pub(super) struct Poller {
    connection: Connection,
    topic: usize,
    from: u64,
}

impl Poller {
    pub(super) async fn open(plan: &Plan, topic: usize) -> anyhow::Result<Self> {
        Ok(Self { connection: Connection::open(&plan.address).await?, topic, from: 0 })
    }

    pub(super) async fn run(mut self, shared: Rc<Shared>) -> anyhow::Result<()> {
        let plan = &shared.plan;
        let accept = match plan.pollers.form {
            Form::Json => "application/json",
            Form::Ndjson => "application/x-ndjson",
            Form::Msgpack => "application/msgpack",
        };
        let (topic, max) = (&plan.topics[self.topic], plan.pollers.page);
        while !shared.is_over() {
            let from = self.from;
            let path =
                format!("/v1/topics/{topic}/messages?from={from}&max={max}&max_bytes={PAGE_BYTES}");
            let asked_ns = now_ns();
            let header = ("accept", accept);
            let asked = self.connection.ask("GET", &path, header, Bytes::new(), StatusCode::OK);
            let answer = asked.await?;
            let (next, head, dues) = match plan.pollers.form {
                Form::Json => read(serde_json::from_slice(&answer.body)?, from, plan)?,
                Form::Msgpack => read(rmp_serde::from_slice(&answer.body)?, from, plan)?,
                Form::Ndjson => read_lines(&answer, from, plan)?,
            };
            let now_ns = now_ns();
            let count: u64 = dues.iter().map(|(_, count)| count).sum();
            let bytes = count as usize * plan.payload_bytes;
            shared.polled.borrow_mut().note_many(count, asked_ns, now_ns, bytes);
            shared.pages.borrow_mut().note(asked_ns, now_ns, answer.body.len());
            shared.polled_total.set(shared.polled_total.get() + count);
            self.from = if next >= head { 0 } else { next };
            if count == 0 {
                // The topic is empty; an immediate retry would only measure that.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }
}

fn read(page: Page<'_>, from: u64, plan: &Plan) -> anyhow::Result<(u64, u64, Dues)> {
    let Page { head, next, messages } = page;
    let (to, dues) = check_all(messages, from, plan)?;
    ensure!(to == next, "a page ends at {to} and says {next}");
    Ok((next, head, dues))
}

fn read_lines(answer: &Answer, from: u64, plan: &Plan) -> anyhow::Result<(u64, u64, Dues)> {
    let header = |name| -> anyhow::Result<u64> {
        let value = answer.headers.get(name).context("a page without its headers")?;
        Ok(value.to_str()?.parse()?)
    };
    let (next, head) = (header("weir-next")?, header("weir-head")?);
    let mut messages = Vec::with_capacity(plan.pollers.page);
    for line in serde_json::Deserializer::from_slice(&answer.body).into_iter() {
        messages.push(line?);
    }
    let (to, dues) = check_all(messages, from, plan)?;
    ensure!(to == next, "a page ends at {to} and says {next}");
    Ok((next, head, dues))
}
