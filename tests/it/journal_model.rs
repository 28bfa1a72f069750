//! The journal against a model that is a list of messages per topic, with crashes and reopening
//! among the operations.
//!
//! A crash is what `kill -9` leaves: the files as they are at some moment, while the journal still
//! has them open. The directory is copied then and the copy opened. With it, a part of a batch
//! that was being written may stand at the end of fjall's WAL, so some crashes add that too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{JournalError, JournalObserver, StorageSettings};
use weir::model::{
    AckLevel, AppendError, BlockBuilder, Gap, Incarnation, PlacedBlock, ReadError, ReadLimits,
    Record, Timestamp, TopicId, TopicName, TopicSettings,
};
use weir::topics::{Append, CatalogueEvent, Opened, TopicChange, Topics, TopicsObserver};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Operation {
    /// Blocks for topics, sent together, so that commits hold several.
    Append(Vec<(usize, Vec<u16>)>),
    /// So many blocks of one message, one commit each: fills index pages.
    AppendOneByOne(usize, u16),
    Read(usize, u64, u64),
    Delete(usize),
    /// The clock is set, forwards or back.
    SetClock(u64),
    Reopen,
    Crash {
        torn: bool,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let topic = 0..NAMES.len();
    let sizes = prop::collection::vec(prop_oneof![4 => 0u16..400, 1 => 0u16..60_000], 1..6);
    let blocks = prop::collection::vec((topic.clone(), sizes), 1..8);
    prop_oneof![
        8 => blocks.prop_map(Operation::Append),
        2 => (topic.clone(), 1u16..400).prop_map(|(t, n)| Operation::AppendOneByOne(t, n)),
        4 => (topic.clone(), any::<u64>(), 1u64..500).prop_map(|(t, from, n)| Operation::Read(t, from, n)),
        1 => topic.prop_map(Operation::Delete),
        1 => (0u64..10_000).prop_map(Operation::SetClock),
        1 => Just(Operation::Reopen),
        2 => any::<bool>().prop_map(|torn| Operation::Crash { torn }),
    ]
}

/// What one topic must hold: payloads by offset.
struct Model {
    id: TopicId,
    payloads: Vec<Vec<u8>>,
}

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

struct Subject {
    directories: TempDir,
    generation: u32,
    time: Arc<AtomicU64>,
    /// Gone only while it is reopened: the store is open as long as a handle is.
    journal: Option<Topics>,
    topics: BTreeMap<usize, Model>,
    next_payload: u64,
}

impl Subject {
    fn new() -> Self {
        let directories = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(5_000));
        let journal = Some(open(&directories.path().join("0"), &time).topics);
        let topics = BTreeMap::new();
        Self { directories, generation: 0, time, journal, topics, next_payload: 0 }
    }

    fn journal(&self) -> &Topics {
        self.journal.as_ref().unwrap()
    }

    fn directory(&self) -> PathBuf {
        self.directories.path().join(self.generation.to_string())
    }

    async fn ensure(&mut self, topic: usize) -> TopicId {
        if let Some(model) = self.topics.get(&topic) {
            return model.id;
        }
        // One topic at the other level, so that both are in every commit.
        let ack_level = if topic == 0 { AckLevel::Os } else { AckLevel::Sync };
        // One topic that does not keep everything.
        let retention_bytes = if topic == 2 { 64 * 1024 } else { 1 << 40 };
        let change = TopicChange::Ensure {
            name: TopicName::new(NAMES[topic]).unwrap(),
            settings: TopicSettings { ack_level, retention_bytes, ..TopicSettings::default() },
            topics_max: 10,
        };
        let changed = self.journal().change(change).await.unwrap();
        assert!(changed.created);
        let id = changed.record.id;
        self.topics.insert(topic, Model { id, payloads: Vec::new() });
        id
    }

    async fn append(&mut self, blocks: &[(usize, Vec<u16>)]) {
        let mut answers = Vec::new();
        for (topic, sizes) in blocks {
            let id = self.ensure(*topic).await;
            let mut builder = BlockBuilder::default();
            let payloads = &mut self.topics.get_mut(topic).unwrap().payloads;
            let base_offset = payloads.len() as u64;
            for size in sizes {
                let mut payload = self.next_payload.to_le_bytes().to_vec();
                payload.resize(8 + usize::from(*size), self.next_payload as u8);
                self.next_payload += 1;
                builder.push(&Record::of("application/octet-stream", &payload)).unwrap();
                payloads.push(payload);
            }
            let (reply, answer) = oneshot::channel();
            let block = builder.finish().unwrap();
            let incarnation = Incarnation(0);
            self.journal().append(Append { topic: id, incarnation, lane: None, block, reply });
            answers.push((answer, base_offset));
        }
        for (answer, base_offset) in answers {
            assert_eq!(answer.await.unwrap().unwrap().base_offset, base_offset);
        }
    }

    /// Reads messages and compares them with the model's.
    fn read(&self, topic: usize, from: u64, count: u64) {
        let Some(model) = self.topics.get(&topic) else { return };
        let head = model.payloads.len() as u64;
        let first = self.journal().extent(model.id).unwrap().first;
        let from = first + from % (head - first + 2);
        let limits = ReadLimits { messages: count, bytes: u64::MAX };
        let blocks = match self.journal().read(model.id, from, limits) {
            // Retention goes on beside us.
            Err(ReadError::Gone { first }) => {
                assert!(from < first && topic == 2);
                return;
            }
            Err(ReadError::Ahead { head: found }) => {
                assert!(from > head && found == head);
                return;
            }
            other => other.unwrap(),
        };
        assert_eq!(blocks.is_empty(), from == head);
        let mut expected = from;
        for (offset, record) in blocks.iter().flat_map(|block| block.records().map(Result::unwrap))
        {
            if offset < from {
                continue;
            }
            assert_eq!(offset, expected);
            assert_eq!(record.payload, model.payloads[offset as usize]);
            expected += 1;
        }
        assert!(
            expected >= head.min(from.saturating_add(count)),
            "as many as there are, up to the limit"
        );
    }

    fn check_all(&self) {
        for (topic, model) in &self.topics {
            let extent = self.journal().extent(model.id).unwrap();
            assert_eq!(extent.head, model.payloads.len() as u64);
            self.read(*topic, 0, u64::MAX);
            if *topic == 2 {
                assert!(extent.first <= extent.head);
            } else {
                assert_eq!(extent.first, 0);
                self.check_times(model.id, extent.head);
            }
        }
    }

    /// Times never run backwards, and looking one up finds its first message.
    fn check_times(&self, topic: TopicId, head: u64) {
        let limits = ReadLimits { messages: u64::MAX, bytes: u64::MAX };
        let blocks = self.journal().read(topic, 0, limits).unwrap();
        assert!(blocks.is_sorted_by_key(|block| block.published_at));
        let at = |time| self.journal().offset_at(topic, time).unwrap();
        for block in blocks.iter().step_by(7) {
            let first = blocks.iter().find(|other| other.published_at >= block.published_at);
            assert_eq!(at(block.published_at), first.unwrap().base_offset);
        }
        assert_eq!(at(Timestamp(u64::MAX)), head);
        assert_eq!(at(Timestamp(0)), 0);
    }

    async fn reopen(&mut self) {
        self.journal.take().unwrap().stop().await.unwrap();
        self.open_again();
    }

    async fn crash(&mut self, torn: bool) {
        let from = self.directory();
        self.generation += 1;
        let to = self.directory();
        copy(&from, &to);
        if torn {
            tear(&to);
        }
        self.journal.take().unwrap().stop().await.unwrap();
        std::fs::remove_dir_all(from).unwrap();
        self.open_again();
    }

    fn open_again(&mut self) {
        let Opened { topics: journal, records } = open(&self.directory(), &self.time);
        self.journal = Some(journal);
        let found: Vec<_> = records.iter().map(|record| record.id).collect();
        let expected: Vec<_> = self.topics.values().map(|model| model.id).collect();
        assert_eq!(found, expected);
        self.check_all();
    }

    async fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Append(blocks) => self.append(blocks).await,
            Operation::AppendOneByOne(topic, count) => {
                for _ in 0..*count {
                    self.append(&[(*topic, vec![0])]).await;
                }
            }
            Operation::Read(topic, from, count) => self.read(*topic, *from, *count),
            Operation::Delete(topic) => {
                if let Some(model) = self.topics.remove(topic) {
                    let name = TopicName::new(NAMES[*topic]).unwrap();
                    self.journal().change(TopicChange::Delete { name }).await.unwrap();
                    assert_eq!(self.journal().extent(model.id), None);
                }
            }
            Operation::SetClock(time) => self.time.store(*time, Ordering::SeqCst),
            Operation::Reopen => self.reopen().await,
            Operation::Crash { torn } => self.crash(*torn).await,
        }
    }
}

