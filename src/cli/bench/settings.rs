//! A measurement: a workload, and its settings from the command line.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::measure::Measurement;
use super::payload::PAYLOAD_BYTES_MIN;
use super::plan::{Form, Plan, Pollers, Producers, Protocol};
use crate::cli::Usage;
use crate::config::units;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Workload {
    /// Producers only: how many messages are acknowledged, and after what time
    Publish,
    /// One producer, many tails of its topic: how many deliveries
    Tail,
    /// Pollers of topics that were filled before
    Poll,
    /// Producers and one tail: from when a message was due until it has arrived
    E2e,
    /// Messages to random topics
    ManyTopics,
    /// Producers, tails and pollers together
    Mixed,
    #[value(hide = true)]
    Client,
    #[value(hide = true)]
    Bare,
}

#[derive(Args, Clone, Debug, Serialize)]
pub(super) struct Settings {
    /// The workload
    #[arg(value_enum)]
    pub(super) workload: Workload,
    /// How messages are published
    #[arg(long, value_enum)]
    pub(super) protocol: Option<Protocol>,
    /// Connections that publish
    #[arg(long, value_parser = count)]
    pub(super) connections: Option<usize>,
    /// Most unanswered messages of one connection; `tail`: most that not every tail has received;
    /// `many-topics` over sockets: of all connections
    #[arg(long, value_parser = count)]
    pub(super) in_flight: Option<usize>,
    /// Messages in a frame or request
    #[arg(long, value_parser = count)]
    pub(super) batch: Option<usize>,
    /// Open loop: messages a second, of all connections together
    #[arg(long)]
    pub(super) rate: Option<f64>,
    /// Bytes of a payload; they do not compress
    #[arg(long, default_value = "256", value_parser = size)]
    pub(super) payload_bytes: usize,
    /// When a message is acknowledged
    #[arg(long, default_value = "sync", value_parser = ["sync", "os"])]
    pub(super) ack_level: String,
    /// Topics
    #[arg(long, value_parser = count)]
    pub(super) topics: Option<usize>,
    /// Tails
    #[arg(long)]
    pub(super) tails: Option<usize>,
    /// Connections that poll
    #[arg(long)]
    pub(super) pollers: Option<usize>,
    /// Messages a page
    #[arg(long, default_value_t = 1_000, value_parser = count)]
    pub(super) page: usize,
    /// The format of pages
    #[arg(long, value_enum, default_value = "ndjson")]
    pub(super) form: Form,
    /// Messages in each topic before it is polled
    #[arg(long)]
    pub(super) messages: Option<u64>,
    /// Client processes
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub(super) processes: usize,
    /// Measured time of a repetition
    #[arg(long, default_value_t = 5.0)]
    pub(super) seconds: f64,
    /// Time before it that is not counted
    #[arg(long, default_value_t = 1.0)]
    pub(super) warm_up_seconds: f64,
}

fn count(text: &str) -> Result<usize, &'static str> {
    let count = text.parse().ok().filter(|count| (1..=1_000_000).contains(count));
    count.ok_or("must be 1 to 1000000")
}

fn size(text: &str) -> Result<usize, String> {
    units::bytes(text).and_then(|bytes| usize::try_from(bytes).map_err(|error| error.to_string()))
}

/// The default settings of a workload.
struct Defaults {
    protocol: Protocol,
    connections: usize,
    in_flight: usize,
    batch: usize,
    rate: Option<f64>,
    topics: usize,
    tails: usize,
    pollers: usize,
    messages: u64,
}

impl Defaults {
    fn of(workload: Workload, protocol: Option<Protocol>) -> Self {
        let publish = Self {
            protocol: protocol.unwrap_or(Protocol::Json),
            connections: 8,
            in_flight: 512,
            batch: 1,
            rate: None,
            topics: 1,
            tails: 0,
            pollers: 0,
            messages: 0,
        };
        match workload {
            Workload::Publish | Workload::Client | Workload::Bare => match protocol {
                Some(Protocol::Http) => Self { connections: 64, in_flight: 1, ..publish },
                Some(Protocol::HttpBatch) => Self { in_flight: 100, batch: 100, ..publish },
                _ => publish,
            },
            Workload::Tail => {
                Self { connections: 1, in_flight: 64, batch: 64, tails: 1_000, ..publish }
            }
            Workload::Poll => {
                Self { connections: 0, topics: 4, pollers: 4, messages: 500_000, ..publish }
            }
            Workload::E2e => Self { tails: 1, rate: Some(20_000.0), ..publish },
            Workload::ManyTopics => {
                Self { topics: 1_000, connections: 64, in_flight: 2_000, ..publish }
            }
            Workload::Mixed => Self {
                topics: 8,
                tails: 8,
                pollers: 2,
                rate: Some(100_000.0),
                messages: 10_000,
                ..publish
            },
        }
    }
}

