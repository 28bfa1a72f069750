//! weir's tails: frames of many messages each, in JSON.
//!
//! A thousand tails get the same frames. Decoding each of them would measure a JSON decoder, so a
//! frame is decoded the first time it comes, every message of it held against what was published,
//! and known by the hash of its bytes after that.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::fanout::{Published, Subscriber};
use crate::publish::Taken;
use crate::wire::lossy;
use crate::wire::websocket::{self, PING, PONG, TEXT};

/// Frames that are known; they are few at a time, and forgotten all at once.
const KNOWN_MAX: usize = 16_384;

/// What stands in frames that came before: first offset and number of messages, by hash.
#[derive(Default)]
pub struct Known(HashMap<u64, (u64, u64)>);

impl Known {
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    offset: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// One tail. The topic is new, so that a message's number is its offset.
pub struct Tail {
    next: u64,
    mask: [u8; 4],
    known: Rc<RefCell<Known>>,
}

impl Tail {
    pub fn new(n: usize, known: Rc<RefCell<Known>>) -> Self {
        Self { next: 0, mask: (n as u32).to_ne_bytes(), known }
    }
}

/// First offset and number of messages of a frame, each of which is what was published.
fn decode(text: &[u8], published: &Published) -> Result<(u64, u64)> {
    let frame: Frame =
        serde_json::from_slice(text).with_context(|| format!("not messages: {}", lossy(text)))?;
    let first = frame.messages.first().context("a frame without messages")?.offset;
    for (message, offset) in frame.messages.iter().zip(first..) {
        ensure!(message.offset == offset, "offset {} where {offset} is due", message.offset);
        published.check(offset, message.data.get().as_bytes())?;
    }
    Ok((first, frame.messages.len() as u64))
}

impl Subscriber for Tail {
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, published: &Published) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((frame, used)) = websocket::received(&input[taken.used..])? {
            match frame.opcode {
                TEXT => {
                    let known = &mut self.known.borrow_mut().0;
                    if known.len() > KNOWN_MAX {
                        known.clear();
                    }
                    let hash = xxh3_64(frame.payload);
                    let (first, count) = match known.get(&hash) {
                        Some(known) => *known,
                        None => {
                            let decoded = decode(frame.payload, published)?;
                            known.insert(hash, decoded);
                            decoded
                        }
                    };
                    ensure!(first == self.next, "offset {first} where {} is due", self.next);
                    self.next += count;
                    taken.messages += count;
                }
                PING => websocket::frame(out, PONG, self.mask, frame.payload),
                other => bail!("a frame with opcode {other}"),
            }
            taken.used += used;
        }
        Ok(taken)
    }
}
