//! weir from outside: real processes, real sockets, a real directory.
//!
//! `support` starts brokers, talks to them and checks histories; every other module is about one
//! promise. Tests wait for conditions, never for time to pass.

// A test that meets what it does not expect ends there and then.
#![allow(clippy::unwrap_used)]

mod support;

mod actor_deaths;
mod architecture;
mod bounds;
mod command_line;
mod crashes;
mod damage;
mod deletion;
mod error_table;
mod events;
mod exactness;
mod fixtures;
mod forms;
mod headers;
mod hostile_http;
mod hostile_sockets;
mod journal_model;
mod lives;
mod log_readers;
mod long_polls;
mod one_way;
mod paused;
mod planned_faults;
mod publishing;
mod reading;
mod readme;
mod receipts;
mod resending;
mod retention;
mod rfc6455;
mod running_out;
mod seen;
mod short;
mod signals;
mod slow_readers;
mod stopping;
mod topics;
mod transfer;
mod units;
