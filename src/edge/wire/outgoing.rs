//! Messages as clients receive them in JSON.
//!
//! A whole block is encoded once and the text kept with it, so a fan-out to a thousand tails
//! costs one encoding.

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::{PayloadKind, PlacedBlock, Receipt, ReceiptKey, Record, RecordError, Timestamp};

/// The messages of a whole block: JSON objects with commas between them.
///
/// # Errors
/// [`RecordError::Malformed`] when the block's bytes are no records.
pub fn block_json(block: &PlacedBlock, receipts: &ReceiptKey) -> Result<Arc<str>, RecordError> {
    if let Some(json) = block.json.get() {
        return Ok(json.clone());
    }
    let mut out = String::with_capacity(block.body.len() * 2);
    let published_at = block.published_at;
    for item in block.records() {
        let (offset, record) = item?;
        let receipt = Receipt { topic: block.topic, sequence: offset };
        append_message(&mut out, receipts, receipt, published_at, &record);
    }
    let json: Arc<str> = out.into();
    if json.len() > block.json_bytes_max() {
        return Ok(json);
    }
    Ok(block.json.get_or_init(|| json).clone())
}

/// Appends one message, after a comma if `out` ends with a message already.
fn append_message(
    out: &mut String,
    receipts: &ReceiptKey,
    receipt: Receipt,
    published_at: Timestamp,
    record: &Record<'_>,
) {
    if out.ends_with('}') {
        out.push(',');
    }
    let token = receipts.seal(receipt);
    let offset = receipt.sequence;
    // Writing to a String does not fail.
    let _ =
        write!(out, r#"{{"offset":{offset},"receipt":"{token}","published_at":"{published_at}""#);
    member(out, "content_type", record.content_type);
    if let Some(key) = record.key {
        member(out, "key", key);
    }
    if let Some(message_id) = record.message_id {
        member(out, "message_id", message_id);
    }
    if !record.attributes.is_empty() {
        out.push_str(r#","attributes":{"#);
        for (n, (name, value)) in record.attributes.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            string(out, name);
            out.push(':');
            string(out, value);
        }
        out.push('}');
    }
    if let Some(ttl_ms) = record.ttl_ms {
        let _ = write!(out, r#","ttl_ms":{ttl_ms}"#);
    }
    match (PayloadKind::of(record.content_type), std::str::from_utf8(record.payload)) {
        (PayloadKind::Json, Ok(json)) => {
            out.push_str(r#","data":"#);
            out.push_str(json);
        }
        (PayloadKind::Text, Ok(text)) => member(out, "data", text),
        _ => {
            out.push_str(r#","data_base64":""#);
            STANDARD.encode_string(record.payload, out);
            out.push('"');
        }
    }
    out.push('}');
}

fn member(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, r#","{name}":"#);
    string(out, value);
}

fn string(out: &mut String, value: &str) {
    let plain = value.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if plain {
        out.push('"');
        out.push_str(value);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(value).expect("a string is plain data"));
    }
}

/// What a reader may still be given.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Messages.
    pub messages: u64,
    /// Stored bytes; the very first message comes whatever its size.
    pub bytes: u64,
    /// Nothing has been given yet.
    pub untouched: bool,
}

/// Messages of one frame or one piece of a body.
#[derive(Debug, Default)]
pub struct Page {
    /// JSON objects with commas between them.
    pub json: String,
    /// The offset after the last of them, where there are any.
    pub next: Option<u64>,
    /// The budget allows no more.
    pub last: bool,
}

impl Budget {
    /// So many messages and bytes.
    pub fn new(messages: u64, bytes: u64) -> Self {
        Self { messages, bytes, untouched: true }
    }

    /// Takes messages from offset `from` on off the blocks, until the page holds `page_bytes` or
    /// the budget is spent.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] when a block's bytes are no records.
    pub fn page(
        &mut self,
        blocks: &[Arc<PlacedBlock>],
        from: u64,
        page_bytes: u64,
        receipts: &ReceiptKey,
    ) -> Result<Page, RecordError> {
        let mut page = Page::default();
        let mut left = page_bytes;
        for block in blocks {
            let (count, bytes) = (u64::from(block.count), block.body.len() as u64);
            let whole = block.base_offset >= from
                && count <= self.messages
                && bytes <= self.bytes.min(left);
            if whole {
                if page.next.is_some() {
                    page.json.push(',');
                }
                page.json.push_str(&block_json(block, receipts)?);
                page.next = Some(block.end_offset());
                left -= bytes;
                self.spend(count, bytes);
                continue;
            }
            for item in block.records() {
                let (offset, record) = item?;
                if offset < from {
                    continue;
                }
                let bytes = record.payload.len() as u64;
                if self.messages == 0 || (bytes > self.bytes && !self.untouched) {
                    page.last = true;
                    return Ok(page);
                }
                if bytes > left && page.next.is_some() {
                    return Ok(page);
                }
                let receipt = Receipt { topic: block.topic, sequence: offset };
                append_message(&mut page.json, receipts, receipt, block.published_at, &record);
                page.next = Some(offset + 1);
                left = left.saturating_sub(bytes);
                self.spend(1, bytes);
            }
        }
        page.last = self.messages == 0 || self.bytes == 0;
        Ok(page)
    }

    fn spend(&mut self, messages: u64, bytes: u64) {
        self.messages -= messages;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.untouched = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::model::{BlockBuilder, Epoch, TopicId};

    fn placed(records: &[Record<'_>]) -> Arc<PlacedBlock> {
        let mut builder = BlockBuilder::default();
        for record in records {
            builder.push(record).unwrap();
        }
        let block = builder.finish().unwrap();
        Arc::new(PlacedBlock {
            topic: TopicId(1),
            epoch: Epoch::FIRST,
            base_offset: 5,
            count: block.count(),
            published_at: Timestamp(0),
            body: block.body().clone(),
            json: OnceLock::new(),
        })
    }

    #[test]
    fn payloads_appear_by_their_kind() {
        let block = placed(&[
            Record::json(b"{\"a\": 1}"),
            Record::of("text/plain", "line\n\"é\"".as_bytes()),
            Record::of("text/plain", &[0xff]),
            Record {
                key: Some("k\u{1}"),
                attributes: vec![("a", "b")],
                ..Record::of("x/y", b"\0")
            },
        ]);
        let json = block_json(&block, &ReceiptKey::new([0; 16])).unwrap();
        let messages: serde_json::Value = serde_json::from_str(&format!("[{json}]")).unwrap();
        assert_eq!(messages[0]["offset"], 5);
        assert_eq!(messages[0]["data"], serde_json::json!({"a": 1}));
        assert_eq!(messages[0]["published_at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(messages[1]["data"], "line\n\"é\"");
        assert_eq!(messages[2]["data_base64"], "/w==");
        assert_eq!(messages[3]["key"], "k\u{1}");
        assert_eq!(messages[3]["attributes"]["a"], "b");
        assert_eq!(messages[3]["data_base64"], "AA==");
    }

    #[test]
    fn a_page_respects_its_limits_but_the_first_message_always_comes() {
        let block = placed(&[Record::json(b"1"), Record::json(b"2"), Record::json(b"3")]);
        let key = ReceiptKey::new([0; 16]);
        let pick = |from, messages, bytes, page_bytes| {
            let mut budget = Budget::new(messages, bytes);
            let page = budget.page(std::slice::from_ref(&block), from, page_bytes, &key).unwrap();
            let found: Vec<serde_json::Value> =
                serde_json::from_str(&format!("[{}]", page.json)).unwrap();
            (found.len(), page.next, page.last)
        };
        assert_eq!(pick(5, 100, 1_000, 1_000), (3, Some(8), false));
        assert_eq!(pick(6, 100, 1_000, 1_000), (2, Some(8), false));
        assert_eq!(pick(5, 2, 1_000, 1_000), (2, Some(7), true));
        assert_eq!(pick(5, 100, 2, 1_000), (2, Some(7), true));
        assert_eq!(pick(5, 100, 0, 1_000), (1, Some(6), true));
        assert_eq!(pick(5, 100, 1_000, 2), (2, Some(7), false), "the rest on another page");
    }
}
