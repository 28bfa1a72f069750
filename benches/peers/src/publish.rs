//! The closed loop of publishers: every connection keeps its window of messages in flight, and
//! sends as many new ones as were acknowledged. One thread drives all of them.

use std::collections::VecDeque;
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll};

use crate::link::{Link, READ_BYTES};
use crate::payload::{Body, Payloads};
use crate::phases::{Measured, Phases};

/// What a client made of what it was given.
#[derive(Default)]
pub struct Taken {
    /// Bytes.
    pub used: usize,
    /// Messages acknowledged or delivered, in the order in which they were sent.
    pub messages: u64,
}

/// A protocol's way to publish and to hear acknowledgements.
pub trait Publisher {
    /// Appends the next message.
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]);

    /// Takes the acknowledgements that have come whole, each held against the message that is
    /// next; anything else is an error. What must be answered goes to `out`.
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken>;
}

/// A connection that is ready to publish.
pub type Ready = (TcpStream, Box<dyn Publisher>);

struct Lane {
    link: Link,
    publisher: Box<dyn Publisher>,
    payloads: Payloads,
    sent: u64,
    /// When each message in flight was written.
    in_flight: VecDeque<u64>,
}

impl Lane {
    fn send(&mut self, count: usize, now: u64) {
        for _ in 0..count {
            self.publisher.publish(&mut self.link.out, self.payloads.of(self.sent));
            self.sent += 1;
            self.in_flight.push_back(now);
        }
    }

    /// How many messages came back.
    fn receive(&mut self, buffer: &mut [u8], phases: &mut Phases) -> Result<usize> {
        let mut count = 0;
        let publisher = &mut self.publisher;
        self.link.receive(buffer, |input, out| {
            let taken = publisher.receive(input, out)?;
            count += taken.messages as usize;
            Ok(taken.used)
        })?;
        ensure!(count <= self.in_flight.len(), "more acknowledgements than messages");
        let now = phases.now();
        for sent in self.in_flight.drain(..count) {
            phases.took(now - sent);
        }
        if count > 0 {
            phases.came(count as u64, count as u64);
        }
        Ok(count)
    }
}

/// Runs until the time is over and all that was sent is acknowledged; also says how many messages
/// that were in all.
pub fn run(
    connections: Vec<Ready>,
    window: usize,
    body: Body,
    mut phases: Phases,
) -> Result<(Measured, u64)> {
    let mut poll = Poll::new()?;
    let mut lanes = Vec::new();
    for (n, (stream, publisher)) in connections.into_iter().enumerate() {
        lanes.push(Lane {
            link: Link::new(stream, poll.registry(), n)?,
            publisher,
            payloads: Payloads::new(body, n as u64),
            sent: 0,
            in_flight: VecDeque::new(),
        });
    }
    for lane in &mut lanes {
        lane.send(window, phases.now());
        lane.link.flush()?;
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    while !phases.over() || lanes.iter().any(|lane| !lane.in_flight.is_empty()) {
        crate::wait(&mut poll, &mut events)?;
        let in_flight = || format!("{} in flight on each of {} sockets", window, lanes.len());
        phases.tick().with_context(in_flight)?;
        for event in &events {
            let lane = &mut lanes[event.token().0];
            if event.is_readable() {
                let count = lane.receive(&mut buffer, &mut phases)?;
                if !phases.over() {
                    lane.send(count, phases.now());
                }
            }
            lane.link.flush()?;
        }
    }
    let sent = lanes.iter().map(|lane| lane.sent).sum();
    Ok((phases.end()?, sent))
}
