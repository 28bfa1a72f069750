//! The common part of faults that crash one directory repeatedly under load.
//!
//! A violation ends the directory, not the run: the next cycle begins with a new one, so that one
//! fault is counted once.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::broker::{Broker, Launch};
use crate::report::Row;
use crate::setting::Setting;
use crate::workload::{Running, Workload};

/// A long run reports its progress after this many cycles.
const PROGRESS_CYCLES: usize = 50;
/// Failed cycles after which a run ends, as more would show nothing new.
const FAILURES_MAX: usize = 5;

/// A run of cycles.
pub struct Cycles<'a> {
    pub setting: &'a Setting,
    pub row: Row,
    pub random: StdRng,
    pub load: Workload,
    trimmed: u64,
    judged: usize,
    failures: usize,
}

impl<'a> Cycles<'a> {
    pub fn new(setting: &'a Setting, name: &str) -> Self {
        let mut random = setting.random(name);
        let load = Workload::new(&mut random);
        Self { setting, row: Row::new(name), random, load, trimmed: 0, judged: 0, failures: 0 }
    }

    /// Makes the topics on a new directory.
    pub async fn create(&mut self, launch: &Launch) -> anyhow::Result<()> {
        let broker = launch.open()?;
        self.load.create(&broker).await?;
        broker.kill();
        Ok(())
    }

    /// Starts a broker and checks its content; `None` if that was wrong.
    pub async fn begin(&mut self, launch: &Launch) -> anyhow::Result<Option<Broker>> {
        self.setting.remember(launch.data())?;
        let broker = match launch.open() {
            Ok(broker) => broker,
            Err(error) => {
                self.row.violations.push(format!("cycle {}: {error:#}", self.row.cycles));
                return Ok(None);
            }
        };
        self.row.recovery.push(broker.started_in);
        for wrong in self.load.check(&broker).await? {
            self.row.violations.push(format!("cycle {}: {wrong}", self.row.cycles));
        }
        Ok((self.row.violations.len() == self.judged).then_some(broker))
    }

    /// Load, up to a moment that the fault chooses.
    pub async fn load(&mut self, broker: &Broker) -> anyhow::Result<Running> {
        let running = self.load.start(broker, &mut self.random);
        running.acknowledged(1).await?;
        // The moment is random on purpose: there is no condition to wait for.
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..1_200))).await;
        Ok(running)
    }

    /// The end of a cycle, after the crash.
    pub async fn end(&mut self, running: Running) {
        let gathered = self.load.gather(running).await;
        self.row.violations.extend(gathered.complaints);
        self.row.cycles += 1;
        if self.row.cycles.is_multiple_of(PROGRESS_CYCLES) {
            let (cycles, violations) = (self.row.cycles, self.row.violations.len());
            eprintln!("{} after {cycles} cycles: {violations} violations", self.row.fault);
        }
    }

    /// Whether there was a violation since the last call. If so the load begins anew, and needs a
    /// new directory.
    pub fn failed(&mut self) -> anyhow::Result<bool> {
        if self.row.violations.len() == self.judged {
            return Ok(false);
        }
        self.setting.keep(&format!("{}-{}", self.row.fault, self.row.cycles))?;
        self.judged = self.row.violations.len();
        self.failures += 1;
        self.renew();
        Ok(true)
    }

    /// Checks the content after the last crash, and ends with this directory.
    pub async fn judge_last(&mut self, launch: &Launch) -> anyhow::Result<()> {
        drop(self.begin(launch).await?);
        if !self.failed()? {
            self.renew();
        }
        Ok(())
    }

    /// Begins anew.
    fn renew(&mut self) {
        self.row.acknowledged += self.load.acknowledged();
        self.row.lost += self.load.lost();
        self.trimmed += self.load.trimmed();
        let mut remarks = vec![format!("{} trimmed by retention", self.trimmed)];
        remarks.extend(self.load.missing.iter().map(|missing| (*missing).to_owned()));
        self.row.note = remarks.join(", ");
        self.load = Workload::new(&mut self.random);
    }

    /// It keeps failing.
    pub fn is_hopeless(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    pub fn finish(mut self) -> Vec<Row> {
        self.renew();
        vec![self.row]
    }
}
