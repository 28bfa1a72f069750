//! What a client can ask for, independent of the protocol: the interaction patterns.
//!
//! - [`request_acknowledge`]: a message is stored and acknowledged; its receipt gives its state
//!   later.
//! - [`one_way`]: a message is stored without an acknowledgement.
//! - [`publish_subscribe`]: stored messages are read, by pull (a poll) or by push (a tail).
//!
//! The patterns know actors and the queue; they don't know HTTP, JSON or sockets.

pub mod one_way;
pub mod publish_subscribe;
pub mod request_acknowledge;
