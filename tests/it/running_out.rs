//! What the store needs runs out, since others take it: disk, inodes, descriptors, the directory
//! itself. The broker refuses what it must, serves the rest, and loses nothing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::net::TcpStream;

use crate::support::broker::{Broker, problem};
use crate::support::disk::SmallDisk;
use crate::support::eventually;
use crate::support::socket::Socket;
use crate::support::wire::Wire;

/// A little of everything.
async fn fill(broker: &Broker) {
    for n in 0..20 {
        for topic in ["kept", "doomed"] {
            let body = vec![n; 65_536];
            let answer = broker.publish(topic, "application/octet-stream", body).await;
            assert_eq!(answer.status(), StatusCode::ACCEPTED);
        }
    }
    for n in 0..40 {
        broker.publish(&format!("small-{n}"), "x/y", "1").await;
    }
}

async fn change(broker: &Broker, topic: &str, settings: Value) -> StatusCode {
    let url = broker.url(&format!("/v1/topics/{topic}"));
    broker.http.patch(url).json(&settings).send().await.expect("an answer").status()
}

async fn delete(broker: &Broker, topic: &str) -> StatusCode {
    let url = broker.url(&format!("/v1/topics/{topic}"));
    broker.http.delete(url).send().await.expect("an answer").status()
}

/// All that must go on while nothing can be published.
async fn all_but_publishing_goes_on(broker: &Broker, round: usize) {
    problem(broker.publish("kept", "x/y", "1").await, 507, "storage-full").await;
    let ready = broker.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.json::<Value>().await.unwrap()["reason"], "storage-full");
    assert_eq!(broker.read_all("kept").await.len(), 20);
    assert_eq!(change(broker, "kept", json!({ "retention_ms": 90_000_000 + round })).await, 200);
    assert_eq!(broker.put_topic("small-0", json!({})).await.status(), 200);
    let copy = broker.get("/v1/backup").await;
    assert_eq!(copy.status(), 200);
    assert!(copy.bytes().await.unwrap().len() > 20 * 65_536);
    assert_eq!(delete(broker, &format!("small-{}", round + 1)).await, 204);
}

#[tokio::test]
async fn on_a_disk_that_others_fill_to_the_last_byte_all_but_publishing_goes_on() {
    let Some(disk) = SmallDisk::mount("size=160m") else { return };
    let data = disk.at.join("data");
    let broker = Broker::start(&data);
    fill(&broker).await;
    let filler = disk.fill();
    eventually("publishing is refused", async || broker.get("/readyz").await.status() == 503).await;
    for round in 0..5 {
        all_but_publishing_goes_on(&broker, round).await;
    }
    assert_eq!(delete(&broker, "doomed").await, 204);
    broker.terminate();
    assert_eq!(broker.ended().code(), Some(0), "a stop");
    std::fs::remove_file(&filler).unwrap();
    let filler = disk.fill();
    // A start without a free byte, behind a stop and behind a kill.
    for round in 5..7 {
        let broker = Broker::start(&data);
        all_but_publishing_goes_on(&broker, round).await;
        broker.kill();
    }
    let broker = Broker::start(&data);
    std::fs::remove_file(filler).unwrap();
    eventually("it goes on by itself", async || {
        broker.publish("kept", "x/y", "1").await.status() == StatusCode::ACCEPTED
    })
    .await;
    assert_eq!(broker.read_all("kept").await.len(), 21);
    eventually("what was given up is kept back again", async || {
        let space = std::fs::metadata(data.join("reserve/space"));
        space.is_ok_and(|space| space.len() == 20 << 20)
    })
    .await;
}

