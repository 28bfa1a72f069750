//! `[server]` and `[limits]` of broker.toml.

use std::net::SocketAddr;

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
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7077)),
            workers: 0,
            drain_timeout_ms: 10_000,
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
    /// Bytes of messages that all clients together may have under way to the journal.
    pub in_flight_bytes_max: usize,
    /// Messages one producer socket may have unacknowledged before it is not read any more.
    pub credit_messages: usize,
    /// Bytes one producer socket may have unacknowledged before it is not read any more.
    pub credit_bytes: usize,
    /// Most topics.
    pub topics_max: usize,
    /// Most connections on one worker thread.
    pub connections_max: usize,
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
            in_flight_bytes_max: 64 * MIB,
            credit_messages: 4_096,
            credit_bytes: 4 * MIB,
            topics_max: 10_000,
            connections_max: 25_000,
            tail_cache_bytes_max: 64 * MIB,
        }
    }
}

impl LimitSettings {
    /// Checks the limits against each other.
    ///
    /// # Errors
    /// The key, and what it must be.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("message_bytes_max", self.message_bytes_max),
            ("fragments_max", self.fragments_max),
            ("batch_messages_max", self.batch_messages_max),
            ("credit_messages", self.credit_messages),
            ("credit_bytes", self.credit_bytes),
            ("topics_max", self.topics_max),
            ("connections_max", self.connections_max),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err((key, "must be at least 1".into()));
            }
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
        // A block is as long as the frame or body it came in, and its length stands in 32 bits.
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
