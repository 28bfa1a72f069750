//! What a receipt tells, and whom it does not tell it.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::eventually;

async fn publish(broker: &Broker, query: &str, headers: &[(&str, &str)]) -> Response {
    let request = broker.http.post(broker.url(&format!("/v1/topics/t/messages{query}")));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body("1").send().await.unwrap()
}

async fn receipt(broker: &Broker, headers: &[(&str, &str)]) -> String {
    let answer = publish(broker, "", headers).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(location, format!("/v1/receipts/{}", answer["receipt"].as_str().unwrap()));
    location
}

fn stages(story: &Value) -> Vec<&str> {
    story["history"].as_array().unwrap().iter().map(|m| m["stage"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_receipt_tells_how_far_its_message_has_come_and_survives_a_kill() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    broker.put_topic("t", json!({ "ack_level": "os", "sync_interval_ms": 70 })).await;
    receipt(&broker, &[]).await;
    let location = receipt(&broker, &[]).await;
    let check = |story: Value| {
        assert_eq!(story["stage"], "queued");
        assert_eq!((&story["topic"], &story["offset"]), (&json!("t"), &json!(1)));
        assert_eq!(story["loss_bound_ms"], 70);
        assert_eq!(story["subscriptions"], json!([]));
        assert_eq!(stages(&story), ["accepted", "logged", "queued"]);
        assert!(story["history"][1]["at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(location, format!("/v1/receipts/{}", story["receipt"].as_str().unwrap()));
    };
    check(broker.json(&location).await);
    // What has been reached is not waited for.
    check(broker.json(&format!("{location}?until=queued&wait_ms=30000")).await);
    broker.kill();
    let broker = Broker::start(&data);
    check(broker.json(&location).await);
}

#[tokio::test]
async fn receipts_that_are_none_are_told_apart_from_those_that_name_nothing() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let location = receipt(&broker, &[]).await;
    problem(broker.get("/v1/receipts/nonsense").await, 400, "invalid-receipt").await;
    let last = if location.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &location[..location.len() - 1]);
    problem(broker.get(&forged).await, 404, "receipt-not-found").await;
    let unknown = "/v1/receipts/00000000-0000-4000-8000-000000000000";
    problem(broker.get(unknown).await, 404, "receipt-not-found").await;
    problem(broker.get(&format!("{location}?until=soon")).await, 400, "invalid-request").await;
    problem(broker.get(&format!("{location}?wait_ms=30001")).await, 400, "invalid-request").await;
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    problem(broker.get(&location).await, 404, "receipt-not-found").await;
}

#[tokio::test]
async fn who_guesses_receipts_is_made_to_wait_at_the_limit_and_not_before() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__RECEIPT_MISSES_PER_MINUTE", "3")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    let location = receipt(&broker, &[]).await;
    let unknown = "/v1/receipts/00000000-0000-4000-8000-000000000000";
    for _ in 0..3 {
        problem(broker.get(unknown).await, 404, "receipt-not-found").await;
    }
    let refused = broker.get(unknown).await;
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    problem(refused, 429, "rate-limited").await;
    problem(broker.get("/v1/receipts/nonsense").await, 429, "rate-limited").await;
    // Whoever has a right one behind the same address is answered, whatever there is to say.
    assert_eq!(broker.json(&location).await["offset"], 0);
    assert_eq!(
        broker.json(&format!("{location}?until=logged&wait_ms=10")).await["stage"],
        "queued"
    );
    problem(broker.get(&format!("{location}?until=soon")).await, 400, "invalid-request").await;
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    problem(broker.get(&location).await, 404, "receipt-not-found").await;
}

#[tokio::test]
async fn right_receipts_of_what_is_gone_are_no_guesses() {
    let directory = tempdir().unwrap();
    let environment = [("WEIR__LIMITS__RECEIPT_MISSES_PER_MINUTE", "3")];
    let broker = Broker::start_with(&directory.path().join("data"), &environment);
    let location = receipt(&broker, &[]).await;
    broker.http.delete(broker.url("/v1/topics/t")).send().await.unwrap();
    for _ in 0..10 {
        problem(broker.get(&location).await, 404, "receipt-not-found").await;
    }
    problem(broker.get("/v1/receipts/nonsense").await, 400, "invalid-receipt").await;
}

#[tokio::test]
async fn a_message_expires_and_readers_are_told_of_a_gap() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    receipt(&broker, &[]).await;
    let location = receipt(&broker, &[("weir-ttl-ms", "1")]).await;
    receipt(&broker, &[("weir-ttl-ms", "86400000")]).await;
    eventually("it expires", async || broker.json(&location).await["stage"] == "expired").await;
    let story = broker.json(&location).await;
    assert_eq!(stages(&story), ["accepted", "logged", "queued", "expired"]);
    let page = broker.json("/v1/topics/t/messages").await;
    let offsets: Vec<_> =
        page["messages"].as_array().unwrap().iter().map(|m| m["offset"].clone()).collect();
    assert_eq!(offsets, [json!(0), json!(2)]);
    assert_eq!((&page["gaps"], &page["next"]), (&json!([{ "from": 1, "to": 1 }]), &json!(3)));
    let mut tail = crate::support::socket::Socket::tail(&broker, "t", "earliest").await;
    assert_eq!(tail.frame().await["messages"][0]["offset"], 0);
    assert_eq!(tail.frame().await, json!({ "gap": { "from": 1, "to": 1 } }));
    assert_eq!(tail.frame().await["messages"][0]["offset"], 2);
    problem(broker.get("/v1/topics/t/messages/1").await, 410, "offset-gone").await;
}

#[tokio::test]
async fn an_answer_is_held_back_until_the_stage_that_was_asked_for() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let answer = publish(&broker, "?until=queued", &[("prefer", "respond-async, wait=20")]).await;
    assert_eq!(answer.headers()["preference-applied"], "wait=20");
    assert_eq!(answer.json::<Value>().await.unwrap()["stage"], "queued");
    // Nobody will deliver it; its end is what ends the wait, long before the 20 seconds.
    let headers = [("prefer", "wait=20"), ("weir-ttl-ms", "50")];
    let answer = publish(&broker, "?until=delivered", &headers).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["stage"], "expired");
    let answer = publish(&broker, "?until=acked", &[]).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["stage"], "logged", "nobody asked to wait");
    problem(publish(&broker, "?until=done", &[]).await, 400, "invalid-request").await;
}
