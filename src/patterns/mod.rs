//! What a client can ask for, free of how it asks: the interaction patterns.
//!
//! - [`request_acknowledge`]: a message is taken, made safe, and acknowledged.
//! - [`publish_subscribe`]: what was taken is read, by pull (a poll) or by push (a tail).
//!
//! A one-way message takes the path of the first and nobody waits for its answer. The patterns
//! know actors and the queue; they don't know HTTP, JSON or sockets.

pub mod publish_subscribe;
pub mod request_acknowledge;
