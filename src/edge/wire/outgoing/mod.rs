//! Messages as clients receive them, a page at a time, in each of the forms they can be had in.
//!
//! A whole block's JSON is written once and kept with it, so a fan-out to a thousand tails costs
//! one encoding.

mod json;
mod msgpack;

use std::sync::Arc;

use crate::model::{
    Gap, JournalAge, PlacedBlock, Receipt, ReceiptKey, Record, RecordError, TopicId,
};
use crate::patterns::publish_subscribe::{Found, walk};

/// How messages are written one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON objects with commas between them.
    Json,
    /// A JSON object a line, each with its line end.
    Lines,
    /// MessagePack maps.
    MessagePack,
    /// Server-Sent Events.
    Events,
}

/// What a page does about offsets without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// It goes on behind them and lists them.
    PassOver,
    /// It ends before them, and a page that begins at one is only that.
    StopAt,
}

/// What a reader may still be given.
#[derive(Clone, Copy, Debug)]
pub struct ReadBudget {
    /// Messages.
    pub messages: u64,
    /// Stored bytes; the very first message comes whatever its size.
    pub bytes: u64,
    /// Nothing has been given yet.
    pub untouched: bool,
}

impl ReadBudget {
    /// So many messages and bytes.
    pub fn new(messages: u64, bytes: u64) -> Self {
        Self { messages, bytes, untouched: true }
    }

    fn spend(&mut self, messages: u64, bytes: u64) {
        self.messages -= messages;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.untouched = false;
    }
}

/// Messages of one frame or one piece of a body.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages in their form.
    pub body: Vec<u8>,
    /// How many they are.
    pub messages: u64,
    /// The gaps that were come upon, in order.
    pub gaps: Vec<Gap>,
    /// The offset after the last of all that; none where there was nothing.
    pub next: Option<u64>,
    /// The budget allows no more.
    pub last: bool,
}

/// How a reader wants its pages.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The form of the messages.
    pub form: Form,
    /// What becomes of gaps.
    pub gaps: Gaps,
    /// Stored bytes on a page; one message comes whatever its size.
    pub page_bytes: u64,
    /// Seals receipts.
    pub receipts: &'a ReceiptKey,
    /// How old the journal is, for what expires.
    pub now: JournalAge,
}

/// What the messages of a block have in common.
struct Heading<'a> {
    block: &'a PlacedBlock,
    published_at: String,
    receipts: &'a ReceiptKey,
}

impl Heading<'_> {
    fn receipt(&self, offset: u64) -> uuid::Uuid {
        let topic = TopicId::of_outgoing(self.block.stream);
        self.receipts.seal(Receipt { topic, sequence: offset })
    }
}

