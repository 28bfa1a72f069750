//! Requests to a broker over HTTP.
//!
//! An error is a text with the request and the answer; the fault decides whether that is a
//! violation.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::broker::PATIENCE;
use crate::history::{Found, Gap, Reading};

/// A client of one broker.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: String,
}

/// A topic as the broker describes it.
#[derive(Clone, Debug)]
pub struct TopicView(pub Value);

impl TopicView {
    pub fn is_quarantined(&self) -> bool {
        self.0["state"] == "quarantined"
    }

    pub fn gaps(&self) -> Vec<Gap> {
        gaps(&self.0)
    }
}

impl Client {
    pub fn new(address: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self { http, address: address.to_owned() })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(self.url(path)).send().await;
        let answer = answer.with_context(|| format!("GET {path}"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("GET {path}: the body"))?;
        if status != StatusCode::OK {
            bail!("GET {path} answers {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("GET {path} answers no JSON"))
    }

    /// Creates or changes a topic; returns the status and the body.
    pub async fn put_topic(
        &self,
        topic: &str,
        settings: &Value,
    ) -> anyhow::Result<(StatusCode, String)> {
        let request = self.http.put(self.url(&format!("/v1/topics/{topic}"))).json(settings);
        let answer = request.send().await.with_context(|| format!("PUT {topic}"))?;
        Ok((answer.status(), answer.text().await?))
    }

    /// A copy of everything, to the last byte.
    pub async fn backup(&self) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(self.url("/v1/backup")).send().await.context("a backup")?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "it answers {}", answer.status());
        Ok(answer.bytes().await?.into())
    }

    /// The stage of a receipt; `gone` if no message has it.
    pub async fn stage(&self, receipt: &str) -> anyhow::Result<String> {
        let path = format!("/v1/receipts/{receipt}");
        let answer = self.http.get(self.url(&path)).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok("gone".to_owned());
        }
        let status = answer.status();
        let answer: Value = answer.json().await.with_context(|| format!("{path}: {status}"))?;
        Ok(answer["stage"].as_str().with_context(|| format!("{path}: {answer}"))?.to_owned())
    }

    pub async fn delete_topic(&self, topic: &str) -> anyhow::Result<StatusCode> {
        let request = self.http.delete(self.url(&format!("/v1/topics/{topic}")));
        Ok(request.send().await.with_context(|| format!("DELETE {topic}"))?.status())
    }

    /// Publishes many payloads at once.
    pub async fn publish_many(&self, topic: &str, payloads: &[Value]) -> anyhow::Result<Response> {
        let messages: Vec<_> = payloads.iter().map(|data| json!({ "data": data })).collect();
        let request = self.http.post(self.url(&format!("/v1/topics/{topic}/messages")));
        let request = request.header("content-type", "application/vnd.weir.messages+json");
        let body = json!({ "messages": messages }).to_string();
        request.body(body).send().await.with_context(|| format!("publishing to {topic}"))
    }

    /// Publishes a message with this time to live.
    pub async fn publish_for(&self, topic: &str, ttl_ms: u64) -> anyhow::Result<StatusCode> {
        let request = self.http.post(self.url(&format!("/v1/topics/{topic}/messages")));
        let request = request.header("weir-ttl-ms", ttl_ms).body("1");
        Ok(request.send().await.context("publishing")?.status())
    }

    /// Publishes one message twice under one id, and returns whether the second one was detected.
    pub async fn knows_message_ids(&self, topic: &str) -> anyhow::Result<bool> {
        let url = self.url(&format!("/v1/topics/{topic}/messages"));
        let mut last = Value::Null;
        for _ in 0..2 {
            let request = self.http.post(&url).header("idempotency-key", "probe").body("probe");
            last = request.send().await.context("a probe")?.json().await.context("a probe")?;
        }
        Ok(last["duplicate"] == true)
    }

    /// `None` if the topic does not exist.
    pub async fn topic(&self, topic: &str) -> anyhow::Result<Option<TopicView>> {
        let path = format!("/v1/topics/{topic}");
        let answer = self.http.get(self.url(&path)).send().await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(TopicView(answer.json().await?))),
            StatusCode::NOT_FOUND => Ok(None),
            status => bail!("GET {path} answers {status}: {}", answer.text().await?),
        }
    }

    /// All messages of a topic, by polling. With an error it returns what was read before.
    pub async fn read(&self, topic: &str) -> (Reading, anyhow::Result<()>) {
        let start = Instant::now();
        loop {
            let mut reading = Reading::default();
            let outcome = self.read_into(topic, &mut reading).await;
            // Retention has removed the offset meanwhile: it begins anew.
            let overtaken = |error: &anyhow::Error| error.to_string().contains("answers 410");
            if !outcome.as_ref().is_err_and(overtaken) || start.elapsed() > PATIENCE {
                return (reading, outcome);
            }
        }
    }

    async fn read_into(&self, topic: &str, reading: &mut Reading) -> anyhow::Result<()> {
        let view = self.topic(topic).await?.with_context(|| format!("no topic {topic}"))?;
        let number = |name: &str| view.0[name].as_u64().unwrap_or(0);
        reading.epoch = number("epoch");
        reading.first = number("first");
        reading.gaps = view.gaps();
        let mut from = reading.first;
        loop {
            let path = format!("/v1/topics/{topic}/messages");
            let page = format!("{path}?from={from}&max=10000&max_bytes=8000000");
            let page = self.get(&page).await?;
            reading.polled_gaps.extend(gaps(&page));
            let messages = page["messages"].as_array().context("a page has messages")?;
            reading.messages.extend(messages.iter().map(Found::from));
            let next = page["next"].as_u64().context("a page says where to go on")?;
            let head = page["head"].as_u64().context("a page says how far it goes")?;
            if next >= head || next == from {
                reading.head = Some(head);
                return Ok(());
            }
            from = next;
        }
    }
}

fn gaps(value: &Value) -> Vec<Gap> {
    let ends = |gap: &Value| Some(Gap { from: gap["from"].as_u64()?, to: gap["to"].as_u64()? });
    value["gaps"].as_array().into_iter().flatten().filter_map(ends).collect()
}
