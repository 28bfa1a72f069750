//! A process that drives the journal alone with the small machine of the tests, until it is killed.
//!
//! Its changes follow from the seed, the owner and their number, so that a process which opens the
//! directory later knows what must exist. It checks the content at its start and panics if that
//! differs; only its caller knows what was answered.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use weir::clock::Clock;
use weir::journal::{Journal, JournalError, JournalObserver, StorageSettings};
use weir::model::{OwnerId, PlacedBlock};

use crate::machine::{Asked, Change, Owner, SIDES, Small};
use crate::version::Version;

pub const OWNERS: usize = 3;
/// Changes of an owner that wait for their answers at once.
const IN_FLIGHT: usize = 16;
/// Messages that a side keeps, in about one change of eight.
const KEPT: u64 = 40;

/// A line of this process.
#[derive(Debug)]
pub enum Said {
    /// An owner was recovered with N changes.
    Found { owner: usize, changes: u64 },
    /// A change that asked for it was answered: it and all before it are on the disk.
    Synced { owner: usize, changes: u64 },
}

impl Said {
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (word, owner, changes) = (words.next()?, words.next()?, words.next()?);
        let (owner, changes) = (owner.parse().ok()?, changes.parse().ok()?);
        match word {
            "found" => Some(Self::Found { owner, changes }),
            "synced" => Some(Self::Synced { owner, changes }),
            _ => None,
        }
    }

    fn say(&self) {
        match self {
            Self::Found { owner, changes } => println!("found {owner} {changes}"),
            Self::Synced { owner, changes } => println!("synced {owner} {changes}"),
        }
    }
}

struct Ignored;

impl JournalObserver for Ignored {
    fn committed(&self, _: &[Arc<PlacedBlock>]) {}

    // Its caller has cut the power.
    fn failed(&self, _: &JournalError) {}
}

/// An owner's change of this number, from 1.
fn change(seed: u64, owner: usize, number: u64, version: &Version) -> Change {
    let mut random = StdRng::seed_from_u64(seed ^ (number << 8) ^ owner as u64);
    let mut appends = Vec::new();
    for side in 0..SIDES {
        for _ in 0..random.random_range(0..3) {
            let longest = if random.random_bool(0.1) { 30_000 } else { 600 };
            let messages = random.random_range(1..4);
            let lengths = (0..messages).map(|_| random.random_range(0..longest)).collect();
            appends.push((side, lengths, side == 0));
        }
    }
    let values = (0..random.random_range(0..4)).map(|_| {
        let value = random.random_bool(0.5).then(|| random.random());
        (random.random(), value)
    });
    let values = values.collect();
    let side = random.random_range(0..SIDES);
    let first = (version.lengths[side].len() as u64).saturating_sub(KEPT);
    let trim = random.random_bool(0.12).then_some((side, first));
    let synced = random.random_bool(0.5);
    Change { appends, values, trim, synced, panic: false }
}

/// Runs until it is killed, or until the disk accepts nothing more.
pub async fn drive(directory: &Path, seed: u64) -> anyhow::Result<()> {
    let settings = StorageSettings {
        path: directory.to_owned(),
        memtable_bytes: 1 << 20,
        wal_bytes_max: 192 << 20,
        retention_interval_ms: 100,
        ..StorageSettings::default()
    };
    let make = |_: &Path| Ok(Small::default());
    let view = |machine: &Small| machine.owners.clone();
    let (journal, found) =
        Journal::open(&settings, Clock::system(), Arc::new(Ignored), make, view)?;
    let owners = owners(&journal, found).await?;
    let mut tasks = Vec::new();
    for (owner, (id, state)) in owners.into_iter().enumerate() {
        let mut version = Version::default();
        for number in 1..=state.changes {
            version = version.after(&change(seed, owner, number, &version));
        }
        version.compare(&state);
        let (reply, answer) = oneshot::channel();
        journal.ask(Asked::Look(id, reply));
        assert_eq!(answer.await?, version.bulk(), "values that are looked up");
        for side in 0..SIDES {
            version.check_stream(&journal.streams(), state.streams[side], side);
        }
        Said::Found { owner, changes: state.changes }.say();
        tasks.push((owner, id, state.changes, version));
    }
    let work = tasks
        .into_iter()
        .map(|(owner, id, changes, version)| work(&journal, seed, (owner, id), changes, version));
    futures_util::future::join_all(work).await;
    Ok(())
}

/// All owners; missing ones are created.
async fn owners(
    journal: &Journal<Small>,
    mut found: BTreeMap<OwnerId, Owner>,
) -> anyhow::Result<BTreeMap<OwnerId, Owner>> {
    while found.len() < OWNERS {
        let (reply, answer) = oneshot::channel();
        journal.ask(Asked::Open(reply));
        let owner = answer.await.context("an owner is made")?;
        found.insert(owner.streams[0].into(), owner);
    }
    Ok(found)
}

async fn work(
    journal: &Journal<Small>,
    seed: u64,
    (owner, id): (usize, OwnerId),
    mut number: u64,
    mut version: Version,
) {
    let mut waiting = VecDeque::new();
    loop {
        while waiting.len() < IN_FLIGHT {
            number += 1;
            let change = change(seed, owner, number, &version);
            version = version.after(&change);
            let (reply, answer) = oneshot::channel();
            waiting.push_back((change.synced, answer));
            journal.ask(Asked::Change(id, change, reply));
        }
        let Some((synced, answer)) = waiting.pop_front() else { return };
        let Ok(Some(changes)) = answer.await else { return };
        if synced {
            Said::Synced { owner, changes }.say();
        }
    }
}
