//! A client process: connects, waits for the start, loads the broker, and checks what it receives.
//!
//! It exchanges JSON lines with its parent: it receives the plan, sends `ready`, receives `go`,
//! sends its progress, sends `produced` once every answer has come, receives how many messages each
//! topic has, and sends its results once its tails have received them all. Any deviation ends it
//! with an error: a measurement of a broker that answers wrongly is worthless.

mod frames;
mod http;
mod pace;
mod page;
mod poller;
mod producer;
mod requests;
mod tail;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::pace::Schedule;
use super::payload::{Payloads, Pool, now_ns};
use super::plan::Plan;
use super::tally::{Tally, Written};
use crate::cli::output::print;

/// How often the parent receives the progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// How long answers and deliveries may be outstanding once sending has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// A message from the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Plan(Box<Plan>),
    Go,
    /// Messages of each topic, of all clients.
    Heads(Vec<u64>),
}

/// A message to the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Saying {
    Ready,
    /// Messages acknowledged, delivered and polled so far.
    Progress(u64),
    /// Messages acknowledged, by topic.
    Produced(Vec<u64>),
    Found(Box<Found>),
}

/// The results of a client.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) acknowledged: Written,
    pub(super) delivered: Written,
    pub(super) polled: Written,
    pub(super) pages: Written,
}

/// State shared by a process's tasks.
struct Shared {
    plan: Plan,
    pool: Pool,
    /// End of the measured window; nothing is sent after it.
    end_ns: u64,
    acknowledged: RefCell<Tally>,
    delivered: RefCell<Tally>,
    polled: RefCell<Tally>,
    pages: RefCell<Tally>,
    /// Messages acknowledged, by topic.
    stored: RefCell<Vec<u64>>,
    sent_total: Cell<u64>,
    delivered_total: Cell<u64>,
    /// The offset each tail of this process waits for.
    tails: RefCell<Vec<u64>>,
    polled_total: Cell<u64>,
    /// A tail has received something.
    delivery: Notify,
    /// How many messages each topic has, once sending has ended.
    heads: RefCell<Option<Vec<u64>>>,
    heads_known: Notify,
}

impl Shared {
    fn new(plan: Plan) -> Self {
        let text = plan.producers.protocol.is_text();
        let pool = Pool::new(plan.payload_bytes, text, plan.seed + 1);
        let begin_ns = now_ns() + plan.warm_up_ms * 1_000_000;
        let end_ns = begin_ns + plan.measured_ms * 1_000_000;
        let by_due = plan.producers.rate.is_some();
        let tally = || RefCell::new(Tally::new(begin_ns, end_ns, by_due));
        Self {
            end_ns,
            acknowledged: tally(),
            delivered: tally(),
            polled: tally(),
            pages: tally(),
            stored: RefCell::new(vec![0; plan.topics.len()]),
            sent_total: Cell::default(),
            delivered_total: Cell::default(),
            tails: RefCell::new(vec![0; plan.tails]),
            polled_total: Cell::default(),
            delivery: Notify::new(),
            heads: RefCell::default(),
            heads_known: Notify::new(),
            pool,
            plan,
        }
    }

    fn payloads(&self, connection: usize) -> Payloads {
        Payloads::new(self.pool.clone(), self.plan.seed.wrapping_add(connection as u64 + 1))
    }

    /// Every tail of this process has received N messages.
    fn have_all_got(&self, messages: u64) -> bool {
        // The slowest is determined only when it can matter: not with each message of each tail.
        self.delivered_total.get() >= messages * self.plan.tails as u64
            && self.tails.borrow().iter().all(|next| *next >= messages)
    }

    fn is_over(&self) -> bool {
        now_ns() >= self.end_ns
    }

    /// A connection that has sent N messages sends no more.
    fn has_sent_all(&self, schedule: Option<&Schedule>, sent: u64) -> bool {
        let is_over = match schedule {
            // What was due in time is sent, however late.
            Some(schedule) => schedule.due_ns(sent) >= self.end_ns,
            None => self.is_over(),
        };
        is_over || self.plan.producers.messages_max.is_some_and(|max| sent >= max)
    }

