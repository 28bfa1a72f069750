//! The topics of a run: created before it, checked and deleted after it.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::json;

/// Requests in flight together.
const TOGETHER: usize = 32;

pub(super) struct Topics {
    client: Client,
    base: String,
    pub(super) names: Vec<String>,
}

#[derive(Deserialize)]
struct Shown {
    head: u64,
}

impl Topics {
    /// Creates N topics at this ack level.
    pub(super) async fn make(address: &str, count: usize, ack_level: &str) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        let run = uuid::Uuid::from_u128(u128::from(super::payload::now_ns()));
        let names = (0..count).map(|n| format!("weir-bench.{}.{n}", run.simple())).collect();
        let topics = Self { client, base: format!("http://{address}/v1/topics"), names };
        let settings = json!({ "ack_level": ack_level });
        topics.each(|name| topics.ask(Method::PUT, name, Some(&settings))).await?;
        Ok(topics)
    }

    /// How many messages each has.
    pub(super) async fn heads(&self) -> anyhow::Result<Vec<u64>> {
        self.each(|name| async move {
            let shown: Shown = serde_json::from_slice(&self.ask(Method::GET, name, None).await?)?;
            Ok(shown.head)
        })
        .await
    }

    pub(super) async fn delete(&self) -> anyhow::Result<()> {
        self.each(|name| self.ask(Method::DELETE, name, None)).await.map(drop)
    }

    fn origin(&self) -> &str {
        self.base.trim_end_matches("/v1/topics")
    }

    async fn each<'a, T, F: Future<Output = anyhow::Result<T>>>(
        &'a self,
        work: impl Fn(&'a str) -> F,
    ) -> anyhow::Result<Vec<T>> {
        let work = self.names.iter().map(|name| work(name));
        stream::iter(work).buffered(TOGETHER).try_collect().await
    }

    async fn ask(
        &self,
        method: Method,
        name: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<bytes::Bytes> {
        let mut request = self.client.request(method, format!("{}/{name}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let unreachable = || format!("can't reach {} (is `weir serve` running?)", self.origin());
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let said = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "the broker answered {status} for topic {name}: {said}");
        Ok(body)
    }
}
