//! `GET /metrics` (Prometheus' text format) and `GET /v1/status`: the broker's state, for machines
//! and for people.

use std::fmt::Write;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;
use serde_json::json;

use super::parameters::NoQuery;
use crate::actors::directory::{TopicHandle, TopicState};
use crate::edge::Edge;
use crate::edge::readers::Lag;
use crate::metrics;
use crate::queue::TopicExtent;

/// Counters, then gauges.
pub(super) async fn metrics(edge: Data<Edge>, _: NoQuery) -> HttpResponse {
    let mut out = metrics::render();
    let now = Now::of(&edge);
    for (name, help, value) in [
        ("weir_up_seconds", "Time since the start", now.up_ms / 1_000),
        ("weir_ready", "New work is accepted", u64::from(now.state == "running")),
        ("weir_topics", "Topics that exist", now.topics),
        ("weir_topics_quarantined", "Topics that are quarantined", now.quarantined.len() as u64),
        ("weir_connections", "Connections that are open", now.connections),
        ("weir_sessions", "Sockets and event streams that are open", now.sessions),
        (
            "weir_in_flight_bytes",
            "Bytes being received and in flight to the journal",
            now.in_flight_bytes,
        ),
        ("weir_outgoing_bytes", "Bytes in flight to readers", now.outgoing_bytes),
        ("weir_readers", "Tails and event streams", now.lag.readers),
        ("weir_reader_lag_messages", "Messages not yet sent to readers", now.lag.messages),
        ("weir_reader_lag_messages_max", "The same of the last reader", now.lag.messages_max),
    ] {
        gauge(&mut out, name, help, [(String::new(), value)]);
    }
    let topics = edge.topics.directory().topics();
    let topics = &topics[..topics.len().min(edge.limits.metrics_topics_max)];
    let extents: Vec<_> =
        topics.iter().filter_map(|topic| Some((topic, edge.queue.extent(topic.id())?))).collect();
    let mut of_each = |name, help, value: fn(&TopicHandle, &TopicExtent) -> u64| {
        // Names of topics hold nothing that would have to be escaped.
        let series = extents.iter().map(|(topic, extent)| {
            (format!("{{topic=\"{}\"}}", topic.name()), value(topic, extent))
        });
        gauge(&mut out, name, help, series);
    };
    of_each("weir_topic_head", "Offset of the next message", |_, extent| extent.head);
    of_each("weir_topic_messages", "Messages kept", |_, extent| extent.messages);
    of_each("weir_topic_bytes", "Bytes kept", |_, extent| extent.bytes);
    of_each("weir_topic_restarts", "Restarts of its actors", |topic, _| topic.restarts());
    let help = "Acknowledged messages a power loss may take, in milliseconds";
    of_each("weir_topic_loss_bound_ms", help, |topic, _| topic.settings().loss_bound_ms());
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4")).body(out)
}

fn gauge(
    out: &mut String,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (String, u64)>,
) {
    // Writing to a String does not fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (labels, value) in series {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

/// A summary, as JSON.
pub(super) async fn status(edge: Data<Edge>, _: NoQuery) -> HttpResponse {
    let now = Now::of(&edge);
    HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": now.state,
        "uptime_ms": now.up_ms,
        "topics": now.topics,
        "quarantined": now.quarantined,
        "restarts": now.restarts,
        "connections": now.connections,
        "sessions": now.sessions,
        "in_flight_bytes": now.in_flight_bytes,
        "in_flight_bytes_max": edge.limits.in_flight_bytes_max,
        "outgoing_bytes": now.outgoing_bytes,
        "outgoing_bytes_max": edge.limits.outgoing_bytes_max,
        "readers": now.lag.readers,
        "reader_lag_messages": now.lag.messages,
    }))
}

/// The gauges at one moment.
struct Now {
    state: &'static str,
    up_ms: u64,
    topics: u64,
    quarantined: Vec<String>,
    restarts: u64,
    connections: u64,
    sessions: u64,
    in_flight_bytes: u64,
    outgoing_bytes: u64,
    lag: Lag,
}

impl Now {
    fn of(edge: &Edge) -> Self {
        let topics = edge.topics.directory().topics();
        let quarantined =
            topics.iter().filter(|topic| edge.topic_state(topic) == TopicState::Quarantined);
        Self {
            state: match edge.not_ready() {
                Some(reason) => reason,
                None => "running",
            },
            up_ms: edge.clock.uptime().as_millis() as u64,
            quarantined: quarantined.map(|topic| topic.name().to_string()).collect(),
            restarts: topics.iter().map(|topic| topic.restarts()).sum(),
            topics: topics.len() as u64,
            connections: edge.connections.count() as u64,
            sessions: edge.sessions.receiver_count() as u64,
            in_flight_bytes: (edge.admission.admitted() + edge.unfinished.admitted()) as u64,
            outgoing_bytes: edge.outgoing.held_bytes() as u64,
            lag: edge.readers.lag(|topic| edge.queue.extent(topic).map(|extent| extent.head)),
        }
    }
}