    /// A message of a topic was due at that time and is acknowledged now.
    fn acknowledged(&self, topic: usize, due_ns: u64, now_ns: u64) {
        self.stored.borrow_mut()[topic] += 1;
        self.acknowledged.borrow_mut().note(due_ns, now_ns, self.plan.payload_bytes);
    }

    fn done_total(&self) -> u64 {
        let stored: u64 = self.stored.borrow().iter().sum();
        stored + self.delivered_total.get() + self.polled_total.get()
    }

    fn found(&self) -> Found {
        Found {
            acknowledged: self.acknowledged.borrow().written(),
            delivered: self.delivered.borrow().written(),
            polled: self.polled.borrow().written(),
            pages: self.pages.borrow().written(),
        }
    }
}

/// Follows the parent's messages until all is done.
pub(super) async fn run() -> anyhow::Result<()> {
    allow_connections()?;
    let mut words = BufReader::new(tokio::io::stdin()).lines();
    let Word::Plan(plan) = hear(&mut words).await? else { bail!("a plan comes first") };
    let mut connected = Connections::open(&plan).await?;
    say(&Saying::Ready)?;
    ensure!(matches!(hear(&mut words).await?, Word::Go), "the word to go comes next");
    let shared = Rc::new(Shared::new(*plan));

    let mut consuming = JoinSet::new();
    for tail in connected.tails.drain(..) {
        consuming.spawn_local(tail.run(shared.clone()));
    }
    let mut loading = JoinSet::new();
    for poller in connected.pollers.drain(..) {
        loading.spawn_local(poller.run(shared.clone()));
    }
    let pacer = connected.producers.start(&shared, &mut loading)?;
    while !loading.is_empty() {
        tokio::select! {
            biased;
            done = loading.join_next() => done.transpose()?.transpose()?.unwrap_or_default(),
            failed = failure(&mut consuming) => return Err(failed),
            () = tokio::time::sleep(PROGRESS_EVERY) => say(&Saying::Progress(shared.done_total()))?,
        }
        let overdue_ns = shared.end_ns + PATIENCE.as_nanos() as u64;
        ensure!(now_ns() < overdue_ns, "answers are missing {PATIENCE:?} after the end");
    }
    drop(pacer);
    say(&Saying::Produced(shared.stored.borrow().clone()))?;
    let Word::Heads(heads) = hear(&mut words).await? else { bail!("the heads come last") };
    *shared.heads.borrow_mut() = Some(heads);
    shared.heads_known.notify_waiters();
    let rest = async {
        while let Some(done) = consuming.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, rest)
        .await
        .with_context(|| format!("deliveries are missing after {PATIENCE:?}"))??;
    say(&Saying::Found(Box::new(shared.found())))
}

/// Raises the limit on open files as far as possible; many systems begin at 1,024.
fn allow_connections() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Every connection of the plan, opened before the measurement.
struct Connections {
    producers: producer::Producers,
    tails: Vec<tail::Tail>,
    pollers: Vec<poller::Poller>,
}

impl Connections {
    async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let mut tails = Vec::new();
        for n in 0..plan.tails {
            tails.push(tail::Tail::open(plan, n).await?);
        }
        let mut pollers = Vec::new();
        for n in 0..plan.pollers.connections {
            let topic = plan.topic_of(n, plan.pollers.connections);
            pollers.push(poller::Poller::open(plan, topic).await?);
        }
        Ok(Self { producers: producer::Producers::open(plan).await?, tails, pollers })
    }
}

/// Never resolves, or to a consumer's failure; an early success is a failure too.
async fn failure(consuming: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    match consuming.join_next().await {
        None => std::future::pending().await,
        Some(Ok(Ok(()))) => anyhow::anyhow!("a consumer ended before its time"),
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => error.into(),
    }
}

async fn hear(words: &mut Lines<BufReader<Stdin>>) -> anyhow::Result<Word> {
    let line = words.next_line().await?.context("the parent process has ended")?;
    serde_json::from_str(&line).context("the parent process's line")
}

fn say(saying: &Saying) -> anyhow::Result<()> {
    print([serde_json::to_string(saying)?])
}
