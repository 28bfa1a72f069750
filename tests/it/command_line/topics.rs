//! `weir topics`

use serde_json::{Value, json};
use tempfile::tempdir;

use super::{failed, printed, weir, wrong_use};
use crate::support::broker::Broker;

#[tokio::test]
async fn topics_are_created_shown_changed_and_deleted() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let created = ["topics", "create", "cars", "--ack-level", "os", "--retention-ms", "1h"];
    assert_eq!(
        printed(&broker, &created, ""),
        "created cars: ack_level os, retention_ms 3600000\n"
    );
    let changed = printed(&broker, &["topics", "change", "cars", "--dedup-window-ms", "7"], "");
    assert_eq!(changed, "changed cars: dedup_window_ms 7\n");

    let shown = printed(&broker, &["topics", "show", "cars", "--json"], "");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown, broker.json("/v1/topics/cars").await);
    assert_eq!((&shown["ack_level"], &shown["retention_ms"]), (&json!("os"), &json!(3_600_000)));
    assert_eq!(shown["dedup_window_ms"], 7);
    let table = printed(&broker, &["topics", "show", "cars"], "");
    for member in [["name", "cars"], ["state", "running"], ["gaps", "none"], ["ack_level", "os"]] {
        let line = table.lines().any(|line| line.split_whitespace().eq(member));
        assert!(line, "{member:?} in\n{table}");
    }

    printed(&broker, &["topics", "create", "phones"], "");
    assert_eq!(
        printed(&broker, &["topics", "delete", "cars", "phones"], ""),
        "deleted cars\ndeleted phones\n"
    );
    assert_eq!(broker.json("/v1/topics").await["topics"], json!([]));
}

#[tokio::test]
async fn settings_come_from_a_file_and_flags_beat_them() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let file = directory.path().join("settings.json");
    std::fs::write(&file, r#"{"ack_level": "os", "sync_interval_ms": 50}"#).unwrap();
    let file = file.to_str().unwrap();
    let arguments =
        ["topics", "create", "t", "--settings", file, "--sync-interval-ms", "60", "--json"];
    let created: Value = serde_json::from_str(&printed(&broker, &arguments, "")).unwrap();
    assert_eq!((&created["ack_level"], &created["sync_interval_ms"]), (&json!("os"), &json!(60)));
    let arguments = ["topics", "change", "t", "--settings", "-"];
    let changed = printed(&broker, &arguments, "{\"retention_bytes\": 70000}");
    assert_eq!(changed, "changed t: retention_bytes 70000\n");
    let (code, error) = failed(&broker, &arguments, "{\"colour\": 1}");
    assert!(code == 1 && error.contains("invalid-request") && error.contains("colour"), "{error}");
    let (code, error) = failed(&broker, &arguments, "[1]");
    assert!(code == 2 && error.contains("must be a JSON object of settings"), "{error}");
}

#[tokio::test]
async fn all_topics_are_listed_whatever_the_number() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    let none = weir(&broker, &["topics", "list"], "");
    assert_eq!(
        (none.status.code(), none.stdout, none.stderr),
        (Some(0), vec![], b"no topics\n".into())
    );
    let mut names = Vec::new();
    // More than a page.
    for number in 0..260 {
        let name = format!("cars.{number:03}");
        assert_eq!(broker.put_topic(&name, json!({})).await.status(), 201);
        names.push(name);
    }
    broker.publish("phones", "text/plain", "hello").await;
    let listed = printed(&broker, &["topics", "list", "--prefix", "cars.", "--json"], "");
    let topics = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(topics.map(|topic| topic["name"].clone()).collect::<Vec<_>>(), names);
    let table = printed(&broker, &["topics", "list"], "");
    assert_eq!(table.lines().count(), 1 + 261);
    let phones = table.lines().find(|line| line.contains("phones")).unwrap();
    let cells: Vec<_> = phones.split_whitespace().collect();
    assert_eq!(cells[..4], ["phones", "running", "sync", "1"], "{phones}");
}

#[tokio::test]
async fn what_a_broker_refuses_comes_with_a_hint() {
    let directory = tempdir().unwrap();
    let broker = Broker::start(&directory.path().join("data"));
    printed(&broker, &["topics", "create", "there"], "");
    for (arguments, said) in [
        (&["topics", "show", "t"][..], "topic-not-found: there is no topic `t`"),
        (&["topics", "show", "t"], "hint: `weir topics create t` makes it"),
        (&["topics", "change", "t", "--retention-ms", "1000"], "`weir topics create t`"),
        (&["topics", "create", "there"], "already-exists"),
        (&["topics", "create", "there"], "hint: `weir topics change there`"),
        (&["topics", "create", "t", "--sync-interval-ms", "0"], "`sync_interval_ms` is 0"),
        (&["topics", "delete", "t"], "t: topic-not-found"),
    ] {
        let (code, error) = failed(&broker, arguments, "");
        assert!(code == 1 && error.contains(said), "{arguments:?}: {code} {error}");
    }
    // One that is missing doesn't save the other.
    let several = weir(&broker, &["topics", "delete", "t", "there"], "");
    assert_eq!((several.status.code(), &several.stdout[..]), (Some(1), &b"deleted there\n"[..]));
}

#[test]
fn wrong_use_is_refused_before_anything_is_connected_to() {
    wrong_use(&[
        (&["topics"], "Usage"),
        (&["topics", "show", "a b"], "a name holds only"),
        (&["topics", "create", ".."], "no empty segment"),
        (&["topics", "create", "t", "--ack-level", "full"], "memory, os, sync"),
        (&["topics", "create", "t", "--retention-ms", "week"], "--retention-ms"),
        (&["topics", "create", "t", "--settings", "/nonexistent.json"], "/nonexistent.json"),
        (&["topics", "change", "t"], "nothing to change"),
        (&["topics", "delete"], "<NAME>"),
        (&["topics", "delete", "t", "_weir.audit"], "the broker's own"),
    ]);
}