#[tokio::test]
async fn retention_makes_room_on_a_full_disk_though_long_lived_messages_lie_between() {
    let Some(disk) = SmallDisk::mount("size=160m") else { return };
    let data = disk.at.join("data");
    let broker = Broker::start_with(
        &data,
        &[
            ("WEIR__STORAGE__RETENTION_INTERVAL_MS", "100"),
            ("WEIR__STORAGE__MEMTABLE_BYTES", "1048576"),
        ],
    );
    for n in 0..600u32 {
        let topic = if n % 6 == 0 { "kept" } else { "short" };
        let body = vec![n as u8; 65_536];
        let answer = broker.publish(topic, "application/octet-stream", body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    let filler = disk.fill();
    eventually("publishing is refused", async || broker.get("/readyz").await.status() == 503).await;
    assert_eq!(change(&broker, "short", json!({ "retention_bytes": 65_536 })).await, 200);
    eventually("retention has moved on", async || {
        broker.json("/v1/topics/short").await["messages"].as_u64() < Some(20)
    })
    .await;
    // The store's own files make room once what is dead at its beginning is dropped.
    let first = broker.json("/v1/topics/kept/messages?max=1").await;
    assert_eq!(first["messages"][0]["offset"], 0, "what is kept is kept");
    std::fs::remove_file(filler).unwrap();
    eventually("it goes on", async || {
        broker.publish("kept", "x/y", "1").await.status() == StatusCode::ACCEPTED
    })
    .await;
    assert_eq!(broker.read_all("kept").await.len(), 101);
}

#[tokio::test]
async fn without_inodes_nothing_is_published_and_the_rest_goes_on() {
    let Some(disk) = SmallDisk::mount("size=400m,nr_inodes=600") else { return };
    let data = disk.at.join("data");
    let broker = Broker::start_with(&data, &[("WEIR__STORAGE__MEMTABLE_BYTES", "1048576")]);
    fill(&broker).await;
    let fillers = disk.fill_inodes();
    eventually("publishing is refused", async || broker.get("/readyz").await.status() == 503).await;
    for round in 0..30 {
        all_but_publishing_goes_on(&broker, round).await;
    }
    broker.terminate();
    assert_eq!(broker.ended().code(), Some(0), "a stop");
    let broker = Broker::start(&data);
    fillers.iter().for_each(|filler| std::fs::remove_file(filler).unwrap());
    eventually("it goes on by itself", async || {
        broker.publish("kept", "x/y", "1").await.status() == StatusCode::ACCEPTED
    })
    .await;
}

/// Starts a broker that may have so many files open.
async fn with_files(data: &Path, files: usize, port: u16) -> Broker {
    let listen = format!("127.0.0.1:{port}");
    let command = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    let process = Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_weir"), "serve", "--listen", &listen, "--data"])
        .arg(data)
        .env("WEIR__STORAGE__MEMTABLE_BYTES", "1048576")
        .env("WEIR_LOG", "off")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Broker::adopt(process, &listen).await
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn clients_that_take_every_descriptor_are_refused_and_the_store_goes_on() {
    let directory = tempdir().unwrap();
    let broker = with_files(&directory.path().join("data"), 256, free_port()).await;
    broker.publish("t", "x/y", "1").await;
    let mut tails = Vec::new();
    let mut wires = Vec::new();
    for n in 0..400 {
        // Sockets, streams, long polls, and connections that ask nothing.
        match n % 4 {
            0 => match Socket::try_open(&broker.address, "/v1/topics/t/tail").await {
                Ok(tail) => tails.push(tail),
                Err(_) => break,
            },
            1 | 2 => {
                let path = ["/v1/topics/t/events", "/v1/topics/t/messages?from=1&wait_ms=30000"];
                let get = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path[n % 2]);
                wires.push(Wire::sending(&broker, get).await);
            }
            _ => wires.push(Wire::connect(&broker).await),
        }
    }
    assert!(tails.len() < 50, "they were refused before they were all served");
    // Whoever was in before goes on: more than a few tables of 1 MiB.
    let body = vec![7; 900_000];
    for _ in 0..30 {
        let answer = broker.publish("t", "application/octet-stream", body.clone()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    let get = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let refused = Wire::sending(&broker, get).await.answer().await;
    assert_eq!(refused.status, 429);
    drop((tails, wires));
    eventually("there is room again", async || {
        let Ok(stream) = TcpStream::connect(&broker.address).await else { return false };
        drop(stream);
        Wire::sending(&broker, get).await.answer().await.status == 200
    })
    .await;
    assert_eq!(broker.json("/v1/topics/t").await["messages"], 31);
}

#[test]
fn a_limit_on_files_that_leaves_nothing_for_clients_is_said_at_the_start() {
    let directory = tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 60; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_weir"), "serve"])
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(directory.path().join("data"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("limit on open files is 60"), "{said}");
}

/// Starts a copy of the broker, as a user that nothing else runs as, who may have so many threads.
async fn with_threads(folder: &Path, threads: usize) -> Broker {
    const USER: u32 = 47_114;
    let listen = format!("127.0.0.1:{}", free_port());
    let process = Command::new("sh")
        .args(["-c", &format!("ulimit -u {threads}; exec \"$0\" \"$@\"")])
        .arg(folder.join("weir"))
        .args(["serve", "--listen", &listen, "--data"])
        .arg(folder.join("data"))
        .env("WEIR__LIMITS__TAIL_CACHE_BYTES_MAX", "65536")
        .env("WEIR_LOG", "off")
        .stdout(Stdio::null())
        .uid(USER)
        .spawn()
        .unwrap();
    Broker::adopt(process, &listen).await
}

#[tokio::test]
async fn where_the_system_gives_no_more_threads_reads_take_turns() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempdir().unwrap();
    let folder = directory.path();
    std::fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_weir"), folder.join("weir")).unwrap();
    let broker = with_threads(folder, 1_000).await;
    let body = vec![7; 100_000];
    for _ in 0..50 {
        let answer = broker.publish("t", "application/octet-stream", body.clone()).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    let threads = broker.threads();
    drop(broker);
    let broker = with_threads(folder, threads).await;
    let reads = (0..20).map(|n| {
        let request = broker.http.get(broker.url(&format!("/v1/topics/t/messages?from={n}&max=9")));
        tokio::spawn(async move { request.send().await.unwrap().bytes().await.unwrap().len() })
    });
    for read in reads.collect::<Vec<_>>() {
        assert!(read.await.unwrap() > 9 * 100_000);
    }
    // A backup has a thread of its own, or is refused.
    for _ in 0..3 {
        let copy = broker.get("/v1/backup").await;
        match copy.status().as_u16() {
            200 => assert!(copy.bytes().await.unwrap().len() > 50 * 100_000),
            _ => drop(problem(copy, 503, "overloaded").await),
        }
        assert_eq!(broker.publish("t", "x/y", "1").await.status(), StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn a_data_directory_that_is_removed_renamed_or_replaced_ends_the_broker() {
    let directory = tempdir().unwrap();
    let (data, away) = (directory.path().join("data"), directory.path().join("away"));
    type Deed<'a> = &'a dyn Fn();
    let remove = || std::fs::remove_dir_all(&data).unwrap();
    let rename = || std::fs::rename(&data, &away).unwrap();
    let replace = || {
        std::fs::rename(&data, &away).unwrap();
        std::fs::create_dir(&data).unwrap();
    };
    let without_store = || std::fs::remove_dir_all(data.join("journal")).unwrap();
    let without_wal = || {
        for entry in std::fs::read_dir(data.join("journal")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    let without_tables = || std::fs::remove_dir_all(data.join("journal/keyspaces")).unwrap();
    let deeds: [Deed<'_>; 6] =
        [&remove, &rename, &replace, &without_store, &without_wal, &without_tables];
    for (n, deed) in deeds.into_iter().enumerate() {
        for publishes in [false, true] {
            let _ = std::fs::remove_dir_all(&data);
            let _ = std::fs::remove_dir_all(&away);
            let broker = Broker::start(&data);
            assert_eq!(broker.publish("t", "x/y", "1").await.status(), StatusCode::ACCEPTED);
            deed();
            // What is inside is looked at five times a second.
            if publishes && n < 4 {
                let url = broker.url("/v1/topics/t/messages");
                let answer = broker.http.post(url).body("2").send().await;
                let status = answer.map(|answer| answer.status().as_u16());
                assert_ne!(status.ok(), Some(202), "acknowledged, though it is lost ({n})");
            }
            assert_eq!(broker.ended().code(), Some(1), "{n}");
        }
    }
}

#[tokio::test]
async fn time_in_which_the_broker_only_ran_counts_though_it_is_killed_again_and_again() {
    let directory = tempdir().unwrap();
    let data = directory.path().join("data");
    let start = || Broker::start_with(&data, &[("WEIR__STORAGE__RETENTION_INTERVAL_MS", "100")]);
    let mut broker = start();
    broker.put_topic("t", json!({ "retention_ms": 1_500, "dedup_window_ms": 1_500 })).await;
    let publish = async |broker: &Broker, topic: &str| {
        let url = broker.url(&format!("/v1/topics/{topic}/messages"));
        let request = broker.http.post(url).header("idempotency-key", "k");
        request.header("weir-ttl-ms", "1500").body("1").send().await.unwrap()
    };
    assert_eq!(publish(&broker, "t").await.status(), StatusCode::ACCEPTED);
    assert_eq!(publish(&broker, "ttl").await.status(), StatusCode::ACCEPTED);
    let mut kills = 0;
    let gone = async |broker: &Broker| {
        let trimmed = broker.json("/v1/topics/t").await["first"] == 1;
        trimmed && broker.json("/v1/topics/ttl/messages").await["messages"] == json!([])
    };
    while !gone(&broker).await {
        kills += 1;
        assert!(kills < 20, "it never grows old");
        eventually("it has run for half a second", async || {
            broker.json("/v1/status").await["uptime_ms"].as_u64() > Some(500)
        })
        .await;
        broker.kill();
        broker = start();
    }
    assert!(kills > 1, "it was killed on the way");
    let again: Value = publish(&broker, "t").await.json().await.unwrap();
    assert_eq!(again["duplicate"], false, "the window has passed, too");
}
