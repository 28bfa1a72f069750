//! Signals that people and their scripts send: two stop the broker, all others leave it running.

use tempfile::tempdir;

use crate::support::broker::Broker;
use crate::support::socket::Socket;

#[tokio::test]
async fn what_is_no_request_to_stop_does_not_end_it() {
    let directory = tempdir().unwrap();
    let mut broker = Broker::start(&directory.path().join("data"));
    let mut producer = Socket::producer(&broker, "t", "").await;
    for (n, name) in [
        "HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "XCPU", "XFSZ", "STKFLT",
        "PIPE",
    ]
    .into_iter()
    .enumerate()
    {
        // Twice: the first must not put the default back.
        broker.signal(name);
        broker.signal(name);
        producer.send(&format!(r#"{{"id":{n},"data":1}}"#)).await;
        assert_eq!(producer.frame().await["acks"][0]["offset"], n, "{name}");
        assert!(broker.is_running(), "{name}");
    }
    broker.terminate();
    assert_eq!(broker.ended().code(), Some(0));
}

#[tokio::test]
async fn both_requests_to_stop_are_in_order_and_one_more_changes_nothing() {
    let directory = tempdir().unwrap();
    for (first, then) in [("TERM", "INT"), ("INT", "TERM"), ("TERM", "HUP"), ("INT", "USR1")] {
        let broker = Broker::start(&directory.path().join(format!("{first}-{then}")));
        let mut producer = Socket::producer(&broker, "t", "").await;
        producer.send(r#"{"id":1,"data":1}"#).await;
        assert_eq!(producer.frame().await["acks"][0]["offset"], 0);
        broker.signal(first);
        broker.signal(then);
        assert_eq!(producer.close_code().await, Some(1001), "{first} {then}");
        assert_eq!(broker.ended().code(), Some(0), "{first} {then}");
    }
}
