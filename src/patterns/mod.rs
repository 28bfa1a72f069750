//! What a client can ask for, free of how it asks: the interaction patterns.
//!
//! - [`request_acknowledge`]: a message is taken, made safe, and acknowledged; its receipt tells
//!   later what became of it.
//! - [`one_way`]: a message is taken, and that is all.
//! - [`publish_subscribe`]: what was taken is read, by pull (a poll) or by push (a tail).
//!
//! The patterns know actors and the queue; they don't know HTTP, JSON or sockets.

pub mod one_way;
pub mod publish_subscribe;
pub mod request_acknowledge;
