//! Server-Sent Events.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;

/// Long enough for anything the broker does.
const PATIENCE: Duration = Duration::from_secs(20);

/// An event: its id, its kind, its data.
#[derive(Debug, PartialEq)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

/// A connected client; after the comment that says so.
struct Events {
    answer: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(broker: &Broker, query: &str, last_event_id: Option<&str>) -> Self {
        let request = broker.http.get(broker.url(&format!("/v1/topics/t/events{query}")));
        let request = match last_event_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = Self { answer, text: String::new() };
        assert_eq!(events.block().await.as_deref(), Some(":"), "a comment at once");
        events
    }

    /// The text up to the next empty line; none at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let within = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let piece = within.expect("something within 20 s").ok()??;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    async fn event(&mut self) -> Event {
        let block = self.block().await.expect("an event, not the end");
        let mut event = Event { id: String::new(), kind: "message".into(), data: Value::Null };
        for line in block.lines() {
            match line.split_once(": ").expect("a field") {
                ("id", id) => event.id = id.to_owned(),
                ("event", kind) => event.kind = kind.to_owned(),
                ("data", data) => event.data = serde_json::from_str(data).expect("JSON"),
                other => panic!("{other:?}"),
            }
        }
        event
    }
}

#[tokio::test]
async fn a_client_that_can_set_no_header_resumes_by_a_parameter() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for n in 0..4 {
        broker.publish("t", "application/json", n.to_string()).await;
    }
    for (query, header, first) in [
        ("?lastEventId=1-0", None, 1),
        ("?from=earliest&lastEventId=1-1", None, 2),
        ("?lastEventId=1-0&from=latest", None, 1),
        ("?from=earliest&lastEventId=", None, 0),
        ("?lastEventId=1-0", Some("1-2"), 3),
        ("?lastEventId=1-1", Some(""), 2),
    ] {
        let mut events = Events::open(&broker, query, header).await;
        assert_eq!(events.event().await.data["data"], first, "{query} {header:?}");
    }
    for bad in ["x", "1", "1-", "-1", "1-x", "%ff"] {
        let answer = broker.get(&format!("/v1/topics/t/events?lastEventId={bad}")).await;
        let refused = problem(answer, 400, "invalid-request").await;
        assert!(refused["detail"].as_str().unwrap().contains("`lastEventId`"), "{bad}: {refused}");
    }
    for unknown in ["last_event_id=1-0", "lasteventid=1-0", "lastEventId=1-0&lastEventId=1-0"] {
        let answer = broker.get(&format!("/v1/topics/t/events?{unknown}")).await;
        problem(answer, 400, "invalid-request").await;
    }
}

#[tokio::test]
async fn events_carry_messages_and_a_client_resumes_behind_the_last_one_it_saw() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    assert_eq!(broker.get("/v1/topics/t/events").await.status(), 200, "it makes its topic");
    broker.put_topic("t", json!({})).await;
    let mut latest = Events::open(&broker, "", None).await;
    for n in 0..3 {
        broker.publish("t", "application/json", format!("{{\"n\":\n{n}}}")).await;
    }
    for n in 0..3 {
        let event = latest.event().await;
        assert_eq!((event.id, event.kind.as_str()), (format!("1-{n}"), "message"));
        assert_eq!(event.data["data"], json!({ "n": n }));
        assert_eq!(event.data["offset"], n);
    }
    let mut resumed = Events::open(&broker, "?from=earliest", Some("1-1")).await;
    assert_eq!(resumed.event().await.data["offset"], 2);
    // Who saw more than there is saw another topic of that name.
    let mut another = Events::open(&broker, "", Some("1-9")).await;
    assert_eq!(another.event().await.data["offset"], 0);
    let mut earliest = Events::open(&broker, "?from=earliest", None).await;
    assert_eq!(earliest.event().await.data["offset"], 0);
    for (query, id) in [("?from=9", None), ("?from=x", None), ("", Some("9")), ("", Some("1-x"))] {
        let request = broker.http.get(broker.url(&format!("/v1/topics/t/events{query}")));
        let request =
            id.map_or(request.try_clone().unwrap(), |id| request.header("last-event-id", id));
        problem(request.send().await.unwrap(), 400, "invalid-request").await;
    }
}

#[tokio::test]
async fn what_is_gone_is_told_as_a_gap_and_the_stream_goes_on_behind_it() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__STORAGE__RETENTION_INTERVAL_MS", "100")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.put_topic("t", json!({ "retention_bytes": 65_536 })).await;
    for _ in 0..20 {
        broker.publish("t", "x/y", vec![0; 10_000]).await;
    }
    eventually("the first are gone", async || broker.json("/v1/topics/t").await["first"] != 0)
        .await;
    let mut events = Events::open(&broker, "", Some("1-0")).await;
    let gap = events.event().await;
    assert_eq!((gap.kind.as_str(), &gap.data["from"]), ("gap", &json!(1)));
    let behind = gap.data["to"].as_u64().unwrap() + 1;
    assert_eq!(gap.id, format!("1-{}", behind - 1), "who resumes there hears of it no more");
    assert_eq!(events.event().await.data["offset"], behind);
}

#[tokio::test]
async fn a_stop_ends_the_stream() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({})).await;
    let mut events = Events::open(&broker, "", None).await;
    broker.terminate();
    assert_eq!(events.block().await, None);
    assert_eq!(broker.ended().code(), Some(0));
}

#[tokio::test]
async fn a_deleted_topic_ends_the_stream_with_an_error() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({})).await;
    let mut events = Events::open(&broker, "", None).await;
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    let error = events.event().await;
    assert_eq!((error.kind.as_str(), &error.data["code"]), ("error", &json!("topic-not-found")));
    assert_eq!(events.block().await, None);
}
