//! What is measured: every load with the systems that can do it.

use crate::systems::System;
use crate::systems::jetstream::JetStream;
use crate::systems::mosquitto::Mosquitto;
use crate::systems::nats_core::NatsCore;
use crate::systems::nchan::Nchan;
use crate::systems::redis::Redis;
use crate::systems::weir::{Way, Weir};

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Every connection keeps `window` messages in flight.
    Publish { connections: usize, window: usize },
    /// One connection publishes to many, `outstanding` messages at a time.
    FanOut { subscribers: usize, outstanding: usize },
}

/// A row of the table.
pub struct Row {
    /// How `--only` names it: load and system.
    pub key: String,
    pub workload: String,
    pub load: Load,
    pub system: Box<dyn System>,
}

const PUBLISH: [(usize, usize); 3] = [(8, 8), (8, 125), (50, 64)];
const SUBSCRIBERS: usize = 1_000;
const FAN_OUT: [(&str, usize); 2] = [("burst", 64), ("single", 1)];
const HTTP: usize = 64;

/// All rows, in the order of the table.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (connections, window) in PUBLISH {
        let in_flight = connections * window;
        rows.extend(publishers().into_iter().map(|system| Row {
            key: format!("publish-{in_flight}/{}", system.key()),
            workload: format!("publish, {in_flight} in flight ({connections} x {window})"),
            load: Load::Publish { connections, window },
            system,
        }));
    }
    for (name, outstanding) in FAN_OUT {
        rows.extend(broadcasters().into_iter().map(|system| Row {
            key: format!("fanout-{name}/{}", system.key()),
            workload: format!("deliveries, 1 to {SUBSCRIBERS}, {outstanding} outstanding"),
            load: Load::FanOut { subscribers: SUBSCRIBERS, outstanding },
            system,
        }));
    }
    rows.extend(posts().into_iter().map(|system| Row {
        key: format!("http-{HTTP}/{}", system.key()),
        workload: format!("publish over HTTP, {HTTP} connections"),
        load: Load::Publish { connections: HTTP, window: 1 },
        system,
    }));
    rows
}

fn publishers() -> Vec<Box<dyn System>> {
    vec![
        Box::new(Redis { fsync: "always" }),
        Box::new(JetStream { sync_always: true }),
        Box::new(Weir::new(Way::Raw, "sync")),
        Box::new(Weir::new(Way::Json, "sync")),
        Box::new(Redis { fsync: "everysec" }),
        Box::new(JetStream { sync_always: false }),
        Box::new(Mosquitto { qos: 1 }),
        Box::new(Weir::new(Way::Raw, "os")),
        Box::new(Weir::new(Way::Json, "os")),
    ]
}

fn broadcasters() -> Vec<Box<dyn System>> {
    vec![
        Box::new(NatsCore),
        // A channel belongs to one worker, which hands its messages to the others in batches.
        Box::new(Nchan { socket: true, workers: 2 }),
        Box::new(Mosquitto { qos: 0 }),
        Box::new(Weir::new(Way::Tail, "sync")),
        Box::new(Weir::new(Way::Tail, "os")),
    ]
}

fn posts() -> Vec<Box<dyn System>> {
    vec![
        // With a second one requests are slower.
        Box::new(Nchan { socket: false, workers: 1 }),
        Box::new(Weir::new(Way::Http, "sync")),
        Box::new(Weir::new(Way::Http, "os")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_one_key() {
        let rows = rows();
        let keys: std::collections::HashSet<_> = rows.iter().map(|row| &row.key).collect();
        assert_eq!(keys.len(), rows.len());
    }
}
