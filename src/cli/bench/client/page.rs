//! Messages as readers receive them, decoded and checked.

use std::borrow::Cow;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::cli::bench::payload;
use crate::cli::bench::plan::Plan;

/// A message, as far as it is checked.
#[derive(Deserialize)]
pub(super) struct Received<'a> {
    offset: u64,
    /// The string of a JSON page, the bytes of a MessagePack one.
    #[serde(borrow)]
    data: Option<&'a [u8]>,
    #[serde(borrow)]
    data_base64: Option<&'a str>,
}

impl Received<'_> {
    /// Checks it, and returns when it was due.
    ///
    /// # Errors
    /// It is not the message of this offset, or differs from what was sent.
    pub(super) fn check(&self, offset: u64, plan: &Plan) -> anyhow::Result<u64> {
        ensure!(self.offset == offset, "offset {} came where {offset} was due", self.offset);
        let payload = match (self.data, self.data_base64) {
            (Some(data), _) => Cow::Borrowed(data),
            (None, text) => Cow::Owned(STANDARD.decode(text.context("a message without data")?)?),
        };
        let text = plan.producers.protocol.is_text();
        payload::check(&payload, plan.payload_bytes, text)
            .with_context(|| format!("the message at offset {offset}"))
    }
}

/// Times when messages were due: each for N messages in a row.
pub(super) type Dues = Vec<(u64, u64)>;

/// Checks messages from `offset` on; returns when they were due.
pub(super) fn check_all<'a>(
    messages: impl IntoIterator<Item = Received<'a>>,
    mut offset: u64,
    plan: &Plan,
) -> anyhow::Result<(u64, Dues)> {
    let mut dues: Dues = Vec::new();
    for message in messages {
        let due_ns = message.check(offset, plan)?;
        offset += 1;
        match dues.last_mut() {
            Some((last, count)) if *last == due_ns => *count += 1,
            _ => dues.push((due_ns, 1)),
        }
    }
    Ok((offset, dues))
}