impl Settings {
    pub(super) fn is_http_publish(&self) -> bool {
        self.workload == Workload::Publish && self.protocol == Some(Protocol::Http)
    }

    /// Messages a second of all connections together; none in a closed loop.
    pub(super) fn pace(&self) -> Option<f64> {
        let usual = Defaults::of(self.workload, self.protocol).rate;
        self.rate.or(usual.filter(|_| self.in_flight.is_none()))
    }

    /// The measurement of a server.
    ///
    /// # Errors
    /// [`Usage`], if settings contradict each other.
    pub(super) fn measurement(
        &self,
        address: String,
        pid: Option<u32>,
        keep: bool,
    ) -> anyhow::Result<Measurement> {
        let defaults = Defaults::of(self.workload, self.protocol);
        let protocol = defaults.protocol;
        let usual = if protocol.is_one_by_one() { 1 } else { defaults.batch };
        let batch = self.batch.unwrap_or(usual);
        let in_flight = self.in_flight.unwrap_or(defaults.in_flight.max(batch));
        let topics = self.topics.unwrap_or(defaults.topics);
        let connections = match self.workload {
            Workload::ManyTopics if !defaults.protocol.is_http() => topics,
            _ => self.connections.unwrap_or(defaults.connections),
        };
        let tails = self.tails.unwrap_or(defaults.tails);
        self.check(protocol, (batch, in_flight), (topics, tails))?;
        let until_delivered = self.workload == Workload::Tail;
        let of_each = |all: usize| all.div_ceil(self.processes);
        let clients = of_each(connections) * self.processes;
        let rate = self.pace().map(|rate| rate / clients as f64).filter(|rate| *rate > 0.0);
        let producers = Producers {
            connections: of_each(connections),
            protocol: defaults.protocol,
            batch,
            in_flight: if rate.is_some() { in_flight.max(100_000) } else { in_flight },
            rate,
            until_delivered,
            by_lot: self.workload == Workload::ManyTopics,
            messages_max: None,
        };
        let pollers = of_each(self.pollers.unwrap_or(defaults.pollers));
        let plan = Plan {
            address,
            topics: Vec::new(),
            payload_bytes: self.payload_bytes,
            producers,
            tails: of_each(tails),
            pollers: Pollers { connections: pollers, form: self.form, page: self.page },
            warm_up_ms: (self.warm_up_seconds * 1_000.0) as u64,
            measured_ms: (self.seconds * 1_000.0) as u64,
            seed: 0,
            process: 0,
        };
        Ok(Measurement {
            plan,
            processes: self.processes,
            topics,
            ack_level: self.ack_level.clone(),
            preloaded: self.messages.unwrap_or(defaults.messages),
            pid,
            keep,
            bare: false,
        })
    }

    /// What does not go together.
    fn check(
        &self,
        protocol: Protocol,
        (batch, in_flight): (usize, usize),
        (topics, tails): (usize, usize),
    ) -> Result<(), Usage> {
        let is_tail = self.workload == Workload::Tail;
        let wrong = [
            (
                self.payload_bytes < PAYLOAD_BYTES_MIN,
                "--payload-bytes must be 64 or more, for what payloads say of themselves",
            ),
            (
                protocol.is_one_by_one() && batch > 1,
                "a frame or request of this protocol is one message: --batch must be 1",
            ),
            (
                self.workload == Workload::ManyTopics && !protocol.is_http() && self.rate.is_some(),
                "`many-topics` over sockets has no --rate",
            ),
            (is_tail && protocol.is_http(), "`tail` publishes over a socket"),
            (in_flight < batch, "--in-flight must be --batch or more"),
            (
                is_tail && (tails == 0 || self.processes > 1 || topics > 1),
                "`tail` has one process, one topic, and tails",
            ),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, why)) => Err(Usage(why.to_owned())),
            None => Ok(()),
        }
    }
}
