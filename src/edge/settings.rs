//! `[server]` and `[limits]` of broker.toml.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use serde::Deserialize;

/// Where the broker listens and how it stops.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that serve connections; 0 is one a core.
    pub workers: usize,
    /// Longest time a stop waits for sockets to see their last acknowledgement.
    pub drain_timeout_ms: u64,
    /// Origins whose pages may use the broker, say `https://app.example`; its own always may.
    #[serde(deserialize_with = "super::allowed::origins")]
    pub allowed_origins: Vec<String>,
    /// Names by which the broker may be called in `Host`; addresses always may be used.
    #[serde(deserialize_with = "super::allowed::hosts")]
    pub allowed_hosts: Vec<String>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7077)),
            workers: 0,
            drain_timeout_ms: 10_000,
            allowed_origins: Vec::new(),
            allowed_hosts: vec!["localhost".to_owned()],
        }
    }
}

/// What one client, and all together, may use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Largest payload any topic may allow, in bytes.
    pub message_bytes_max: usize,
    /// Largest WebSocket frame, and largest message put together from fragments, in bytes.
    pub frame_bytes_max: usize,
    /// Most fragments of one WebSocket message.
    pub fragments_max: usize,
    /// Most messages in one batch body, and in one frame of a producer socket.
    pub batch_messages_max: usize,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Bytes of messages that all clients together may have in flight to the journal.
    pub in_flight_bytes_max: usize,
    /// Bytes of answers that all readers together may have in flight.
    pub outgoing_bytes_max: usize,
    /// What a reader has to take a second, over `stall_timeout_ms`, not to be cut off.
    pub reader_bytes_per_s_min: u64,
    /// How long a request waits for room among them before it is refused.
    pub room_wait_ms: u64,
    /// Messages one producer socket may have unacknowledged before reading it stops.
    pub credit_messages: usize,
    /// Bytes one producer socket may have unacknowledged before reading it stops.
    pub credit_bytes: usize,
    /// Most topics.
    pub topics_max: usize,
    /// Most connections.
    pub connections_max: usize,
    /// Most connections from one address (IPv6: from one /64).
    pub connections_per_address_max: usize,
    /// Largest request head: path, query and headers, in bytes.
    pub headers_bytes_max: usize,
    /// Longest time a request's head may take to come.
    pub header_timeout_ms: u64,
    /// Longest time a request's body may take to come.
    pub body_timeout_ms: u64,
    /// How long a connection may stay open between two requests.
    pub idle_timeout_ms: u64,
    /// How long a client may leave pending data unread before it is disconnected.
    pub stall_timeout_ms: u64,
    /// How often a WebSocket client is pinged.
    pub ping_interval_ms: u64,
    /// How long a WebSocket client may send nothing at all, pongs included.
    pub silence_timeout_ms: u64,
    /// How many receipts that don't exist one address may ask for in a minute.
    pub receipt_misses_per_minute: u32,
    /// Most topics that have series of their own in the metrics.
    pub metrics_topics_max: usize,
    /// Memory for the newest messages of all topics, shared by every reader, in bytes.
    pub tail_cache_bytes_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            message_bytes_max: MIB,
            frame_bytes_max: 4 * MIB,
            fragments_max: 1_024,
            batch_messages_max: 10_000,
            body_bytes_max: 16 * MIB,
            in_flight_bytes_max: 32 * MIB,
            outgoing_bytes_max: 32 * MIB,
            reader_bytes_per_s_min: 1_024,
            room_wait_ms: 1_000,
            credit_messages: 4_096,
            credit_bytes: 4 * MIB,
            topics_max: 10_000,
            connections_max: 25_000,
            connections_per_address_max: 10_000,
            headers_bytes_max: 32 * 1024,
            header_timeout_ms: 5_000,
            body_timeout_ms: 30_000,
            idle_timeout_ms: 60_000,
            stall_timeout_ms: 60_000,
            ping_interval_ms: 25_000,
            silence_timeout_ms: 60_000,
            receipt_misses_per_minute: 60,
            metrics_topics_max: 1_000,
            tail_cache_bytes_max: 32 * MIB,
        }
    }
}

