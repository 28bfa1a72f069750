//! Many topics at once, each with its own retention: speed, memory, disk, and the start after a
//! kill.
//!
//! `cargo run --release --example many_topics` creates 10,000 topics, publishes 100 messages to each
//! in random order, one message a block, 1,000 under way; a third of the topics keeps everything, the
//! others a second or three. The disk is looked at all the while and compared with its bound: 1.5
//! times what was kept at some moment of the last second, and `wal_bytes_max`. Then the process is
//! killed and the directory opened by another one. It ends with code 1 when a message is missing
//! or the bound does not hold in the end.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{JournalError, JournalObserver, StorageSettings};
use weir::model::{
    BlockBuilder, Incarnation, PlacedBlock, ReadLimits, Record, TopicId, TopicName, TopicSettings,
};
use weir::topics::{Append, CatalogueEvent, Opened, TopicChange, Topics, TopicsObserver};

const TOPICS: usize = 10_000;
const MESSAGES_A_TOPIC: usize = 100;
const PAYLOAD_BYTES: usize = 1_024;
const IN_FLIGHT: usize = 1_000;
const MIB: u64 = 1024 * 1024;

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    fn failed(&self, error: &JournalError) {
        panic!("the journal failed: {error}");
    }
}

impl TopicsObserver for Ignored {
    fn changed(&self, _: &CatalogueEvent) {}
}

fn open(directory: &Path) -> Opened {
    let settings = StorageSettings {
        path: directory.to_owned(),
        retention_interval_ms: 500,
        ..StorageSettings::default()
    };
    Topics::open(&settings, Clock::system(), Arc::new(Ignored)).expect("the journal opens")
}

fn keeps_all(topic: usize) -> bool {
    topic.is_multiple_of(3)
}

async fn create(journal: &Topics, topic: usize) -> TopicId {
    let retention_ms =
        if keeps_all(topic) { 3_600_000 } else { 1_000 + 2_000 * (topic as u64 % 3 - 1) };
    let change = TopicChange::Ensure {
        name: TopicName::new(&format!("t{topic:05}")).expect("a name"),
        settings: TopicSettings { retention_ms, ..TopicSettings::default() },
        topics_max: TOPICS,
    };
    journal.change(change).await.expect("a topic").record.id
}

async fn write(directory: &Path) {
    let Opened { topics: journal, .. } = open(directory);
    let start = Instant::now();
    let ids = futures_util::stream::iter(0..TOPICS).map(|topic| create(&journal, topic));
    let ids: Vec<_> = ids.buffered(IN_FLIGHT).collect().await;
    println!("{TOPICS} topics created in {:.1} s", start.elapsed().as_secs_f64());

    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let mut order: Vec<_> = (0..TOPICS * MESSAGES_A_TOPIC).map(|n| n % TOPICS).collect();
    order.shuffle(&mut random);
    let mut payload = vec![0; PAYLOAD_BYTES];
    let mut under_way = FuturesUnordered::new();
    let start = Instant::now();
    let mut looks = Looks::default();
    for topic in order {
        random.fill_bytes(&mut payload);
        let mut builder = BlockBuilder::default();
        builder.push(&Record::of("application/octet-stream", &payload)).expect("a record");
        let (reply, answer) = oneshot::channel();
        journal.append(Append {
            topic: ids[topic],
            incarnation: Incarnation(0),
            lane: None,
            block: builder.finish().expect("a block"),
            reply,
        });
        under_way.push(answer);
        if under_way.len() == IN_FLIGHT {
            under_way.next().await.expect("one").expect("an answer").expect("stored");
        }
        if looks.last.is_none_or(|last| last.elapsed() > Duration::from_millis(200)) {
            looks.look(&journal, &ids, directory);
        }
    }
    while let Some(answer) = under_way.next().await {
        answer.expect("an answer").expect("stored");
    }
    let messages = TOPICS * MESSAGES_A_TOPIC;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{messages} messages of {PAYLOAD_BYTES} bytes at random in {seconds:.1} s: {:.0} k/s; resident {} MiB",
        messages as f64 / seconds / 1_000.0,
        resident() / MIB
    );
    println!("worst excess over the disk's bound while writing: {} MiB", looks.worst / MIB);
    loop {
        let over = looks.look(&journal, &ids, directory);
        let kept = kept(&journal, &ids);
        if over == 0 && kept < (messages * PAYLOAD_BYTES) as u64 / 2 {
            println!("kept {} MiB, on disk {} MiB", kept / MIB, disk(directory) / MIB);
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{over} bytes over the bound");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("done");
    std::future::pending().await
}

/// Opens what the killed one left, reads what must be there, and says what that took.
fn check(directory: &Path) {
    let start = Instant::now();
    let Opened { topics: journal, records } = open(directory);
    println!(
        "start after the kill: {} ms, resident {} MiB",
        start.elapsed().as_millis(),
        resident() / MIB
    );
    assert_eq!(records.len(), TOPICS);
    let limits = ReadLimits { messages: u64::MAX, bytes: u64::MAX };
    let mut times = Vec::new();
    for record in records
        .iter()
        .filter(|record| keeps_all(record.name.as_str()[1..].parse().expect("a number")))
    {
        let start = Instant::now();
        let blocks = journal.read(record.id, 0, limits).expect("readable");
        times.push(start.elapsed());
        let messages: u32 = blocks.iter().map(|block| block.count).sum();
        assert_eq!(messages as usize, MESSAGES_A_TOPIC, "{}", record.name);
    }
    times.sort_unstable();
    println!(
        "one topic's 100 messages: p50 {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

fn kept(journal: &Topics, ids: &[TopicId]) -> u64 {
    ids.iter().filter_map(|id| journal.extent(*id)).map(|extent| extent.bytes).sum()
}

/// What was kept and what the disk held, over time.
#[derive(Default)]
struct Looks {
    last: Option<Instant>,
    kept: Vec<(Instant, u64)>,
    worst: u64,
}

impl Looks {
    /// How far the disk is over its bound now.
    fn look(&mut self, journal: &Topics, ids: &[TopicId], directory: &Path) -> u64 {
        let now = Instant::now();
        self.last = Some(now);
        self.kept.push((now, kept(journal, ids)));
        self.kept.retain(|(at, _)| at.elapsed() < Duration::from_secs(1));
        let kept = self.kept.iter().map(|(_, kept)| *kept).max().unwrap_or(0);
        let bound = kept * 3 / 2 + StorageSettings::default().wal_bytes_max;
        let over = disk(directory).saturating_sub(bound);
        self.worst = self.worst.max(over);
        over
    }
}

fn disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        * 1024
}

fn run(role: &str, directory: &Path, until: &str) {
    let myself = std::env::current_exe().expect("its own path");
    let mut child = Command::new(myself)
        .arg(role)
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    for line in out.lines().map_while(Result::ok).take_while(|line| line != until) {
        println!("{line}");
    }
    if until.is_empty() {
        assert!(child.wait().expect("its end").success());
    } else {
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", directory] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.expect("a runtime").block_on(write(Path::new(directory)));
        }
        ["check", directory] => check(Path::new(directory)),
        _ => {
            let directory = tempfile::tempdir().expect("a directory");
            let data = directory.path().join("data");
            run("write", &data, "done");
            run("check", &data, "");
        }
    }
}
