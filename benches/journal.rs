//! The journal's group commit beside a bare file with the same group commit, in one run.
//!
//! ```text
//! cargo bench --bench journal
//! ```
//!
//! Both keep so many 256-byte incompressible messages in flight, each a block of its own, and answer
//! each one once fdatasync has returned. The reference is what no journal can beat: a thread that
//! takes what waits (and what is just coming, as the journal does), appends the same encoded bytes to a preallocated segment of 64 MiB with one
//! write, syncs, and answers; it has no checksum, no index and no way to read anything back.
//! In the last cases each message goes by lot to one of all topics the journal has, 10,000 and
//! 100,000.
//! Throughput is messages; the figure to look at is the ratio of the two.

use std::cell::{LazyCell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{JournalError, JournalObserver, StorageSettings};
use weir::model::{
    AppendError, Appended, Block, BlockBuilder, Incarnation, PlacedBlock, Record, TopicId,
    TopicName, TopicSettings,
};
use weir::topics::{Append, CatalogueEvent, TopicChange, Topics, TopicsObserver};

const PAYLOAD_BYTES: usize = 256;
/// Messages that differ; they are sent again and again.
const BLOCKS: usize = 4_096;
/// Topics that a journal has.
const TOPICS: [usize; 2] = [10_000, 100_000];
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// The measure of a commit, as in the journal's writer.
const COMMIT_MESSAGES: usize = 2_000;

/// Something that stores blocks and answers when they are safe.
trait Log {
    type Answer;
    fn append(&self, block: Block) -> oneshot::Receiver<Self::Answer>;
    fn check(answer: Self::Answer);
}

struct JournalLog {
    journal: Topics,
    /// Each block goes to one of them by lot.
    topics: Vec<TopicId>,
    random: RefCell<SmallRng>,
}

impl Log for JournalLog {
    type Answer = Result<Appended, AppendError>;

    fn append(&self, block: Block) -> oneshot::Receiver<Self::Answer> {
        let (reply, answer) = oneshot::channel();
        let lot = self.random.borrow_mut().random_range(0..self.topics.len());
        let (topic, incarnation) = (self.topics[lot], Incarnation(0));
        self.journal.append(Append { topic, incarnation, lane: None, block, reply });
        answer
    }

    fn check(answer: Self::Answer) {
        answer.expect("stored");
    }
}

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, blocks: &[Arc<PlacedBlock>]) {
        black_box(blocks);
    }

    fn failed(&self, error: &JournalError) {
        panic!("{error}");
    }
}

impl TopicsObserver for Ignored {
    fn changed(&self, _: &CatalogueEvent) {}
}

/// The reference.
struct BareFile(mpsc::Sender<(Block, oneshot::Sender<()>)>);

impl Log for BareFile {
    type Answer = ();

    fn append(&self, block: Block) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        self.0.send((block, reply)).expect("its thread runs");
        answer
    }

    fn check((): ()) {}
}

impl BareFile {
    fn start(directory: PathBuf) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || Segments::new(directory).write_all(&receiver));
        Self(sender)
    }
}

struct Segments {
    path: PathBuf,
    file: File,
    position: u64,
}

impl Segments {
    fn new(directory: PathBuf) -> Self {
        let path = directory.join("segment");
        Self { file: Self::preallocated(&path), path, position: 0 }
    }

    fn preallocated(path: &Path) -> File {
        let _ = std::fs::remove_file(path);
        let file = File::create(path).expect("a file");
        file.set_len(SEGMENT_BYTES).expect("preallocated");
        file.sync_all().expect("synced");
        file
    }

    fn write_all(mut self, receiver: &mpsc::Receiver<(Block, oneshot::Sender<()>)>) {
        let (mut bytes, mut answers) = (Vec::new(), Vec::new());
        let (mut last, mut took) = (0, Duration::ZERO);
        while let Ok((block, answer)) = receiver.recv() {
            let begun = Instant::now();
            bytes.extend_from_slice(block.body());
            answers.push(answer);
            while answers.len() < COMMIT_MESSAGES {
                if let Ok((block, answer)) = receiver.try_recv() {
                    bytes.extend_from_slice(block.body());
                    answers.push(answer);
                } else if answers.len() < last && begun.elapsed() < took / 4 {
                    std::thread::yield_now();
                } else {
                    break;
                }
            }
            last = answers.len();
            let begun = Instant::now();
            if self.position + bytes.len() as u64 > SEGMENT_BYTES {
                self.file = Self::preallocated(&self.path);
                self.position = 0;
            }
            self.file.write_all_at(&bytes, self.position).expect("written");
            self.file.sync_data().expect("synced");
            self.position += bytes.len() as u64;
            took = begun.elapsed();
            bytes.clear();
            answers.drain(..).for_each(|answer| answer.send(()).unwrap_or_default());
        }
    }
}