/// Bounds of every timeout: a tenth of a second to a day.
const TIMEOUT_MS: RangeInclusive<u64> = 100..=24 * 60 * 60 * 1_000;

/// With less, one answer would use all the room.
const OUTGOING_BYTES_MIN: usize = 1024 * 1024;

/// actix-http reads no longer head than this, whatever is set (`MAX_BUFFER_SIZE` of its h1).
const HEADERS_BYTES_CEILING: usize = 128 * 1024;

impl LimitSettings {
    /// Checks the limits against each other.
    ///
    /// # Errors
    /// The key, and its bounds.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("message_bytes_max", self.message_bytes_max),
            ("fragments_max", self.fragments_max),
            ("batch_messages_max", self.batch_messages_max),
            ("credit_messages", self.credit_messages),
            ("credit_bytes", self.credit_bytes),
            ("topics_max", self.topics_max),
            ("connections_max", self.connections_max),
            ("connections_per_address_max", self.connections_per_address_max),
            ("headers_bytes_max", self.headers_bytes_max),
            ("receipt_misses_per_minute", self.receipt_misses_per_minute as usize),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err((key, "must be at least 1".into()));
            }
        }
        self.validate_times()?;
        self.validate_sizes()
    }

    fn validate_times(&self) -> Result<(), (&'static str, String)> {
        for (key, ms) in [
            ("room_wait_ms", self.room_wait_ms),
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("stall_timeout_ms", self.stall_timeout_ms),
            ("ping_interval_ms", self.ping_interval_ms),
            ("silence_timeout_ms", self.silence_timeout_ms),
        ] {
            if !TIMEOUT_MS.contains(&ms) {
                let (low, high) = TIMEOUT_MS.into_inner();
                return Err((key, format!("may be {low} to {high}")));
            }
        }
        if self.silence_timeout_ms <= self.ping_interval_ms {
            return Err(("silence_timeout_ms", "must be longer than `ping_interval_ms`".into()));
        }
        Ok(())
    }

    fn validate_sizes(&self) -> Result<(), (&'static str, String)> {
        if self.outgoing_bytes_max < OUTGOING_BYTES_MIN {
            return Err(("outgoing_bytes_max", format!("must be at least {OUTGOING_BYTES_MIN}")));
        }
        if self.headers_bytes_max > HEADERS_BYTES_CEILING {
            let why = format!("may be at most {HEADERS_BYTES_CEILING}, where the parser gives up");
            return Err(("headers_bytes_max", why));
        }
        let (low, high) = crate::model::TopicSettings::MESSAGE_BYTES_MAX.into_inner();
        if !(low..=high).contains(&self.message_bytes_max) {
            return Err(("message_bytes_max", format!("may be {low} to {high}")));
        }
        if self.frame_bytes_max < self.message_bytes_max {
            return Err(("frame_bytes_max", "must be at least `message_bytes_max`".into()));
        }
        if self.body_bytes_max < self.message_bytes_max {
            return Err(("body_bytes_max", "must be at least `message_bytes_max`".into()));
        }
        let ceiling = super::wire::BATCH_MESSAGES_CEILING;
        if self.batch_messages_max > ceiling {
            return Err(("batch_messages_max", format!("may be at most {ceiling}")));
        }
        // A block is as long as the frame or body it came in, and its length is stored in 32 bits.
        const LENGTH_MAX: usize = 1024 * 1024 * 1024;
        for (key, value) in
            [("frame_bytes_max", self.frame_bytes_max), ("body_bytes_max", self.body_bytes_max)]
        {
            if value > LENGTH_MAX {
                return Err((key, format!("may be at most {LENGTH_MAX} (1 GiB)")));
            }
        }
        let largest = self.body_bytes_max.max(self.frame_bytes_max);
        if self.in_flight_bytes_max < 2 * largest {
            let least =
                "must be at least twice the larger of `body_bytes_max` and `frame_bytes_max`";
            return Err(("in_flight_bytes_max", least.into()));
        }
        Ok(())
    }
}
