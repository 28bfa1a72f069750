//! The broker's counters and histograms, by name, for Prometheus.
//!
//! Handles are made once and cost an atomic operation each; a histogram gets one value a block or a
//! commit, never one a message. A state rather than an event (topics, connections, bytes in flight)
//! is read at each scrape, by `edge::http::metrics`.
//!
//! Invariant: a name, once published, keeps its meaning; nothing a client chooses becomes a name or
//! a label here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper ends of the buckets of times, in seconds: 100 us to 10 s.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Upper ends of the buckets of counts.
const COUNTS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];
/// Upper ends of the buckets of sizes, in bytes.
const BYTES: [f64; 8] =
    [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
/// Counted here first: lines are dropped before [`install`], too.
static LOG_LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts counting. To be called before anything is counted; later calls do nothing.
pub fn install() {
    HANDLE.get_or_init(|| {
        let buckets = |builder: PrometheusBuilder, suffix: &str, buckets: &[f64]| {
            builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)
        };
        let builder = buckets(PrometheusBuilder::new(), "_seconds", &SECONDS)
            .and_then(|builder| buckets(builder, "_messages", &COUNTS))
            .and_then(|builder| buckets(builder, "_bytes", &BYTES));
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle.inspect_err(|error| tracing::warn!(%error, "nothing will be counted")).ok()
    });
    LazyLock::force(&METRICS);
}

/// Moves the values of histograms out of their buffers; to be called every few seconds, so that
/// they stay small if nothing scrapes them.
pub fn upkeep() {
    if let Some(Some(handle)) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// All counters, in Prometheus' text format.
pub fn render() -> String {
    METRICS.log_lines_dropped.absolute(LOG_LINES_DROPPED.load(Ordering::Relaxed));
    HANDLE.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// The interface of a message, in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `POST …/messages`
    Http,
    /// A producer socket.
    Socket,
    /// `POST …/oneway`
    OneWay,
    /// `GET …/messages`
    Poll,
    /// A tail socket.
    Tail,
    /// `GET …/events`
    Events,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Http, Self::Socket, Self::OneWay, Self::Poll, Self::Tail, Self::Events];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socket => "socket",
            Self::OneWay => "oneway",
            Self::Poll => "poll",
            Self::Tail => "tail",
            Self::Events => "events",
        }
    }
}

struct Metrics {
    messages: [Counter; Way::ALL.len()],
    bytes: [Counter; Way::ALL.len()],
    ack_seconds: [Histogram; 2],
    one_way_stored: Counter,
    one_way_duplicates: Counter,
    one_way_dropped: Counter,
    commit_seconds: Histogram,
    commit_messages: Histogram,
    commit_bytes: Histogram,
    syncs: Counter,
    log_lines_dropped: Counter,
}

impl Metrics {
    fn new() -> Self {
        let (incoming, outgoing) = (
            ("weir_published_messages_total", "weir_published_bytes_total"),
            ("weir_read_messages_total", "weir_read_bytes_total"),
        );
        describe_counter!(incoming.0, "Messages that were stored, by interface");
        describe_counter!(incoming.1, Unit::Bytes, "Bytes of messages that were stored");
        describe_counter!(outgoing.0, "Messages sent to readers, by interface");
        describe_counter!(outgoing.1, Unit::Bytes, "Bytes sent to readers, as encoded");
        describe_histogram!("weir_ack_seconds", Unit::Seconds, "From a block's arrival to its ack");
        describe_histogram!("weir_commit_seconds", Unit::Seconds, "Time of one commit");
        describe_histogram!("weir_commit_messages", "Messages in one commit");
        describe_histogram!("weir_commit_bytes", Unit::Bytes, "Bytes of messages in one commit");
        describe_counter!("weir_syncs_total", "Commits that waited for fdatasync");
        describe_counter!("weir_one_way_stored_total", "One-way messages stored");
        describe_counter!("weir_one_way_duplicates_total", "The same, stored before");
        describe_counter!("weir_one_way_dropped_total", "One-way messages not stored");
        describe_counter!("weir_one_way_drops_total", "The same, by reason");
        describe_counter!("weir_problems_total", "Error answers, by code");
        describe_counter!("weir_restarts_total", "Restarts of actors, by kind");
        describe_counter!("weir_log_lines_dropped_total", "Log lines that could not be written");
        let names = |way: Way| match way {
            Way::Http | Way::Socket | Way::OneWay => incoming,
            Way::Poll | Way::Tail | Way::Events => outgoing,
        };
        Self {
            messages: Way::ALL.map(|way| counter!(names(way).0, "way" => way.name())),
            bytes: Way::ALL.map(|way| counter!(names(way).1, "way" => way.name())),
            ack_seconds: [Way::Http, Way::Socket]
                .map(|way| histogram!("weir_ack_seconds", "way" => way.name())),
            one_way_stored: counter!("weir_one_way_stored_total"),
            one_way_duplicates: counter!("weir_one_way_duplicates_total"),
            one_way_dropped: counter!("weir_one_way_dropped_total"),
            commit_seconds: histogram!("weir_commit_seconds"),
            commit_messages: histogram!("weir_commit_messages"),
            commit_bytes: histogram!("weir_commit_bytes"),
            syncs: counter!("weir_syncs_total"),
            log_lines_dropped: counter!("weir_log_lines_dropped_total"),
        }
    }
}

/// Messages were received, or sent.
pub fn passed(way: Way, messages: u64, bytes: u64) {
    METRICS.messages[way as usize].increment(messages);
    METRICS.bytes[way as usize].increment(bytes);
}

/// A block was acknowledged this long after it arrived.
pub fn acknowledged(way: Way, after: Duration) {
    if let Some(histogram) = METRICS.ack_seconds.get(way as usize) {
        histogram.record(after);
    }
}

/// One-way messages are stored, or were before.
pub fn one_way_taken(stored: u64, duplicates: u64) {
    METRICS.one_way_stored.increment(stored);
    METRICS.one_way_duplicates.increment(duplicates);
}

/// One-way messages were not stored; `reason` is a problem's code, or why no problem was sent.
pub fn one_way_dropped(reason: &'static str, messages: u64) {
    if messages > 0 {
        METRICS.one_way_dropped.increment(messages);
        counter!("weir_one_way_drops_total", "reason" => reason).increment(messages);
    }
}

/// The writer made a commit.
pub fn committed(messages: u64, bytes: u64, took: Duration, synced: bool) {
    METRICS.commit_seconds.record(took);
    METRICS.commit_messages.record(messages as f64);
    METRICS.commit_bytes.record(bytes as f64);
    METRICS.syncs.increment(u64::from(synced));
}

/// A request or a frame was answered with an error.
pub fn problem(code: &'static str) {
    counter!("weir_problems_total", "code" => code).increment(1);
}

/// An actor was restarted.
pub fn restarted(actor: &'static str) {
    counter!("weir_restarts_total", "actor" => actor).increment(1);
}

/// A log line could not be written.
pub fn log_line_dropped() {
    LOG_LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
}
