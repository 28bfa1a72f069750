//! weir (map to come)
pub mod actors;
pub mod clock;
pub mod faults;
pub mod journal;
pub mod model;
pub mod queue;
pub mod patterns;
pub mod edge;
pub mod broker;
pub mod cli;
pub mod config;