impl Shown<'_> {
    /// Takes messages from offset `from` on off the blocks, until the page is full or the budget
    /// is spent.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] when a block's bytes are no records.
    pub fn page(
        &self,
        budget: &mut ReadBudget,
        blocks: &[Arc<PlacedBlock>],
        from: u64,
    ) -> Result<Page, RecordError> {
        let mut page = Page::default();
        let mut left = self.page_bytes;
        let mut current: Option<&Arc<PlacedBlock>> = None;
        let mut under_way = None;
        for found in walk(blocks, from, self.now)? {
            let (block, offsets) = match found {
                Found::Messages(block, offsets) => (block, offsets),
                Found::Gap(_) if self.gaps == Gaps::StopAt && page.messages > 0 => return Ok(page),
                Found::Gap(gap) => {
                    page.gaps.push(gap);
                    page.next = Some(gap.end());
                    match self.gaps {
                        Gaps::StopAt => return Ok(page),
                        Gaps::PassOver => continue,
                    }
                }
            };
            let (count, bytes) = (offsets.end - offsets.start, block.body.len() as u64);
            let whole = count == u64::from(block.count)
                && count <= budget.messages
                && bytes <= budget.bytes.min(left);
            if whole && self.form == Form::Json {
                self.separate(&mut page);
                page.body.extend_from_slice(self.block_json(block)?.as_bytes());
                page.messages += count;
                page.next = Some(offsets.end);
                left -= bytes;
                budget.spend(count, bytes);
                continue;
            }
            if current.is_none_or(|current| !Arc::ptr_eq(current, block)) {
                current = Some(block);
                under_way = Some((self.heading(block), block.records_from(offsets.start)));
            }
            // A block of many runs is gone through once.
            let Some((heading, records)) = &mut under_way else { continue };
            for offset in offsets {
                let Some((_, record)) = records
                    .find_map(|item| match item {
                        Ok((at, _)) if at < offset => None,
                        item => Some(item),
                    })
                    .transpose()?
                else {
                    break;
                };
                let bytes = record.bytes() as u64;
                if budget.messages == 0 || (bytes > budget.bytes && !budget.untouched) {
                    page.last = true;
                    return Ok(page);
                }
                if bytes > left && page.messages > 0 {
                    return Ok(page);
                }
                self.append(&mut page, heading, offset, &record);
                page.next = Some(offset + 1);
                left = left.saturating_sub(bytes);
                budget.spend(1, bytes);
            }
        }
        page.last = budget.messages == 0 || budget.bytes == 0;
        Ok(page)
    }

    fn heading<'b>(&'b self, block: &'b PlacedBlock) -> Heading<'b> {
        let published_at = block.published_at.to_string();
        Heading { block, published_at, receipts: self.receipts }
    }

    fn separate(&self, page: &mut Page) {
        if self.form == Form::Json && page.messages > 0 {
            page.body.push(b',');
        }
    }

    fn append(&self, page: &mut Page, heading: &Heading<'_>, offset: u64, record: &Record<'_>) {
        self.separate(page);
        let out = &mut page.body;
        match self.form {
            Form::Json => json::append(out, heading, offset, record),
            Form::Lines => json::append_line(out, heading, offset, record),
            Form::MessagePack => msgpack::append(out, heading, offset, record),
            Form::Events => json::append_event(out, heading, offset, record),
        }
        page.messages += 1;
    }

    /// The messages of a whole block: JSON objects with commas between them.
    fn block_json(&self, block: &PlacedBlock) -> Result<Arc<str>, RecordError> {
        if let Some(json) = block.json() {
            return Ok(json.clone());
        }
        let heading = self.heading(block);
        let mut out = Vec::with_capacity(block.body.len() * 2);
        for item in block.records() {
            let (offset, record) = item?;
            if !out.is_empty() {
                out.push(b',');
            }
            json::append(&mut out, &heading, offset, &record);
        }
        let json: Arc<str> = String::from_utf8(out).map_err(|_| RecordError::Malformed)?.into();
        block.keep_json(&json);
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{BlockBuilder, Derived, Epoch, Timestamp};

    fn placed(records: &[Record<'_>]) -> Arc<PlacedBlock> {
        let mut builder = BlockBuilder::default();
        for record in records {
            builder.push(record).unwrap();
        }
        let block = builder.finish().unwrap();
        Arc::new(PlacedBlock {
            stream: TopicId(1).outgoing(),
            epoch: Epoch::FIRST,
            base_offset: 5,
            count: block.count(),
            ingest_base: 5,
            published_at: Timestamp(0),
            age: JournalAge(0),
            body: block.body().clone(),
            derived: Derived::default(),
        })
    }

    fn shown(form: Form, gaps: Gaps, page_bytes: u64, receipts: &ReceiptKey) -> Shown<'_> {
        Shown { form, gaps, page_bytes, receipts, now: JournalAge(0) }
    }

    fn all(form: Form, block: &Arc<PlacedBlock>) -> Vec<u8> {
        let key = ReceiptKey::new([0; 16]);
        let shown = shown(form, Gaps::StopAt, u64::MAX, &key);
        let mut budget = ReadBudget::new(100, u64::MAX);
        shown.page(&mut budget, std::slice::from_ref(block), 5).unwrap().body
    }

    fn every_kind() -> Arc<PlacedBlock> {
        placed(&[
            Record::json(b"{\"a\":\n 1}"),
            Record::of("text/plain", "line\n\"é\"".as_bytes()),
            Record::of("text/plain", &[0xff]),
            Record {
                key: Some("k\u{1}"),
                message_id: Some("m"),
                attributes: vec![("a", "b")],
                ttl_ms: Some(5),
                ..Record::of("x/y", b"\0")
            },
        ])
    }

    /// What API.md says of the four, with bytes as base64.
    fn check(messages: &[Value]) {
        assert_eq!(messages.len(), 4);
        assert_eq!(messages[0]["offset"], 5);
        assert_eq!(messages[0]["data"], json!({"a": 1}));
        assert_eq!(messages[0]["content_type"], "application/json");
        assert_eq!(messages[0]["published_at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(messages[3]["key"], "k\u{1}");
        assert_eq!(messages[3]["message_id"], "m");
        assert_eq!(messages[3]["ttl_ms"], 5);
        assert_eq!(messages[3]["attributes"]["a"], "b");
    }

    #[test]
    fn payloads_appear_by_their_kind_in_json() {
        let json = String::from_utf8(all(Form::Json, &every_kind())).unwrap();
        let messages: Vec<Value> = serde_json::from_str(&format!("[{json}]")).unwrap();
        check(&messages);
        assert!(json.contains("{\"a\":\n 1}"), "to the letter");
        assert_eq!(messages[1]["data"], "line\n\"é\"");
        assert_eq!(messages[2]["data_base64"], "/w==");
        assert_eq!(messages[3]["data_base64"], "AA==");
    }

    #[test]
    fn lines_and_events_hold_no_line_end_of_a_payload() {
        let lines = String::from_utf8(all(Form::Lines, &every_kind())).unwrap();
        let messages: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        check(&messages);
        let events = String::from_utf8(all(Form::Events, &every_kind())).unwrap();
        let events: Vec<_> = events.split_terminator("\n\n").collect();
        let messages: Vec<Value> = events
            .iter()
            .enumerate()
            .map(|(n, event)| {
                let (id, data) = event.split_once('\n').unwrap();
                assert_eq!(id, format!("id: 1-{}", 5 + n));
                serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
            })
            .collect();
        check(&messages);
    }

    #[test]
    fn payloads_appear_as_values_or_bytes_in_messagepack() {
        let bytes = all(Form::MessagePack, &every_kind());
        let mut rest = &bytes[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            messages.push(rmpv::decode::read_value(&mut rest).unwrap());
        }
        // The data apart, it is what JSON has.
        let json: Vec<Value> = messages
            .iter()
            .map(|message| {
                let members = message.as_map().unwrap().iter();
                let plain = members.filter(|(name, value)| {
                    name.as_str() != Some("data") || !matches!(value, rmpv::Value::Binary(_))
                });
                let text = |(name, value): &(rmpv::Value, rmpv::Value)| {
                    let value = match value {
                        rmpv::Value::String(text) => text.as_str().into(),
                        // A map or a number is shown as JSON shows it.
                        other => serde_json::from_str(&other.to_string()).unwrap(),
                    };
                    (name.as_str().unwrap().to_owned(), value)
                };
                Value::Object(plain.map(text).collect())
            })
            .collect();
        check(&json);
        let data = |n: usize| messages[n]["data"].as_slice().unwrap();
        assert_eq!((data(1), data(2), data(3)), ("line\n\"é\"".as_bytes(), &[0xff][..], &[0][..]));
    }

    #[test]
    fn gaps_are_passed_over_or_end_a_page() {
        let ttl = |ttl_ms| Record { ttl_ms, ..Record::json(b"1") };
        let block = placed(&[ttl(Some(0)), ttl(None), ttl(Some(0)), ttl(None), ttl(Some(0))]);
        let key = ReceiptKey::new([0; 16]);
        let page = |gaps, from| {
            let mut budget = ReadBudget::new(100, 1_000);
            let shown = shown(Form::Json, gaps, 1_000, &key);
            let page = shown.page(&mut budget, std::slice::from_ref(&block), from).unwrap();
            let gaps: Vec<_> = page.gaps.iter().map(|gap| (gap.from, gap.to)).collect();
            (page.messages, gaps, page.next)
        };
        assert_eq!(page(Gaps::PassOver, 5), (2, vec![(5, 5), (7, 7), (9, 9)], Some(10)));
        assert_eq!(page(Gaps::StopAt, 5), (0, vec![(5, 5)], Some(6)));
        assert_eq!(page(Gaps::StopAt, 6), (1, vec![], Some(7)));
        assert_eq!(page(Gaps::StopAt, 9), (0, vec![(9, 9)], Some(10)));
    }

    #[test]
    fn a_page_respects_its_limits_but_the_first_message_always_comes() {
        let block = placed(&[Record::json(b"1"), Record::json(b"2"), Record::json(b"3")]);
        let key = ReceiptKey::new([0; 16]);
        let pick = |from, messages, bytes, page_bytes| {
            let mut budget = ReadBudget::new(messages, bytes);
            let shown = shown(Form::Json, Gaps::PassOver, page_bytes, &key);
            let page = shown.page(&mut budget, std::slice::from_ref(&block), from).unwrap();
            let json = String::from_utf8(page.body).unwrap();
            let found: Vec<Value> = serde_json::from_str(&format!("[{json}]")).unwrap();
            assert_eq!(page.messages, found.len() as u64);
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
