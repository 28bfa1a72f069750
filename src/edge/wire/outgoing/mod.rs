//! Messages as clients receive them, a page at a time, in each of the supported forms.
//!
//! A whole block's JSON is written once and kept with it (`whole`), so a fan-out to a thousand
//! tails costs one encoding.

mod json;
mod msgpack;
mod plan;
mod whole;

use std::ops::Range;
use std::sync::Arc;

use crate::model::{
    Gap, JournalAge, Receipt, ReceiptKey, Record, RecordError, RecordPlace, Records, TopicId,
};
use crate::patterns::publish_subscribe::{Found, walk};
use crate::queue::ReadBlock;
pub use plan::{Plan, plan};
use whole::Whole;
pub use whole::messages_frame;

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

/// What a page does at offsets without a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// It continues behind them and lists them.
    PassOver,
    /// It ends before them, and a page that begins at one is only that.
    StopAt,
}

/// What may still be sent to a reader.
#[derive(Clone, Copy, Debug)]
pub struct ReadBudget {
    /// Messages.
    pub messages: u64,
    /// Stored bytes; the very first message comes whatever its size.
    pub bytes: u64,
    /// Nothing has been sent yet.
    pub untouched: bool,
}

impl ReadBudget {
    /// N messages and bytes.
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
    /// The gaps that were passed, in order.
    pub gaps: Vec<Gap>,
    /// The offset after the last of all that; `None` if there was nothing.
    pub next: Option<u64>,
    /// The budget allows no more.
    pub last: bool,
    /// The page is this block's JSON as a whole, which is not copied into `body`.
    pub block: Option<Arc<ReadBlock>>,
    /// Where the next page begins, if that is within a block.
    pub place: Option<RecordPlace>,
}

/// How a reader wants its pages.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The form of the messages.
    pub form: Form,
    /// The treatment of gaps.
    pub gaps: Gaps,
    /// Stored bytes on a page; one message comes whatever its size.
    pub page_bytes: u64,
    /// Bytes that a page's body may have; one message comes whatever its size.
    pub body_bytes: usize,
    /// Messages from this offset on are not shown.
    pub until: u64,
    /// A page is a frame: that of a whole block is not copied.
    pub frames: bool,
    /// Other readers have the blocks too: the JSON of a whole one is kept with it.
    pub shared: bool,
    /// Seals receipts.
    pub receipts: &'a ReceiptKey,
    /// How old the journal is, for what expires.
    pub now: JournalAge,
}

/// What the messages of a block have in common.
struct Heading<'a> {
    block: &'a ReadBlock,
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
    /// Takes messages from offset `from` on off the blocks, until the page is full or the budget is
    /// spent; `place` is the end of the page before it.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] when a block's bytes are not records.
    pub fn page(
        &self,
        budget: &mut ReadBudget,
        blocks: &[Arc<ReadBlock>],
        from: u64,
        place: Option<RecordPlace>,
    ) -> Result<Page, RecordError> {
        let mut page = Page::default();
        let mut left = self.page_bytes;
        let mut current: Option<(&Arc<ReadBlock>, Heading<'_>, Records<'_>)> = None;
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
                true => self.whole(block, blocks.len() == 1, &mut page)?,
                false => Whole::No,
            };
            if whole != Whole::No {
                if whole == Whole::ByItself {
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
            // A block of many runs is scanned once.
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
            if page.body.is_empty() {
                page.body.reserve(self.body_bytes.min(heading.block.json_bytes_max()));
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

    fn heading<'b>(&'b self, block: &'b ReadBlock) -> Heading<'b> {
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
}

#[cfg(test)]
mod tests;
