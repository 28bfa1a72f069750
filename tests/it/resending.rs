//! Sending again: message ids and named producers, over restarts too.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::broker::{Broker, problem};
use crate::support::socket::{Event, Socket};

async fn publish_with_id(broker: &Broker, topic: &str, id: &str, body: &str) -> Response {
    let url = broker.url(&format!("/v1/topics/{topic}/messages"));
    let request = broker.http.post(url).header("idempotency-key", id);
    request.header("content-type", "text/plain").body(body.to_owned()).send().await.unwrap()
}

#[tokio::test]
async fn a_message_with_a_known_id_is_answered_with_the_first_ones_receipt() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let mut broker = Broker::start(&data);
    let first: Value = publish_with_id(&broker, "t", "a", "x").await.json().await.unwrap();
    assert_eq!((&first["offset"], &first["duplicate"]), (&json!(0), &json!(false)));
    for restart in [false, true, true] {
        if restart {
            broker.kill();
            broker = Broker::start(&data);
        }
        let again = publish_with_id(&broker, "t", "a", "x").await;
        assert_eq!(again.status(), StatusCode::ACCEPTED);
        let again: Value = again.json().await.unwrap();
        assert_eq!((&again["receipt"], &again["offset"]), (&first["receipt"], &json!(0)));
        assert_eq!(again["duplicate"], true);
        problem(publish_with_id(&broker, "t", "a", "y").await, 409, "message-id-conflict").await;
    }
    let other: Value = publish_with_id(&broker, "other", "a", "y").await.json().await.unwrap();
    assert_eq!(other["duplicate"], false, "a window is its topic's own");
    assert_eq!(broker.read_all("t").await.len(), 1);
}

#[tokio::test]
async fn of_many_at_once_with_one_id_one_is_stored_and_all_are_told_where() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let at_once = (0..50).map(|_| publish_with_id(&broker, "t", "a", "x"));
    let mut first = 0;
    for answer in futures_util::future::join_all(at_once).await {
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["offset"], 0);
        first += u32::from(answer["duplicate"] == false);
    }
    assert_eq!((first, broker.read_all("t").await.len()), (1, 1));
}

#[tokio::test]
async fn in_a_batch_and_over_a_socket_every_message_is_answered_for_itself() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let batch = json!({ "messages": [
        { "data": 1, "message_id": "a" }, { "data": 2 }, { "data": 1, "message_id": "a" },
        { "data": 9, "message_id": "a" }, { "data": 3, "message_id": "b" },
    ]});
    let form = "application/vnd.weir.messages+json";
    let answer: Value = broker.publish("t", form, batch.to_string()).await.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(4), &json!(1)));
    let results = answer["results"].as_array().unwrap();
    let offsets: Vec<_> = results.iter().map(|result| result["offset"].as_u64()).collect();
    assert_eq!(offsets, [Some(0), Some(1), Some(0), None, Some(2)]);
    assert_eq!(results[2]["duplicate"], true);
    assert_eq!(results[3]["error"]["code"], "message-id-conflict");

    let mut socket = Socket::producer(&broker, "t", "").await;
    socket
        .send(json!([
            { "id": 1, "data": 3, "message_id": "b" }, { "id": 2, "data": 4, "message_id": "c" },
            { "id": 3, "data": 5, "message_id": "c" },
        ]))
        .await;
    let acks = socket.frame().await["acks"].clone();
    assert_eq!((&acks[0]["offset"], &acks[0]["duplicate"]), (&json!(2), &json!(true)));
    assert_eq!((&acks[1]["offset"], &acks[1]["duplicate"]), (&json!(3), &json!(false)));
    assert_eq!(acks[2]["error"]["code"], "message-id-conflict");
    assert_eq!(broker.read_all("t").await.len(), 4);
}

#[tokio::test]
async fn a_window_forgets_what_is_one_too_many() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    broker.put_topic("t", json!({ "dedup_window_messages": 2 })).await;
    for id in ["a", "b", "c"] {
        publish_with_id(&broker, "t", id, "x").await;
    }
    let duplicate = async |id| {
        let answer: Value = publish_with_id(&broker, "t", id, "x").await.json().await.unwrap();
        answer["duplicate"] == true
    };
    assert!(duplicate("b").await && duplicate("c").await);
    assert!(!duplicate("a").await);
}

#[tokio::test]
async fn a_named_producer_is_told_where_to_go_on_and_what_it_sends_again_is_not_stored() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let mut broker = Broker::start(&data);
    let open = async |broker: &Broker| {
        let path = "/v1/topics/t/producer?producer=car-7";
        let mut socket = Socket::open(broker, path).await;
        let welcome = socket.frame().await["welcome"].clone();
        (socket, welcome["resume_after"].clone())
    };
    let (mut socket, resume_after) = open(&broker).await;
    assert_eq!(resume_after, Value::Null, "a new name");
    socket.send(json!([{ "id": 3, "data": 3 }, { "id": 5, "data": 5 }])).await;
    assert_eq!(socket.frame().await["acks"][1]["offset"], 1);
    for bad in
        [json!({ "id": 5, "data": 5 }), json!({ "data": 6 }), json!({ "id": "x", "data": 6 })]
    {
        socket.send(&bad).await;
        let frame = socket.frame().await;
        let error = frame["acks"][0]["error"]["code"].as_str().or(frame["error"]["code"].as_str());
        assert_eq!(error, Some("invalid-request"), "{bad}: {frame}");
    }
    broker.kill();
    broker = Broker::start(&data);
    let (mut socket, resume_after) = open(&broker).await;
    assert_eq!(resume_after, 5);
    socket
        .send(json!([{ "id": 3, "data": 3 }, { "id": 5, "data": 5 }, { "id": 6, "data": 6 }]))
        .await;
    let acks = socket.frame().await["acks"].clone();
    assert_eq!((&acks[1]["id"], &acks[1]["duplicate"]), (&json!(5), &json!(true)));
    assert_eq!((&acks[2]["offset"], &acks[2]["duplicate"]), (&json!(2), &json!(false)));
    let stored: Vec<_> = broker.read_all("t").await.iter().map(|m| m["data"].clone()).collect();
    assert_eq!(stored, [3, 5, 6]);
    let bad = Socket::try_open(&broker.address, "/v1/topics/t/producer?producer=a%20b").await;
    assert!(bad.is_err());
}