/// Stores so many messages, never more than `in_flight` of them unanswered.
fn store<L: Log>(log: &L, blocks: &[Block], messages: u64, in_flight: usize) -> Duration {
    let begun = Instant::now();
    let mut sending = blocks.iter().cycle().take(messages as usize);
    let mut flying: VecDeque<_> =
        sending.by_ref().take(in_flight).map(|block| log.append(block.clone())).collect();
    while let Some(oldest) = flying.pop_front() {
        L::check(oldest.blocking_recv().expect("an answer"));
        // What was answered together is followed together.
        let mut answered = 1;
        while let Some(Ok(answer)) = flying.front_mut().map(oneshot::Receiver::try_recv) {
            L::check(answer);
            flying.pop_front();
            answered += 1;
        }
        flying.extend(sending.by_ref().take(answered).map(|block| log.append(block.clone())));
    }
    begun.elapsed()
}

impl JournalLog {
    /// A journal of so many topics.
    fn open(path: PathBuf, runtime: &Runtime, topics: usize) -> Self {
        let settings = StorageSettings { path, ..StorageSettings::default() };
        let opened = Topics::open(&settings, Clock::system(), Arc::new(Ignored)).expect("it opens");
        let made = runtime.block_on(join_all((0..topics).map(|n| {
            let name = TopicName::new(&format!("bench.{n}")).expect("a name");
            let retention_bytes = 1 << 30;
            let settings = TopicSettings { retention_bytes, ..TopicSettings::default() };
            let change = TopicChange::Ensure { name, settings, topics_max: usize::MAX };
            opened.topics.change(change)
        })));
        let ids = made.into_iter().map(|made| made.expect("a topic").record.id).collect();
        Self {
            journal: opened.topics,
            topics: ids,
            random: RefCell::new(SmallRng::seed_from_u64(2)),
        }
    }

    /// The same journal, but one topic only.
    fn of_one_topic(&self) -> Self {
        let random = RefCell::new(SmallRng::seed_from_u64(2));
        Self { journal: self.journal.clone(), topics: self.topics[..1].to_vec(), random }
    }
}

fn append(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let bare_file = BareFile::start(directory.path().to_owned());
    let mut random = SmallRng::seed_from_u64(1);
    let blocks: Vec<_> = (0..BLOCKS).map(|_| block(&mut random)).collect();
    for topics in TOPICS {
        let path = directory.path().join(topics.to_string());
        // Made when the first case that needs it is picked.
        let many = LazyCell::new(|| JournalLog::open(path, &runtime, topics));
        if topics == TOPICS[0] {
            for in_flight in [1, 64, 1_000] {
                let one = LazyCell::new(|| many.of_one_topic());
                compare(criterion, (in_flight, 1), &one, &bare_file, &blocks);
            }
        }
        compare(criterion, (2_000, topics), &many, &bare_file, &blocks);
    }
}

fn compare<F: FnOnce() -> JournalLog>(
    criterion: &mut Criterion,
    (in_flight, topics): (usize, usize),
    journal: &LazyCell<JournalLog, F>,
    bare_file: &BareFile,
    blocks: &[Block],
) {
    let mut group =
        criterion.benchmark_group(format!("append, {in_flight} in flight, {topics} topics"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("journal", |bencher| {
        let journal = LazyCell::force(journal);
        bencher.iter_custom(|messages| store(journal, blocks, messages, in_flight));
    });
    group.bench_function("bare file", |bencher| {
        bencher.iter_custom(|messages| store(bare_file, blocks, messages, in_flight));
    });
    group.finish();
}

fn block(random: &mut SmallRng) -> Block {
    let mut payload = [0; PAYLOAD_BYTES];
    random.fill_bytes(&mut payload);
    let mut builder = BlockBuilder::default();
    builder.push(&Record::of("application/octet-stream", &payload)).expect("within limits");
    builder.finish().expect("one message")
}

criterion_group!(benches, append);
criterion_main!(benches);
