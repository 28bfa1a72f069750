//! The composition root: the only file that knows every part, and the order they start and stop.
//!
//! Start: journal (recovers) → queue → supervisor → topic service → edge → listening. Stop: no new
//! work, sockets see their last acknowledgement and close, the server ends, the journal syncs and
//! ends.

mod descriptors;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Arbiter;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use anyhow::Context;
use tokio::sync::{Semaphore, watch};

use crate::actors::supervisor::{RestartPolicy, Supervisor};
use crate::actors::topic_service::{TopicPolicy, TopicService};
use crate::clock::Clock;
use crate::config::Config;
use crate::edge::admission::Admission;
use crate::edge::connections::{self, Connections};
use crate::edge::guesses::Guesses;
use crate::edge::outgoing::{Outgoing, WATCH_INTERVAL};
use crate::edge::readers::Readers;
use crate::edge::{Edge, http};
use crate::journal::JournalError;
use crate::log;
use crate::metrics;
use crate::queue::{Embedded, Feed, Queue};
use crate::topics::{Opened, Topics};
use descriptors::Descriptors;

/// How often histograms are compacted while no client reads them.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Runs a broker until `stop` completes; `listening` is called once it accepts connections.
///
/// # Errors
/// It could not start, or not stop in order.
pub async fn run(
    mut config: Config,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    metrics::install();
    let descriptors = Descriptors::provide(config.limits.connections_max)?;
    config.limits.connections_max = descriptors.connections;
    config.storage.open_tables_max = Some(descriptors.tables);
    let clock = Clock::system();
    let core = Core::start(&config, &clock).await?;
    let store = core.store.clone();
    let (drain, draining) = watch::channel(false);
    let edge = web::Data::new(edge(&config, core, clock, draining));
    upkeep(edge.outgoing.clone());
    let (server, address) = listen(&config, &edge, descriptors.spare)?;
    let handle = server.handle();
    let server = actix_web::rt::spawn(server);
    listening(address);

    stop.await;
    tracing::info!("draining");
    drain.send_replace(true);
    answer_what_was_taken(&edge, Duration::from_millis(config.server.drain_timeout_ms)).await;
    handle.stop(true).await;
    server.await.context("the server")?.context("the server")?;
    store.stop().await.context("stopping the journal")?;
    tracing::info!("stopped");
    Ok(())
}

/// What works without a client.
struct Core {
    store: Topics,
    queue: Queue,
    supervisor: Arc<Supervisor>,
    topics: Arc<TopicService>,
}

impl Core {
    /// Recovers the journal and starts the actors of its topics.
    async fn start(config: &Config, clock: &Clock) -> anyhow::Result<Self> {
        let feed = Feed::new(config.limits.tail_cache_bytes_max);
        let Opened { topics: store, records } =
            Topics::open(&config.storage, clock.clone(), feed.observer(journal_failed))?;
        tracing::info!(path = %config.storage.path.display(), topics = records.len(), "recovered");
        let queue = Queue::Embedded(Embedded::new(store.clone(), feed)?);
        // The threads stay for as long as there are handles.
        let arbiters = (0..config.supervision.threads).map(|_| Arbiter::new().handle());
        let supervisor = Supervisor::new(
            store.clone(),
            queue.clone(),
            arbiters.collect(),
            restart_policy(config),
        );
        let policy = TopicPolicy {
            auto_create: config.auto_create_topics,
            topics_max: config.limits.topics_max,
            defaults: config.topic_defaults,
        };
        let (of_store, of_queue) = (store.clone(), queue.clone());
        let topics = TopicService::new(of_store, of_queue, records, supervisor.clone(), policy);
        for (name, settings) in config.topics().map_err(anyhow::Error::msg)? {
            let (topic, created) = topics.put(name, settings, false).await?;
            tracing::info!(topic = %topic.name(), created, "settings from [[topics]] applied");
        }
        Ok(Self { store, queue, supervisor, topics })
    }
}

/// What requests and sessions share.
fn edge(config: &Config, core: Core, clock: Clock, draining: watch::Receiver<bool>) -> Edge {
    let limits = &config.limits;
    Edge {
        receipts: core.store.receipt_key().clone(),
        message_ids: core.store.message_id_key().clone(),
        topics: core.topics,
        supervisor: core.supervisor,
        queue: core.queue,
        admission: Admission::new(limits.in_flight_bytes_max),
        // The largest body has room in it, and messages in flight keep most of the memory.
        unfinished: Admission::new(limits.in_flight_bytes_max / 8 * 5),
        outgoing: Outgoing::new(limits),
        last_upload: Semaphore::new(1),
        guesses: Guesses::new(limits.receipt_misses_per_minute, clock.clone()),
        hosts: config.server.clone(),
        connections: Connections::new(limits),
        readers: Readers::default(),
        limits: limits.clone(),
        clock,
        draining,
        sessions: watch::Sender::new(()),
        publishing: watch::Sender::new(()),
    }
}

fn listen(
    config: &Config,
    edge: &web::Data<Edge>,
    spare: usize,
) -> anyhow::Result<(Server, SocketAddr)> {
    let (in_app, origins) = (edge.clone(), config.server.allowed_origins.clone());
    let (connections, limits) = (edge.connections.clone(), config.limits.clone());
    let workers = match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    let app = move || {
        // The last one comes first.
        App::new()
            .app_data(in_app.clone())
            .wrap(http::cors(origins.clone()))
            .wrap(from_fn(http::catch_panic))
            .wrap(from_fn(http::guard_request))
            .configure(http::routes)
    };
    let listen = config.server.listen;
    connections::serve(listen, workers, limits, spare, connections, app)
        .with_context(|| format!("can't listen on {listen}"))
}

/// Waits until every message that was accepted is answered, and every session has ended.
async fn answer_what_was_taken(edge: &Edge, patience: Duration) {
    let answered = async { tokio::join!(edge.sessions.closed(), edge.publishing.closed()) };
    if tokio::time::timeout(patience, answered).await.is_err() {
        let (open, requests) = (edge.sessions.receiver_count(), edge.publishing.receiver_count());
        tracing::warn!(open, requests, "sockets and requests left open after draining");
    }
}

/// Tidies histograms, and cuts off readers that hold room and take too little.
fn upkeep(outgoing: Outgoing) {
    actix_web::rt::spawn(async {
        let mut pace = tokio::time::interval(METRICS_UPKEEP);
        loop {
            pace.tick().await;
            metrics::upkeep();
        }
    });
    actix_web::rt::spawn(async move {
        let mut pace = tokio::time::interval(WATCH_INTERVAL);
        loop {
            pace.tick().await;
            let cut = outgoing.cut_slow(Instant::now());
            if cut > 0 {
                tracing::warn!(cut, "readers that took too little were cut off");
            }
        }
    });
}

fn restart_policy(config: &Config) -> RestartPolicy {
    let settings = &config.supervision;
    RestartPolicy {
        restarts_max: settings.restarts_max,
        window: Duration::from_millis(settings.restart_window_ms),
        backoff: Duration::from_millis(settings.backoff_ms),
        backoff_max: Duration::from_millis(settings.backoff_ms_max),
    }
}

/// After a failed write or sync the content of the disk is unknown (the kernel may have dropped
/// dirty pages), so the broker must start anew from what is there.
fn journal_failed(error: &JournalError) {
    tracing::error!(%error, "the journal failed; nothing is acknowledged any more, exiting");
    // Whether the line is read or not.
    log::flush(log::FLUSH_MAX);
    std::process::exit(1);
}
