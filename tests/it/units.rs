//! The journal by itself, under a small machine: units over two streams in either log and state of
//! both kinds, against a model, with crashes in the middle of work and reopening among the
//! operations.
//!
//! Every owner counts its changes in each unit, so what is found after a crash tells how many units
//! there are of it, and all else must be exactly what those made: none in part, none out of order.

pub mod machine;
mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{Backup, Journal, JournalError, JournalObserver, StorageSettings};
use weir::model::{OwnerId, PlacedBlock, StreamId};

use machine::{Asked, Change, Owner, SIDES, Small};
use version::Version;

#[derive(Clone, Debug)]
enum Operation {
    Open,
    /// Changes of owners, sent together.
    Change(Vec<(usize, Change)>),
    /// So many changes of one message a side, one commit each: fills pages.
    OneByOne(usize, u16),
    Delete(usize),
    Reopen,
    /// A copy of the files while these changes are in flight.
    Crash(Vec<(usize, Change)>),
    /// A backup, restored.
    Restore,
}

fn change() -> impl Strategy<Value = Change> {
    let lengths = prop::collection::vec(prop_oneof![6 => 0u16..300, 1 => 0u16..50_000], 1..4);
    let appends = prop::collection::vec((0..SIDES, lengths, any::<bool>()), 0..4);
    let values = prop::collection::vec((any::<u8>(), proptest::option::of(any::<u8>())), 0..4);
    let trim = proptest::option::weighted(0.1, (0..SIDES, 0u64..400));
    (appends, values, trim, any::<bool>(), prop::bool::weighted(0.01)).prop_map(
        |(appends, values, trim, synced, panic)| Change { appends, values, trim, synced, panic },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let owner = 0usize..4;
    let changes = || prop::collection::vec((0usize..4, change()), 1..24);
    prop_oneof![
        2 => Just(Operation::Open),
        6 => changes().prop_map(Operation::Change),
        2 => (owner.clone(), 1u16..300).prop_map(|(owner, n)| Operation::OneByOne(owner, n)),
        1 => owner.prop_map(Operation::Delete),
        1 => Just(Operation::Reopen),
        3 => changes().prop_map(Operation::Crash),
        1 => Just(Operation::Restore),
    ]
}

/// What readers were told of, by stream and first offset.
#[derive(Default)]
struct Shown(Mutex<Vec<(StreamId, u64, u64)>>);

impl JournalObserver for Shown {
    fn committed(&self, blocks: &[Arc<PlacedBlock>]) {
        let shown = blocks.iter().map(|b| (b.stream, b.base_offset, b.end_offset()));
        self.0.lock().unwrap().extend(shown);
    }

    fn failed(&self, error: &JournalError) {
        panic!("the journal failed: {error}");
    }
}

struct Model {
    id: OwnerId,
    streams: [StreamId; SIDES],
    /// By how many changes were made.
    versions: Vec<Version>,
    /// A change panicked: nothing more is taken until the journal is opened again.
    given_up: bool,
}

struct Subject {
    directories: TempDir,
    generation: u32,
    journal: Option<Journal<Small>>,
    shown: Arc<Shown>,
    owners: Vec<Model>,
}

type Pending = Vec<(usize, Change, oneshot::Receiver<Option<u64>>)>;

impl Subject {
    fn new() -> Self {
        let directories = tempfile::tempdir().unwrap();
        let mut subject = Self {
            directories,
            generation: 0,
            journal: None,
            shown: Arc::default(),
            owners: Vec::new(),
        };
        subject.open();
        subject
    }

    fn directory(&self) -> PathBuf {
        self.directories.path().join(self.generation.to_string())
    }

    fn journal(&self) -> &Journal<Small> {
        self.journal.as_ref().unwrap()
    }

    /// Opens the directory; what the machine knows then.
    fn open(&mut self) -> BTreeMap<OwnerId, Owner> {
        self.shown = Arc::default();
        let settings = StorageSettings {
            path: self.directory(),
            retention_interval_ms: 3_600_000,
            ..StorageSettings::default()
        };
        let make = |_: &Path| Ok(Small::default());
        let (journal, owners) =
            Journal::open(&settings, Clock::system(), self.shown.clone(), make, |machine| {
                machine.owners.clone()
            })
            .unwrap();
        self.journal = Some(journal);
        owners
    }

    async fn ask<T>(&self, asked: impl FnOnce(oneshot::Sender<T>) -> Asked) -> T {
        let (reply, answer) = oneshot::channel();
        self.journal().ask(asked(reply));
        answer.await.unwrap()
    }

    async fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Open => {
                let owner = self.ask(Asked::Open).await;
                let id = owner.streams[0].into();
                assert!(self.owners.iter().all(|known| known.id < id), "never used again");
                let (streams, versions) = (owner.streams, vec![Version::default()]);
                self.owners.push(Model { id, streams, versions, given_up: false });
            }
            Operation::Change(changes) => {
                let pending = self.send(changes);
                self.settle(pending).await;
            }
            Operation::OneByOne(owner, count) => {
                for n in 0..*count {
                    let appends = (0..SIDES).map(|side| (side, vec![n % 7], true)).collect();
                    let changes = [(*owner, Change { appends, ..Change::default() })];
                    let pending = self.send(&changes);
                    self.settle(pending).await;
                }
            }
            Operation::Delete(owner) if !self.owners.is_empty() => {
                let owner = self.owners.remove(owner % self.owners.len());
                self.ask(|reply| Asked::Delete(owner.id, reply)).await.unwrap();
                for stream in owner.streams {
                    assert_eq!(self.journal().streams().extent(stream), None);
                }
            }
            Operation::Delete(_) => {}
            Operation::Reopen => {
                self.journal.take().unwrap().stop().await.unwrap();
                let found = self.open();
                self.compare(&found, |model| model.versions.len() as u64 - 1);
            }
            Operation::Crash(changes) => self.crash(changes).await,
            Operation::Restore => self.restore().await,
        }
        self.check().await;
    }

    /// Sends changes; only owners that take some.
    fn send(&mut self, changes: &[(usize, Change)]) -> Pending {
        let mut pending = Vec::new();
        for (owner, change) in changes {
            if self.owners.is_empty() {
                break;
            }
            let owner = owner % self.owners.len();
            let (reply, answer) = oneshot::channel();
            self.journal().ask(Asked::Change(self.owners[owner].id, change.clone(), reply));
            pending.push((owner, change.clone(), answer));
        }
        pending
    }

    async fn settle(&mut self, pending: Pending) {
        for (owner, change, answer) in pending {
            let model = &mut self.owners[owner];
            match answer.await {
                Ok(Some(changes)) => {
                    assert!(!model.given_up && !change.panic);
                    model.versions.push(model.versions.last().unwrap().after(&change));
                    assert_eq!(changes, model.versions.len() as u64 - 1);
                }
                Ok(None) => assert!(model.given_up, "refused since a change panicked"),
                // The reply was dropped: nothing of it was kept.
                Err(_) => {
                    assert!(change.panic && !model.given_up);
                    model.given_up = true;
                }
            }
        }
    }

    /// Copies the files while changes are in flight, as a kill leaves them.
    async fn crash(&mut self, changes: &[(usize, Change)]) {
        let pending = self.send(changes);
        let from = self.directory();
        self.generation += 1;
        copy(&from, &self.directory());
        let answered: Vec<_> =
            self.owners.iter().map(|model| (model.id, model.versions.len() as u64 - 1)).collect();
        self.settle(pending).await;
        self.journal.take().unwrap().stop().await.unwrap();
        std::fs::remove_dir_all(from).unwrap();
        let found = self.open();
        for (id, answered) in answered {
            let changes = found[&id].changes;
            assert!(changes >= answered, "{changes} of {answered} that were answered");
        }
        self.compare(&found, |model| found[&model.id].changes);
    }

    async fn restore(&mut self) {
        let backup = self.journal().backup().await.unwrap();
        let mut bytes = Backup::beginning().to_vec();
        backup
            .write(|piece| {
                bytes.extend_from_slice(&piece);
                true
            })
            .unwrap();
        drop(backup);
        self.journal.take().unwrap().stop().await.unwrap();
        self.generation += 1;
        weir::journal::restore(&bytes[..], &self.directory(), |_| {}).unwrap();
        let found = self.open();
        self.compare(&found, |model| model.versions.len() as u64 - 1);
    }

    /// Holds what was found against the model, which goes on from there.
    fn compare(&mut self, found: &BTreeMap<OwnerId, Owner>, changes: impl Fn(&Model) -> u64) {
        let ids: Vec<_> = found.keys().copied().collect();
        assert_eq!(ids, self.owners.iter().map(|model| model.id).collect::<Vec<_>>());
        for model in &mut self.owners {
            let owner = &found[&model.id];
            let changes = changes(model);
            assert_eq!(owner.changes, changes, "every unit that was answered");
            model.versions.truncate(changes as usize + 1);
            model.given_up = false;
            model.versions.last().unwrap().compare(owner);
        }
    }

    /// Reads everything.
    async fn check(&self) {
        let streams = self.journal().streams();
        for model in &self.owners {
            let version = model.versions.last().unwrap();
            assert_eq!(self.ask(|reply| Asked::Look(model.id, reply)).await, version.bulk());
            for side in 0..SIDES {
                version.check_stream(&streams, model.streams[side], side);
            }
        }
        self.check_shown();
    }

    /// Readers were told of what is visible, and of nothing else.
    fn check_shown(&self) {
        for (stream, from, end) in self.shown.0.lock().unwrap().iter() {
            let mut owners = self.owners.iter();
            let Some(model) = owners.find(|model| model.streams.contains(stream)) else { continue };
            let side = usize::from(model.streams[1] == *stream);
            let visible = &model.versions.last().unwrap().visible[side];
            assert!(visible[*from as usize..*end as usize].iter().all(|visible| *visible));
        }
    }
}

/// Copies what a kill leaves: the log last, since what else there is speaks of it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().flatten().collect();
    let is_log = |path: &Path| path.extension().is_some_and(|e| e == "jnl");
    entries.sort_by_key(|entry| {
        let path = entry.path();
        (path.is_dir() || is_log(&path), is_log(&path))
    });
    for entry in entries {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        // What is kept back on the disk is nothing but zeros.
        if path.ends_with("reserve") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &target);
        } else if is_log(&path) {
            // Without the zeros that fjall keeps in advance.
            let mut bytes = std::fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(used + 64);
            std::fs::write(target, bytes).unwrap();
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn units_are_there_whole_or_not_at_all(
        operations in prop::collection::vec(operation(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut subject = Subject::new();
            subject.apply(&Operation::Open).await;
            for operation in &operations {
                subject.apply(operation).await;
            }
            subject.apply(&Operation::Crash(Vec::new())).await;
            subject.apply(&Operation::Reopen).await;
            subject.journal().stop().await.unwrap();
        });
    }
}
