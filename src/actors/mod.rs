//! The moving parts: supervised actors, and the directory in which they find each other.
//!
//! A message passes [`producer`] → [`ingest`] → the journal's writer; a fact about it comes back
//! through [`topic`] to the readers. Each actor is a thin shell; it can panic at any step and is
//! back within a second, because
//! - what it holds is either in the journal or returned to its sender (a dropped oneshot means
//!   "never handed over"),
//! - the [`supervisor`] restarts it from a factory that reads its state from the journal, behind a
//!   fence at the writer, before its name is announced again.
//!
//! The [`topic_service`] finds, makes, changes and deletes topics.
//!
//! Architecture invariant: addresses point downstream only, and only the topic service
//! writes the directory. No actor here knows HTTP, a socket or fjall.

pub mod directory;
pub mod ingest;
pub mod producer;
pub mod supervisor;
pub mod topic;
pub mod topic_service;