fn open(directory: &Path, time: &Arc<AtomicU64>) -> Opened {
    let settings = StorageSettings {
        path: directory.to_owned(),
        retention_interval_ms: 100,
        ..StorageSettings::default()
    };
    let time = time.clone();
    let clock = Clock::from_fn(move || Timestamp(time.load(Ordering::SeqCst)));
    Topics::open(&settings, clock, Arc::new(Ignored)).unwrap()
}

/// The files as they are at one moment. The marks of how far the journal is are written with every
/// commit: where they have changed, what was copied is of two moments, which no kill leaves.
fn copy(from: &Path, to: &Path) {
    let marks = || ["durable", "live"].map(|name| std::fs::read(from.join(name)).unwrap());
    loop {
        let before = marks();
        let _ = std::fs::remove_dir_all(to);
        copy_files(from, to);
        if marks() == before {
            return;
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if !entry.file_type().unwrap().is_dir() {
            std::fs::copy(entry.path(), target).unwrap();
        } else if entry.file_name() != "reserve" {
            copy_files(&entry.path(), &target);
        }
    }
}

/// Puts the beginning of a batch where fjall's WAL goes on, as a kill in the middle of write(2)
/// leaves it: a start marker that promises items which did not come.
fn tear(directory: &Path) {
    let wal = std::fs::read_dir(directory.join("journal")).unwrap();
    let wal = wal.map(|entry| entry.unwrap().path());
    let wal = wal.filter(|path| path.extension().is_some_and(|e| e == "jnl")).max().unwrap();
    let mut bytes = std::fs::read(&wal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut start_marker = vec![1];
    start_marker.extend(9u32.to_le_bytes());
    start_marker.extend(u64::MAX.to_le_bytes());
    bytes.truncate(end);
    bytes.extend(start_marker);
    std::fs::write(&wal, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_it_the_journal_holds_what_it_answered(
        operations in prop::collection::vec(operation(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut subject = Subject::new();
            for operation in &operations {
                subject.apply(operation).await;
            }
            subject.check_all();
            subject.crash(false).await;
            subject.reopen().await;
            subject.journal().stop().await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_fence_refuses_what_comes_from_an_earlier_incarnation() {
    let mut subject = Subject::new();
    subject.append(&[(1, vec![1, 2])]).await;
    let topic = subject.topics[&1].id;
    assert_eq!(subject.journal().fence(topic, Incarnation(2)).await.unwrap(), 2);
    let append = async |incarnation| {
        let mut builder = BlockBuilder::default();
        builder.push(&Record::json(b"1")).unwrap();
        let (reply, answer) = oneshot::channel();
        let block = builder.finish().unwrap();
        subject.journal().append(Append { topic, incarnation, lane: None, block, reply });
        answer.await.unwrap()
    };
    assert!(append(Incarnation(1)).await.is_err());
    assert_eq!(append(Incarnation(2)).await.unwrap().base_offset, 2);
}

#[tokio::test]
async fn a_damaged_chunk_is_named_and_never_served() {
    let mut subject = Subject::new();
    subject.append(&[(1, vec![300])]).await;
    subject.generation += 1;
    let copied = subject.directory();
    copy(&subject.directories.path().join("0"), &copied);
    // A bit of the payload, under a checksum of fjall's that is made to fit again, is beyond a
    // test; so the value is replaced through fjall itself.
    {
        let database = fjall::Database::builder(copied.join("journal")).open().unwrap();
        let blocks = database.keyspace("blocks", fjall::KeyspaceCreateOptions::default).unwrap();
        let mut value = blocks.get(0u64.to_be_bytes()).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        blocks.insert(0u64.to_be_bytes(), value).unwrap();
        blocks.rotate_memtable_and_wait().unwrap();
    }
    let settings = StorageSettings { path: copied, ..StorageSettings::default() };
    let opened = Topics::open(&settings, Clock::system(), Arc::new(Ignored)).unwrap();
    let topic = opened.records[0].id;
    let damage = Gap { from: 0, to: 0 };
    let read = || {
        let limits = ReadLimits { messages: 10, bytes: u64::MAX };
        opened.topics.read(topic, 0, limits)
    };
    assert!(matches!(read(), Err(ReadError::Damaged(found)) if found == damage));
    assert!(opened.topics.extent(topic).unwrap().damaged);
    let name = opened.records[0].name.clone();
    let accept = |gap| opened.topics.change(TopicChange::AcceptGap { name: name.clone(), gap });
    accept(Gap { from: 0, to: 7 }).await.unwrap_err();
    let changed = accept(damage).await.unwrap();
    assert_eq!(changed.record.epoch.0, 2);
    assert!(read().unwrap().is_empty());
    assert!(!opened.topics.extent(topic).unwrap().damaged);
    opened.topics.stop().await.unwrap();
    subject.journal().stop().await.unwrap();
}

#[tokio::test]
async fn damage_that_is_found_while_its_topic_is_written_to_refuses_only_what_comes_after() {
    let mut subject = Subject::new();
    subject.append(&[(1, vec![300])]).await;
    let topic = subject.topics[&1].id;
    subject.journal.take().unwrap().stop().await.unwrap();
    {
        let database =
            fjall::Database::builder(subject.directory().join("journal")).open().unwrap();
        let blocks = database.keyspace("blocks", fjall::KeyspaceCreateOptions::default).unwrap();
        let mut value = blocks.get(0u64.to_be_bytes()).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        blocks.insert(0u64.to_be_bytes(), value).unwrap();
        blocks.rotate_memtable_and_wait().unwrap();
    }
    let journal = open(&subject.directory(), &subject.time).topics;
    let send = || {
        let mut builder = BlockBuilder::default();
        builder.push(&Record::json(b"1")).unwrap();
        let (reply, answer) = oneshot::channel();
        let (incarnation, block) = (Incarnation(0), builder.finish().unwrap());
        journal.append(Append { topic, incarnation, lane: None, block, reply });
        answer
    };
    // So many wait that what the reader finds stands in one commit with some of them.
    let mut answers: Vec<_> = (0..3_000).map(|_| send()).collect();
    let limits = ReadLimits { messages: 1, bytes: 1 };
    assert!(matches!(journal.read(topic, 0, limits), Err(ReadError::Damaged(_))));
    answers.extend((0..3_000).map(|_| send()));
    let (mut stored, mut refused) = (0u64, 0);
    for answer in answers {
        match answer.await.expect("everything is answered") {
            Ok(_) => stored += 1,
            Err(AppendError::Quarantined) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(stored >= 3_000 && refused > 0, "{stored} {refused}");
    assert_eq!(journal.extent(topic).unwrap().head, 1 + stored);
    journal.stop().await.unwrap();
}
