//! Messages as clients receive them, a page at a time, in each of the forms they can be had in.
//!
//! A whole block's JSON is written once and kept with it, so a fan-out to a thousand tails costs
//! one encoding.

mod json;
mod msgpack;
mod plan;

use std::ops::Range;
use std::sync::Arc;

use crate::model::{
    Gap, JournalAge, PlacedBlock, Receipt, ReceiptKey, Record, RecordError, RecordPlace, Records,
    TopicId,
};
use crate::patterns::publish_subscribe::{Found, walk};
pub use plan::{Plan, plan};

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
    /// The page is this block's JSON as a whole, which is too long to be copied into `body`.
    pub block: Option<Arc<PlacedBlock>>,
    /// Where the next page begins, if that is within a block.
    pub place: Option<RecordPlace>,
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
    /// Bytes that a page's body may have; one message comes whatever its size.
    pub body_bytes: usize,
    /// Messages from this offset on are not shown.
    pub until: u64,
    /// Other readers have the blocks too: what is written of a whole one is kept with it.
    pub shared: bool,
    /// Seals receipts.
    pub receipts: &'a ReceiptKey,
    /// How old the journal is, for what expires.
    pub now: JournalAge,
}

/// What became of a whole block's JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Copied,
    TooLong,
    /// The block's messages are to be written one by one.
    No,
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
    /// is spent; `place` is where the page before it ended.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] when a block's bytes are no records.
    pub fn page(
        &self,
        budget: &mut ReadBudget,
        blocks: &[Arc<PlacedBlock>],
        from: u64,
        place: Option<RecordPlace>,
    ) -> Result<Page, RecordError> {
        let mut page = Page::default();
        let mut left = self.page_bytes;
        let mut current: Option<(&Arc<PlacedBlock>, Heading<'_>, Records<'_>)> = None;
        for found in walk(blocks, from, self.now)? {
            let (block, offsets) = match found {
                Found::Messages(block, offsets) => {
                    (block, offsets.start..offsets.end.min(self.until))
                }
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
            let whole = match self.may_be_whole(block, &offsets, budget, left) {
                true => self.whole(block, &mut page)?,
                false => Whole::No,
            };
            if whole != Whole::No {
                if whole == Whole::TooLong {
                    if page.messages > 0 {
                        return Ok(page);
                    }
                    page.block = Some(block.clone());
                }
                let (count, bytes) = (u64::from(block.count), block.body.len() as u64);
                page.messages += count;
                page.next = Some(offsets.end);
                left -= bytes;
                budget.spend(count, bytes);
                if page.block.is_some() {
                    return Ok(page);
                }
                continue;
            }
            // A block of many runs is gone through once.
            let (_, heading, records) = match &mut current {
                Some(same) if Arc::ptr_eq(same.0, block) => same,
                other => {
                    let records = block.records_at(offsets.start, place);
                    other.insert((block, self.heading(block), records))
                }
            };
            if self.some(&mut page, &mut left, budget, (heading, records), offsets)? {
                return Ok(page);
            }
        }
        page.last = budget.messages == 0 || budget.bytes == 0;
        Ok(page)
    }

    /// Adds messages of a block one by one; true when the page is full.
    fn some(
        &self,
        page: &mut Page,
        left: &mut u64,
        budget: &mut ReadBudget,
        (heading, records): (&Heading<'_>, &mut Records<'_>),
        offsets: Range<u64>,
    ) -> Result<bool, RecordError> {
        for offset in offsets {
            let (place, record) = loop {
                let place = records.place();
                match records.next().transpose()? {
                    None => return Ok(false),
                    Some((at, _)) if at < offset => {}
                    Some((_, record)) => break (place, record),
                }
            };
            page.place = Some(place);
            let bytes = record.bytes() as u64;
            if budget.messages == 0 || (bytes > budget.bytes && !budget.untouched) {
                page.last = true;
                return Ok(true);
            }
            if bytes > *left && page.messages > 0 {
                return Ok(true);
            }
            let begun = page.body.len();
            self.append(page, heading, offset, &record);
            if page.body.len() > self.body_bytes && page.messages > 1 {
                page.body.truncate(begun);
                page.messages -= 1;
                return Ok(true);
            }
            page.next = Some(offset + 1);
            page.place = Some(records.place());
            *left = left.saturating_sub(bytes);
            budget.spend(1, bytes);
        }
        Ok(false)
    }

    /// The block can be given as it is, its JSON written once for all readers.
    fn may_be_whole(
        &self,
        block: &PlacedBlock,
        offsets: &Range<u64>,
        budget: &ReadBudget,
        left: u64,
    ) -> bool {
        let count = offsets.end.saturating_sub(offsets.start);
        self.form == Form::Json
            && self.shared
            && count == u64::from(block.count)
            && count <= budget.messages
            && block.body.len() as u64 <= budget.bytes.min(left)
    }

    /// Adds a whole block's JSON, if there is room for it.
    fn whole(&self, block: &PlacedBlock, page: &mut Page) -> Result<Whole, RecordError> {
        let json = self.block_json(block)?;
        let room = self.body_bytes.saturating_sub(page.body.len() + 1);
        if json.len() > room {
            // JSON of unusual length is not kept with the block, so it can't be given bit by bit.
            return Ok(if block.json().is_some() { Whole::TooLong } else { Whole::No });
        }
        self.separate(page);
        page.body.extend_from_slice(json.as_bytes());
        Ok(Whole::Copied)
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
    pub fn block_json(&self, block: &PlacedBlock) -> Result<Arc<str>, RecordError> {
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
        let (body_bytes, until, shared, now) = (usize::MAX, u64::MAX, true, JournalAge(0));
        Shown { form, gaps, page_bytes, body_bytes, until, shared, receipts, now }
    }

    fn all(form: Form, block: &Arc<PlacedBlock>) -> Vec<u8> {
        let key = ReceiptKey::new([0; 16]);
        let shown = shown(form, Gaps::StopAt, u64::MAX, &key);
        let mut budget = ReadBudget::new(100, u64::MAX);
        shown.page(&mut budget, std::slice::from_ref(block), 5, None).unwrap().body
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
            let page = shown.page(&mut budget, std::slice::from_ref(&block), from, None).unwrap();
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
            let page = shown.page(&mut budget, std::slice::from_ref(&block), from, None).unwrap();
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

    #[test]
    fn short_pages_one_after_another_are_what_a_long_one_is() {
        let payloads: Vec<_> = (0..100).map(|n| "x".repeat(n * 7 % 90)).collect();
        let records: Vec<_> =
            payloads.iter().map(|text| Record::of("text/plain", text.as_bytes())).collect();
        let (block, key) = (placed(&records), ReceiptKey::new([0; 16]));
        let (body, derived) = (block.body.clone(), Derived::default());
        let second = Arc::new(PlacedBlock { base_offset: 105, body, derived, ..*block });
        let blocks = [block, second];
        for form in [Form::Lines, Form::MessagePack, Form::Events, Form::Json] {
            let mut whole = shown(form, Gaps::PassOver, u64::MAX, &key);
            whole.shared = false;
            let page = |shown: &Shown<'_>, budget: &mut ReadBudget, from, place| {
                shown.page(budget, &blocks, from, place).unwrap()
            };
            let mut budget = ReadBudget::new(190, u64::MAX);
            let expected = page(&whole, &mut budget, 5, None).body;
            let short = Shown { body_bytes: 700, until: 195, ..whole };
            let (mut budget, mut from, mut place) = (ReadBudget::new(1_000, u64::MAX), 5, None);
            let mut given = Vec::new();
            while from < 195 {
                let next = page(&short, &mut budget, from, place);
                assert!(next.body.len() <= 700 && next.messages > 0);
                if form == Form::Json && !given.is_empty() {
                    given.push(b',');
                }
                given.extend_from_slice(&next.body);
                (from, place) = (next.next.unwrap(), next.place);
            }
            assert_eq!(given, expected, "{form:?}");
        }
    }

    #[test]
    fn a_whole_block_too_long_for_a_page_is_told_of_and_not_copied() {
        let (block, key) = (every_kind(), ReceiptKey::new([0; 16]));
        let mut shown = shown(Form::Json, Gaps::PassOver, u64::MAX, &key);
        shown.body_bytes = 100;
        let mut budget = ReadBudget::new(100, u64::MAX);
        let page = shown.page(&mut budget, std::slice::from_ref(&block), 5, None).unwrap();
        assert_eq!((page.messages, page.next, page.body.len()), (4, Some(9), 0));
        let json = page.block.unwrap().json().unwrap().as_bytes().to_vec();
        assert_eq!(json, all(Form::Json, &block));
        // One that nobody else reads is written message by message.
        shown.shared = false;
        let block = every_kind();
        let page = shown.page(&mut budget, std::slice::from_ref(&block), 5, None).unwrap();
        assert_eq!((page.messages, page.block.is_none()), (1, true));
    }

    #[test]
    fn a_plan_counts_what_pages_give() {
        let block = every_kind();
        let blocks = std::slice::from_ref(&block);
        for (messages, from, expected) in [(100, 5, (4, Some(9))), (2, 6, (2, Some(8)))] {
            let mut budget = ReadBudget::new(messages, u64::MAX);
            let plan = plan(&mut budget, blocks, from, u64::MAX, JournalAge(0)).unwrap();
            assert_eq!((plan.messages, plan.next), expected);
        }
        let mut budget = ReadBudget::new(100, 1);
        let plan = plan(&mut budget, blocks, 3, u64::MAX, JournalAge(0)).unwrap();
        assert_eq!((plan.messages, plan.next, plan.last), (1, Some(6), true), "at least one");
        assert_eq!(plan.gaps, [Gap { from: 3, to: 4 }]);
    }
}
