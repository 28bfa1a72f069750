//! A panic in any moving part, at any step: back within a second from the journal, nothing
//! acknowledged lost, nothing stored twice, nobody left waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::sync::watch;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;
use crate::support::history::{History, payload};
use crate::support::load::{self, Control};
use crate::support::socket::Socket;

/// How many messages a tail has seen.
type Seen = AtomicUsize;

const SEAMS: [&str; 7] = [
    "producer-received",
    "producer-forwarded",
    "ingest-received",
    "ingest-forwarded",
    "topic-head-advanced",
    "topic-readers-told",
    "topic-reader-attaching",
];

async fn restarts(broker: &Broker, topic: &str) -> u64 {
    broker.json(&format!("/v1/topics/{topic}")).await["restarts"].as_u64().unwrap()
}

/// Plans a panic, waits for it, and checks that messages pass again within a second, from the
/// producers to the tail.
async fn die_and_come_back(broker: &Broker, seam: &str, nth: u64, control: &Control, tail: &Seen) {
    let before = restarts(broker, "t").await;
    broker.plan_fault(seam, nth).await;
    if seam == "topic-reader-attaching" {
        // Only a new reader passes there.
        Socket::tail(broker, "t", "latest").await;
    }
    eventually("the actor has died", async || restarts(broker, "t").await > before).await;
    let died = Instant::now();
    let (acknowledged, seen) = (control.acknowledged(), tail.load(Ordering::SeqCst));
    eventually("messages pass again", async || {
        let topic = broker.json("/v1/topics/t").await;
        topic["state"] == "running"
            && control.acknowledged() > acknowledged
            && tail.load(Ordering::SeqCst) > seen
    })
    .await;
    assert!(died.elapsed() < Duration::from_secs(1), "{seam}: back after {:?}", died.elapsed());
}

/// Reads a tail while it is pushed, so that it depends on being told; ends once it has as many
/// messages as `expected` says.
async fn follow(
    mut tail: Socket,
    mut expected: watch::Receiver<usize>,
    seen: Arc<Seen>,
) -> Vec<Value> {
    let mut messages = Vec::new();
    while messages.len() < *expected.borrow_and_update() {
        tokio::select! {
            found = tail.messages(1) => {
                messages.extend(found);
                seen.store(messages.len(), Ordering::SeqCst);
            }
            _ = expected.changed() => {}
        }
    }
    messages
}

