//! A tail that checks everything it receives.
//!
//! Many tails of a topic receive the same bytes. They are decoded and checked once; a frame with
//! the length and the 128-bit hash of a checked one is taken as that frame. So a thousand tails
//! cost the measured machine little more than the bytes themselves.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::Shared;
use super::page::{Dues, Received, check_all};
use super::producer::{Socket, open_socket};
use crate::cli::bench::payload::now_ns;
use crate::cli::bench::plan::Plan;

/// Frames remembered.
const SEEN_MAX: usize = 64;

thread_local! {
    static SEEN: RefCell<VecDeque<Rc<Seen>>> = RefCell::default();
}

/// A frame that was checked.
struct Seen {
    topic: usize,
    bytes: usize,
    hash: u128,
    from: u64,
    to: u64,
    dues: Dues,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    messages: Option<Vec<Received<'a>>>,
    gap: Option<serde_json::Value>,
    error: Option<serde_json::Value>,
}

/// See the module.
pub(super) struct Tail {
    n: usize,
    socket: Socket,
    topic: usize,
    next: u64,
}

impl Tail {
    pub(super) async fn open(plan: &Plan, n: usize) -> anyhow::Result<Self> {
        let topic = plan.topic_of(n, plan.tails);
        let path = format!("/v1/topics/{}/tail?from=earliest", plan.topics[topic]);
        let socket = open_socket(&plan.address, &path, None).await?;
        Ok(Self { n, socket, topic, next: 0 })
    }

    /// Receives everything until the topic's head is known and reached.
    pub(super) async fn run(mut self, shared: Rc<Shared>) -> anyhow::Result<()> {
        loop {
            let known = shared.heads_known.notified();
            if let Some(heads) = &*shared.heads.borrow() {
                ensure!(self.next <= heads[self.topic], "more was delivered than is there");
                if self.next == heads[self.topic] {
                    return Ok(());
                }
            }
            tokio::select! {
                frame = self.socket.next() => {
                    let frame = frame.context("the broker closed the socket")??;
                    match frame {
                        Message::Text(text) => self.take(&text, &shared)?,
                        Message::Close(close) => bail!("the broker closed a tail: {close:?}"),
                        _ => {}
                    }
                }
                () = known => {}
            }
        }
    }

    fn take(&mut self, text: &str, shared: &Shared) -> anyhow::Result<()> {
        let now_ns = now_ns();
        let seen = self.checked(text, shared)?;
        ensure!(seen.from == self.next, "offset {} came after {}", seen.from, self.next);
        self.next = seen.to;
        shared.tails.borrow_mut()[self.n] = seen.to;
        let mut tally = shared.delivered.borrow_mut();
        for (due_ns, count) in &seen.dues {
            let bytes = *count as usize * shared.plan.payload_bytes;
            tally.note_many(*count, *due_ns, now_ns, bytes);
        }
        shared.delivered_total.set(shared.delivered_total.get() + (seen.to - seen.from));
        shared.delivery.notify_waiters();
        Ok(())
    }

    fn checked(&self, text: &str, shared: &Shared) -> anyhow::Result<Rc<Seen>> {
        let (bytes, hash) = (text.len(), xxh3_128(text.as_bytes()));
        let known = SEEN.with_borrow(|seen| {
            let mut seen = seen.iter().rev();
            let same =
                |one: &&Rc<Seen>| one.hash == hash && one.bytes == bytes && one.topic == self.topic;
            seen.find(same).cloned()
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let frame: Frame<'_> = serde_json::from_str(text).context("a tail's frame")?;
        let other = frame.gap.or(frame.error);
        ensure!(other.is_none(), "a tail got {}", other.unwrap_or_default());
        let messages = frame.messages.context("a tail's frame without messages")?;
        let (to, dues) = check_all(messages, self.next, &shared.plan)?;
        let seen = Rc::new(Seen { topic: self.topic, bytes, hash, from: self.next, to, dues });
        SEEN.with_borrow_mut(|all| {
            all.push_back(seen.clone());
            if all.len() > SEEN_MAX {
                all.pop_front();
            }
        });
        Ok(seen)
    }
}
