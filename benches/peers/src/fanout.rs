//! One producer, many subscribers: a number of messages is outstanding at any time, each until the
//! last subscriber has it. One thread drives all of them.

use std::collections::VecDeque;
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll};

use crate::link::{Link, READ_BYTES};
use crate::payload::{BYTES, Body, Payloads};
use crate::phases::{Measured, Phases};
use crate::publish::{Publisher, Ready, Taken};

/// A protocol's way to hear what is published.
pub trait Subscriber {
    /// Takes the messages that have come whole. Each is held against what was published: they come
    /// in order, none is missing, none comes twice, none is altered; anything else is an error.
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, published: &Published) -> Result<Taken>;
}

/// A connection that is subscribed.
pub type Subscribed = (TcpStream, Box<dyn Subscriber>);

/// The messages that are outstanding.
pub struct Published {
    payloads: Payloads,
    /// Number of the oldest message that somebody has yet to get.
    first: u64,
    outstanding: VecDeque<Outstanding>,
}

struct Outstanding {
    payload: [u8; BYTES],
    at: u64,
    missing: usize,
}

impl Published {
    /// Holds a payload against the one of message `n`.
    pub fn check(&self, n: u64, payload: &[u8]) -> Result<()> {
        let place = n.checked_sub(self.first).context("a message that everybody has")?;
        let expected = self.outstanding.get(place as usize);
        ensure!(
            expected.is_some_and(|outstanding| outstanding.payload == payload),
            "not message {n}: {:?}",
            crate::wire::lossy(payload)
        );
        Ok(())
    }

    fn add(&mut self, at: u64, subscribers: usize) -> [u8; BYTES] {
        let payload = *self.payloads.of(self.next());
        self.outstanding.push_back(Outstanding { payload, at, missing: subscribers });
        payload
    }

    fn next(&self) -> u64 {
        self.first + self.outstanding.len() as u64
    }

    /// A subscriber has got the `count` messages from `n` on.
    fn delivered(&mut self, n: u64, count: u64, phases: &mut Phases) -> Result<()> {
        let (now, start) = (phases.now(), (n - self.first) as usize);
        for outstanding in self.outstanding.range_mut(start..start + count as usize) {
            phases.took(now - outstanding.at);
            outstanding.missing =
                outstanding.missing.checked_sub(1).context("more deliveries than subscribers")?;
        }
        let mut complete = 0;
        while self.outstanding.front().is_some_and(|oldest| oldest.missing == 0) {
            self.outstanding.pop_front();
            complete += 1;
        }
        self.first += complete;
        phases.came(count, complete);
        Ok(())
    }
}

struct Producer {
    link: Link,
    publisher: Box<dyn Publisher>,
    acknowledged: u64,
}

impl Producer {
    /// Publishes up to `outstanding` messages that are under way.
    fn send(
        &mut self,
        published: &mut Published,
        outstanding: usize,
        subscribers: usize,
        now: u64,
    ) -> Result<()> {
        while published.outstanding.len() < outstanding {
            let payload = published.add(now, subscribers);
            self.publisher.publish(&mut self.link.out, &payload);
        }
        self.link.flush()
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let (publisher, acknowledged) = (&mut self.publisher, &mut self.acknowledged);
        self.link.receive(buffer, |input, out| {
            let taken = publisher.receive(input, out)?;
            *acknowledged += taken.messages;
            Ok(taken.used)
        })
    }
}

struct Listener {
    link: Link,
    subscriber: Box<dyn Subscriber>,
    next: u64,
}

impl Listener {
    fn receive(
        &mut self,
        buffer: &mut [u8],
        published: &mut Published,
        phases: &mut Phases,
    ) -> Result<()> {
        let (subscriber, mut count) = (&mut self.subscriber, 0);
        self.link.receive(buffer, |input, out| {
            let taken = subscriber.receive(input, out, published)?;
            count += taken.messages;
            Ok(taken.used)
        })?;
        if count > 0 {
            published.delivered(self.next, count, phases)?;
            self.next += count;
        }
        Ok(())
    }
}

/// Runs until the time is over and everything was delivered to everybody; also says how many
/// messages were published in all. `acknowledges`: whether the producer hears of them.
pub fn run(
    producer: Ready,
    subscribers: Vec<Subscribed>,
    outstanding: usize,
    acknowledges: bool,
    body: Body,
    mut phases: Phases,
) -> Result<(Measured, u64)> {
    let mut poll = Poll::new()?;
    let last = subscribers.len();
    let mut listeners = Vec::new();
    for (n, (stream, subscriber)) in subscribers.into_iter().enumerate() {
        let link = Link::new(stream, poll.registry(), n)?;
        listeners.push(Listener { link, subscriber, next: 0 });
    }
    let (stream, publisher) = producer;
    let link = Link::new(stream, poll.registry(), last)?;
    let mut producer = Producer { link, publisher, acknowledged: 0 };
    let mut published =
        Published { payloads: Payloads::new(body, 0), first: 0, outstanding: VecDeque::new() };
    producer.send(&mut published, outstanding, last, phases.now())?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    while !phases.over()
        || !published.outstanding.is_empty()
        || acknowledges && producer.acknowledged < published.next()
    {
        crate::wait(&mut poll, &mut events)?;
        phases.tick().with_context(|| {
            let missing = published.outstanding.front().map_or(0, |oldest| oldest.missing);
            format!("message {} has not come to {missing} subscribers", published.first)
        })?;
        for event in &events {
            if event.token().0 == last {
                if event.is_readable() {
                    producer.receive(&mut buffer)?;
                }
                producer.link.flush()?;
                continue;
            }
            let listener = &mut listeners[event.token().0];
            if event.is_readable() {
                listener.receive(&mut buffer, &mut published, &mut phases)?;
            }
            listener.link.flush()?;
            if !phases.over() {
                producer.send(&mut published, outstanding, last, phases.now())?;
            }
        }
    }
    ensure!(
        listeners.iter().all(|listener| listener.next == published.next()),
        "not everybody got everything"
    );
    ensure!(
        !acknowledges || producer.acknowledged == published.next(),
        "more acknowledgements than messages"
    );
    Ok((phases.end()?, published.next()))
}