#[tokio::test]
async fn a_topic_remembers_so_many_names_and_forgets_the_silent_ones_first() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let limit = [("WEIR__STORAGE__PRODUCER_NAMES_MAX", "10")];
    let broker = Broker::start_with(&data, &limit);
    let publish = async |name: &str| {
        let path = format!("/v1/topics/t/producer?producer={name}");
        let mut socket = Socket::open(&broker, &path).await;
        let known = socket.frame().await["welcome"]["resume_after"].is_u64();
        socket.send(json!({ "id": if known { 2 } else { 1 }, "data": 1 })).await;
        socket.frame().await;
        known
    };
    for n in 0..10 {
        assert!(!publish(&format!("p{n}")).await);
    }
    assert!(publish("p0").await, "ten are remembered");
    assert!(!publish("p10").await);
    assert!(publish("p0").await, "it was not silent for the longest time");
}

#[tokio::test]
async fn of_two_sockets_with_one_name_the_newer_has_it_and_all_that_is_acknowledged_is_stored() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let path = "/v1/topics/t/producer?producer=x";
    let mut older = Socket::open(&broker, path).await;
    older.frame().await;
    older.send(json!({ "id": 1, "data": "older" })).await;
    assert_eq!(older.frame().await["acks"][0]["offset"], 0);
    let mut other = Socket::open(&broker, "/v1/topics/t/producer?producer=y").await;
    other.frame().await;
    // In flight when the name is taken: each is stored, or refused by its code.
    for id in 2..200 {
        older.send(json!({ "id": id, "data": "older" })).await;
    }
    let mut newer = Socket::open(&broker, path).await;
    let resume_after = newer.frame().await["welcome"]["resume_after"].as_u64().unwrap();
    let (mut stored, mut refused) = (1, 0);
    let closed = loop {
        let frame = match older.event().await {
            Event::Frame(frame) => frame,
            Event::Closed(reason) => break reason.map(|reason| u16::from(reason.code)),
        };
        for ack in frame["acks"].as_array().unwrap() {
            match ack.get("error") {
                Some(error) => {
                    assert_eq!(error["code"], "producer-fenced");
                    refused += 1;
                }
                None => stored = ack["id"].as_u64().unwrap(),
            }
        }
    };
    assert_eq!((closed, stored), (Some(1008), resume_after));
    newer.send(json!({ "id": resume_after + 1, "data": "newer" })).await;
    let ack = newer.frame().await["acks"][0].clone();
    assert_eq!((&ack["duplicate"], &ack["offset"]), (&json!(false), &json!(resume_after)));
    other.send(json!({ "id": 1, "data": "other" })).await;
    assert_eq!(other.frame().await["acks"][0]["duplicate"], false, "another name is untouched");
    let messages = broker.read_all("t").await;
    assert_eq!(messages.len() as u64, stored + 2, "{refused} were refused");
}

#[tokio::test]
async fn an_idle_socket_whose_name_is_taken_is_closed_and_its_name_stays_with_the_newest() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = Socket::open(&broker, "/v1/topics/t/producer?producer=x").await;
        socket.frame().await;
        sockets.push(socket);
    }
    let mut newest = sockets.pop().unwrap();
    for mut socket in sockets {
        assert_eq!(socket.close_code().await, Some(1008));
    }
    newest.send(json!({ "id": 1, "data": 1 })).await;
    assert_eq!(newest.frame().await["acks"][0]["offset"], 0);
    // The same name in another topic is another name.
    let mut elsewhere = Socket::open(&broker, "/v1/topics/u/producer?producer=x").await;
    elsewhere.frame().await;
    newest.send(json!({ "id": 2, "data": 2 })).await;
    assert_eq!(newest.frame().await["acks"][0]["offset"], 1);
}

#[tokio::test]
async fn an_id_near_the_end_of_all_numbers_is_refused_and_the_name_goes_on() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let mut socket = Socket::open(&broker, "/v1/topics/t/producer?producer=x").await;
    socket.frame().await;
    for id in [u64::MAX, u64::MAX - 1, 1 << 63] {
        socket.send(json!({ "id": id, "data": 1 })).await;
        let error = socket.frame().await;
        let error = error["acks"][0]["error"].as_object().or(error["error"].as_object()).cloned();
        let error = error.unwrap_or_else(|| panic!("{id} is taken"));
        assert_eq!(error["code"], "invalid-request");
        assert!(error["detail"].as_str().unwrap().contains("9223372036854775807"));
    }
    socket.send(json!({ "id": 1, "data": 1 })).await;
    assert_eq!(socket.frame().await["acks"][0]["offset"], 0);
}
