//! Producer frames, outgoing and incoming.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::cli::bench::payload::Payloads;
use crate::cli::bench::plan::Protocol;

/// Most that a message takes beside its payload.
const AROUND_BYTES: usize = 48;

/// Encodes a connection's frames; ids count from 1.
pub(super) struct Frames {
    payloads: Payloads,
    protocol: Protocol,
    payload_bytes: usize,
    id: u64,
}

impl Frames {
    pub(super) fn new(payloads: Payloads, protocol: Protocol, payload_bytes: usize) -> Self {
        Self { payloads, protocol, payload_bytes, id: 0 }
    }

    /// A frame of messages that were due at these times.
    pub(super) fn next(&mut self, due_ns: &[u64]) -> anyhow::Result<Message> {
        let mut out = Vec::with_capacity(due_ns.len() * (self.payload_bytes + AROUND_BYTES));
        Ok(match self.protocol {
            Protocol::Raw => {
                let [due_ns] = due_ns else { bail!("a raw frame is one message") };
                self.payloads.write(&mut out, *due_ns);
                Message::Binary(out.into())
            }
            Protocol::Json => {
                let many = due_ns.len() > 1;
                for (n, due_ns) in due_ns.iter().enumerate() {
                    out.extend_from_slice(match (many, n) {
                        (true, 0) => b"[{\"id\":",
                        (true, _) => b",{\"id\":",
                        (false, _) => b"{\"id\":",
                    });
                    self.id += 1;
                    write_number(&mut out, self.id);
                    out.extend_from_slice(b",\"data\":\"");
                    self.payloads.write(&mut out, *due_ns);
                    out.extend_from_slice(b"\"}");
                }
                if many {
                    out.push(b']');
                }
                Message::Text(Utf8Bytes::try_from(Bytes::from(out))?)
            }
            Protocol::Msgpack => {
                if due_ns.len() > 1 {
                    rmp::encode::write_array_len(&mut out, due_ns.len() as u32)?;
                }
                for due_ns in due_ns {
                    self.id += 1;
                    rmp::encode::write_map_len(&mut out, 2)?;
                    rmp::encode::write_str(&mut out, "id")?;
                    rmp::encode::write_uint(&mut out, self.id)?;
                    rmp::encode::write_str(&mut out, "data")?;
                    rmp::encode::write_bin_len(&mut out, self.payload_bytes as u32)?;
                    self.payloads.write(&mut out, *due_ns);
                }
                Message::Binary(out.into())
            }
            Protocol::Http | Protocol::HttpBatch => bail!("no frames over HTTP"),
        })
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    use std::io::Write;
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

/// The broker's frame to a producer that asked for ranges.
#[derive(Deserialize)]
struct Answer {
    acked: Option<Acked>,
    welcome: Option<IgnoredAny>,
    error: Option<serde_json::Value>,
    acks: Option<serde_json::Value>,
}

/// A range of ids.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Acked {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Parses an answer; `None` if the frame has no content.
///
/// # Errors
/// The broker refused a message, or sent an invalid frame.
pub(super) fn read_answer(frame: &Message) -> anyhow::Result<Option<Acked>> {
    let answer: Answer = match frame {
        Message::Text(text) => serde_json::from_str(text).context("an answer")?,
        Message::Binary(bytes) => rmp_serde::from_slice(bytes).context("an answer")?,
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(None),
        Message::Close(close) => bail!("the broker closed the socket: {close:?}"),
    };
    let refusal = answer.error.or(answer.acks);
    ensure!(refusal.is_none(), "the broker refused: {}", refusal.unwrap_or_default());
    ensure!(answer.acked.is_some() || answer.welcome.is_some(), "an answer that says nothing");
    Ok(answer.acked)
}