/// Loads topic `t` with producers and a tail while `faults` happen, then checks that every message
/// was answered and stored once and in order, and that the tail saw just that.
async fn under_load(broker: &Broker, faults: impl AsyncFnOnce(&Control, &Seen)) {
    let (expect, expected) = watch::channel(usize::MAX);
    let tail = Socket::tail(broker, "t", "earliest").await;
    let seen = Arc::new(Seen::new(0));
    let tail = tokio::spawn(follow(tail, expected, seen.clone()));
    let control = Control::default();
    let producers = load::start(broker, "t", 4, &control);
    faults(&control, &seen).await;
    control.stop();
    let mut history = load::gather(producers).await;
    let found = broker.read_all("t").await;
    assert_eq!(history.acknowledged_count(), found.len(), "every message was answered");
    expect.send_replace(found.len());
    history.found(found);
    assert_eq!(history.violations(), []);
    history.found(tail.await.unwrap());
    assert_eq!(history.violations(), [], "as the tail saw it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_actor_panics_at_whichever_step_nothing_is_lost_doubled_or_reordered() {
    let directory = tempdir().unwrap();
    // Enough budget for every planned death.
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "1000")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    under_load(&broker, async |control, seen| {
        for round in 0..3 {
            for seam in SEAMS {
                let nth = if seam == "topic-reader-attaching" { 1 } else { 1 + 5 * round };
                die_and_come_back(&broker, seam, nth, control, seen).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_logger_that_dies_a_hundred_times_lets_nothing_overtake() {
    let directory = tempdir().unwrap();
    // Without a pause the successor is there while senders still learn of the death.
    let environment = [
        ("WEIR__SUPERVISION__RESTARTS_MAX", "1000"),
        ("WEIR__SUPERVISION__BACKOFF_MS", "0"),
        ("WEIR__SUPERVISION__BACKOFF_MS_MAX", "0"),
    ];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    under_load(&broker, async |_, _| {
        for death in 0..100 {
            let seam = if death % 2 == 0 { "ingest-received" } else { "ingest-forwarded" };
            broker.plan_fault(seam, 1 + death % 7).await;
            eventually("it has died", async || restarts(&broker, "t").await > death).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_for_the_actor_that_died_under_it() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    for (n, seam) in ["ingest-received", "ingest-forwarded"].into_iter().enumerate() {
        broker.plan_fault(seam, 1).await;
        let body = payload((0, n as u64)).to_string();
        let answer = broker.publish("t", "application/json", body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{seam}");
    }
    let mut history = History::default();
    for n in 0..2 {
        history.sent((0, n));
        history.acknowledged((0, n), n);
    }
    history.found(broker.read_all("t").await);
    assert_eq!(history.violations(), []);
    assert_eq!(restarts(&broker, "t").await, 2);
}

#[tokio::test]
async fn a_long_poll_survives_the_death_of_the_topic_actor() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "1000")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("t", "application/json", "0").await;
    // Whether the poll waits already when the actor dies is up to chance, and so is whether the
    // actor is back in time to be told of the next message: try it often.
    for n in 1..=20 {
        broker.plan_fault("topic-head-advanced", 1).await;
        let url = format!("/v1/topics/t/messages?from={n}&wait_ms=30000");
        let body = n.to_string();
        let (page, _) =
            tokio::join!(broker.json(&url), broker.publish("t", "application/json", body));
        assert_eq!(page["messages"][0]["data"], n);
        eventually("it runs again", async || {
            broker.json("/v1/topics/t").await["state"] == "running"
        })
        .await;
    }
    let deaths = restarts(&broker, "t").await;
    assert!(deaths >= 5, "it died {deaths} times only");
}

#[tokio::test]
async fn a_panic_in_a_handler_or_a_session_is_that_clients_misfortune_only() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.plan_fault("handler-publishing", 1).await;
    problem(broker.publish("t", "x/y", "1").await, 500, "internal").await;
    assert_eq!(broker.publish("t", "x/y", "1").await.status(), StatusCode::ACCEPTED);

    let mut unlucky = Socket::producer(&broker, "t", "").await;
    let mut other = Socket::producer(&broker, "t", "").await;
    broker.plan_fault("session-frame", 1).await;
    unlucky.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(unlucky.close_code().await, Some(1011));
    other.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(other.frame().await["acks"][0]["offset"], 1);
}

#[tokio::test]
async fn a_producer_that_dies_again_and_again_costs_its_own_socket_only() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "0")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    let mut socket = Socket::producer(&broker, "t", "").await;
    broker.plan_fault("producer-received", 1).await;
    socket.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(socket.frame().await["acks"][0]["error"]["temporary"], true);
    assert_eq!(socket.close_code().await, Some(1013), "come back");
    let mut socket = Socket::producer(&broker, "t", "").await;
    socket.send(r#"{"id":1,"data":1}"#).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 0);
    assert_eq!(broker.json("/v1/topics/t").await["state"], "running");
}

#[tokio::test]
async fn a_spent_restart_budget_quarantines_that_topic_alone_until_somebody_recovers_it() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__SUPERVISION__RESTARTS_MAX", "2")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    broker.publish("bad", "application/json", "0").await;
    let mut socket = Socket::producer(&broker, "bad", "").await;
    for _ in 0..2 {
        broker.plan_fault("ingest-received", 1).await;
        assert_eq!(broker.publish("bad", "x/y", "1").await.status(), StatusCode::ACCEPTED);
    }
    broker.plan_fault("ingest-received", 1).await;
    problem(broker.publish("bad", "x/y", "1").await, 503, "quarantined").await;
    assert_eq!(broker.json("/v1/topics/bad").await["state"], "quarantined");
    assert_eq!(
        broker.json("/readyz").await,
        json!({ "ready": true, "degraded": [{ "reason": "quarantined", "topic": "bad" }] })
    );

    socket.send(r#"[{"id":1,"data":1},{"id":2,"data":2}]"#).await;
    let refused = socket.frame().await;
    for ack in refused["acks"].as_array().unwrap() {
        assert_eq!(ack["error"]["code"], "quarantined");
        assert_eq!(ack["error"]["temporary"], true);
    }
    assert_eq!(socket.close_code().await, Some(1013), "come back");

    assert_eq!(broker.publish("good", "x/y", "1").await.status(), StatusCode::ACCEPTED);
    assert_eq!(broker.read_all("bad").await.len(), 3, "what it holds can be read");

    let recover = broker.http.post(broker.url("/v1/topics/bad/recover")).send().await.unwrap();
    assert_eq!(recover.status(), StatusCode::OK);
    eventually("it runs again", async || broker.json("/v1/topics/bad").await["state"] == "running")
        .await;
    assert_eq!(broker.publish("bad", "x/y", "1").await.status(), StatusCode::ACCEPTED);
    assert_eq!(broker.json("/readyz").await["degraded"], json!([]));
}
