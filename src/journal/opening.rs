//! Opening the journal: the order in which its parts recover.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::age::Age;
use super::commit::{DiskSpace, Writer, WriterParts};
use super::lock::DirectoryLock;
use super::machine::{Machine, Now, StreamEnd};
use super::reclaim::Reclaimer;
use super::recovery::{self, Recovered};
use super::salvage::{self, manifest};
use super::shared::{Shared, log_ends};
use super::store::{self, Store};
use super::unit::Unit;
use super::watermark::{self, Extent, Marks, Watermark};
use super::{Journal, JournalError, JournalObserver, StorageSettings, Threads};
use crate::clock::Clock;
use crate::model::StreamId;

impl<M: Machine> Journal<M> {
    /// Locks the data directory, recovers its content into the machine that `make` returns, and
    /// starts the writer thread. `view` sees the machine once it is recovered. `make` is called
    /// when the directory is locked and salvaged.
    ///
    /// # Errors
    /// [`JournalError`]: in use, not writable, or not to be opened; the file is named then, and
    /// nothing was changed but a log that was repaired before.
    pub fn open<T>(
        settings: &StorageSettings,
        clock: Clock,
        observer: Arc<dyn JournalObserver>,
        make: impl FnOnce(&Path) -> Result<M, JournalError>,
        view: impl FnOnce(&M) -> T,
    ) -> Result<(Self, T), JournalError> {
        let started = clock.uptime();
        let directory = &settings.path;
        let mut lock = DirectoryLock::acquire(directory)?;
        let space = DiskSpace::new(settings, salvage::older_wal_bytes(directory));
        Store::ensure(directory, settings)?;
        manifest::check(&directory.join(store::FOLDER))?;
        let marks = Marks::read(directory)?;
        let salvaged = salvage::salvage(directory, &marks)?;
        let store = Store::open(directory, settings)?;
        lock.watch(directory.join(store::FOLDER));
        let boot_id = watermark::boot_id();
        let complete = marks.prove_complete(store.positions()?.commits, boot_id);
        let mut machine = make(directory)?;
        let mut recovered = recovery::recover(&store, &mut machine, &salvaged, &marks, complete)
            .map_err(|error| named(directory, error))?;
        let positions = recovered.positions;
        let took = clock.uptime().saturating_sub(started);
        log_recovered(&recovered, complete, took);
        // Everything found is durable now: salvage has synced what may not have been.
        let age_ms = positions.age_ms.max(marks.age_ms());
        let extent = Extent { age_ms, ..Extent::of(&positions) };
        let watermark = Watermark::create(directory, boot_id, positions.journal, extent)?;

        let age = Age::new(age_ms, clock.clone());
        let now = Now { age_ms: age.now_ms(), time: clock.now(), full: None };
        let unit = tell(&mut machine, &mut recovered, &now)?;
        let deleted = std::mem::take(&mut recovered.deleted);
        let shared = Arc::new(Shared::new(store, age.clone(), &positions, deleted));
        let (examined, stale) = (recovered.examined, std::mem::take(&mut recovered.stale_pages));
        let tails_from = count_tails(&shared, &recovered);
        let (commands, received) = mpsc::channel();
        let reclaimer = Reclaimer {
            shared: shared.clone(),
            commands: commands.clone(),
            age: age.clone(),
            interval: Duration::from_millis(settings.retention_interval_ms),
            counted_from: log_ends(&positions),
            tails_from,
            may_drop: true,
        };
        let no_thread =
            |error| JournalError::Directory { path: directory.clone(), error: Arc::new(error) };
        let parts = WriterParts {
            shared: shared.clone(),
            machine,
            commands: received,
            watermark,
            space,
            lock,
            age,
            clock,
            observer,
        };
        let mut writer = Writer::new(parts, recovered, settings).map_err(no_thread)?;
        writer.begin(unit, now, examined, stale)?;
        let seen = view(writer.machine());
        let threads = start(writer, reclaimer).map_err(no_thread)?;
        let threads = Arc::new(Mutex::new(Some(threads)));
        Ok((Self { commands, shared, threads }, seen))
    }
}

fn log_recovered(recovered: &Recovered, complete: bool, took: Duration) {
    let (streams, commits) = (recovered.streams.len(), recovered.positions.commits);
    tracing::info!(streams, commits, complete, ms = took.as_millis(), "journal recovered");
}

/// Reports the findings to the machine; returns what it wants written about them.
fn tell<M: Machine>(
    machine: &mut M,
    recovered: &mut Recovered,
    now: &Now,
) -> Result<Unit, JournalError> {
    let mut unit = Unit { next_owner: recovered.positions.next_owner, ..Unit::default() };
    let findings = std::mem::take(&mut recovered.findings);
    let by_id: HashMap<StreamId, StreamEnd> = recovered
        .streams
        .iter()
        .map(|(id, index)| {
            let extent = &index.extent;
            let (head, number, last_time) = (extent.head, extent.number, extent.last_time);
            (*id, StreamEnd { head, number, last_time })
        })
        .collect();
    machine.recovered(findings, &|stream| by_id.get(&stream).copied(), now, &mut unit)?;
    Ok(unit)
}

/// Counts the blocks of recovered tails; where each tail begins, by block number.
fn count_tails(shared: &Shared, recovered: &Recovered) -> HashMap<StreamId, u64> {
    let mut tails_from = HashMap::new();
    for (stream, index) in &recovered.streams {
        let mut usage = shared.log(index.extent.log).lock_usage();
        index.tail.iter().for_each(|entry| usage.add(entry.sequence, entry.weight()));
        if let Some(first) = index.tail.front() {
            tails_from.insert(*stream, first.number);
        }
    }
    tails_from
}

fn start<M: Machine>(
    writer: Writer<M>,
    reclaimer: Reclaimer<M::Request>,
) -> std::io::Result<Threads> {
    let writer =
        std::thread::Builder::new().name("journal-writer".into()).spawn(move || writer.run())?;
    let (stop_reclaiming, stopped) = mpsc::channel();
    let reclaimer = std::thread::Builder::new()
        .name("journal-retention".into())
        .spawn(move || reclaimer.run(&stopped))?;
    Ok(Threads { writer, reclaimer, stop_reclaiming })
}

/// Which file fjall failed on, if a checksum identifies it.
fn named(directory: &Path, error: JournalError) -> JournalError {
    match error {
        JournalError::LaterVersion(_) => error,
        error => store::named(&directory.join(store::FOLDER), error),
    }
}
