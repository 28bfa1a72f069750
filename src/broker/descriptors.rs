//! Open files: how many the limit allows, and the share of each part.
//!
//! A store that can't open a file ends for good, so its share is set aside first and connections
//! get what is left; those beyond are refused with 429 like those beyond `limits.connections_max`.
//!
//! Invariant: what all parts may have open together is at most the limit.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Handles on each connection: the socket, and one to end its reading.
const FILES_PER_CONNECTION: usize = 2;
/// What the broker has open beside tables and connections, its threads' event queues included: 40
/// of them with two workers, and room for WAL files, tables that are being written, copies and
/// checks.
const OWN_FILES: usize = 80;
/// Table files that are kept open where the limit allows it.
const TABLES_MAX: usize = 512;
/// The share of the limit that tables and connections over the limit get where it is low.
const SHARE: usize = 8;
/// Connections over the limit that may be open, each until its client has received the refusal.
const SPARE_CONNECTIONS: usize = 512;

/// The share of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// Table files the store keeps open.
    pub(super) tables: usize,
    /// Connections that are served.
    pub(super) connections: usize,
    /// Connections beyond these, which are refused as too many.
    pub(super) spare: usize,
}

impl Descriptors {
    /// Raises the limit as far as possible, since many systems begin at 1,024, and divides it.
    ///
    /// # Errors
    /// The limit leaves nothing for connections.
    pub(super) fn provide(connections_max: usize) -> anyhow::Result<Self> {
        let wanted = Self::files(TABLES_MAX, connections_max + SPARE_CONNECTIONS);
        let allowed = raise(wanted as u64);
        let given = Self::divide(usize::try_from(allowed).unwrap_or(usize::MAX), connections_max);
        ensure!(
            given.connections > 0,
            "the limit on open files is {allowed} (ulimit -n); weir needs more than {OWN_FILES}"
        );
        if given.connections < connections_max {
            let connections = given.connections;
            tracing::warn!(
                connections,
                connections_max,
                open_files_max = allowed,
                "the limit on open files allows fewer connections than limits.connections_max"
            );
        }
        Ok(given)
    }

    fn files(tables: usize, connections: usize) -> usize {
        OWN_FILES + tables + FILES_PER_CONNECTION * connections
    }

    fn divide(allowed: usize, connections_max: usize) -> Self {
        let left = allowed.saturating_sub(OWN_FILES);
        let tables = TABLES_MAX.min(left / SHARE);
        let all = (left - tables) / FILES_PER_CONNECTION;
        let spare = SPARE_CONNECTIONS.min(all / SHARE);
        Self { tables, connections: connections_max.min(all - spare), spare }
    }
}

/// The limit on open files, raised to the wanted value if it is lower and may be raised.
fn raise(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit { current: Some(allowed), maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() { allowed } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_exceeded_and_nothing_is_withheld_where_there_is_enough() {
        for allowed in [100, 200, 256, 1_024, 4_096, 21_616, 1 << 20] {
            let given = Descriptors::divide(allowed, 10_000);
            let Descriptors { tables, connections, spare } = given;
            assert!(Descriptors::files(tables, connections + spare) <= allowed, "{given:?}");
            assert!(connections > 0 && connections <= 10_000);
        }
        let all = Descriptors { tables: 512, connections: 10_000, spare: 512 };
        assert_eq!(Descriptors::divide(Descriptors::files(512, 10_512), 10_000), all);
        assert_eq!(Descriptors::divide(50, 10_000).connections, 0);
    }
}
