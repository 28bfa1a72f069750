//! A topic's messages as a run of pieces, made as the connection takes them; used by polls and
//! event streams.
//!
//! Each piece has room in the output budget before it is made, and no piece is longer than that
//! room: a long message, and a whole block's JSON, are sent in parts. Between two pieces no message
//! is held, unless it is in the tail cache anyway, or has room of its own while there is plenty: a
//! reader that stops costs one piece.

use std::sync::Arc;

use actix_web::web::{Bytes, Data};

use super::rest::Rest;
use crate::actors::directory::TopicHandle;
use crate::edge::Edge;
use crate::edge::admission::{Line, Permit};
use crate::edge::error::Problem;
use crate::edge::outgoing::Taker;
use crate::edge::wire::{Form, Gaps, Page, ReadBudget, Shown};
use crate::metrics::{self, Way};
use crate::model::{Gap, JournalAge, RecordError, RecordPlace};
use crate::queue::{ReadBlock, ReadError, ReadLimits};

/// Stored bytes that are read from the disk at once while there is plenty of room.
const READ_BYTES: u64 = 256 * 1024;

/// See the module.
pub(super) struct Pages {
    edge: Data<Edge>,
    topic: Arc<TopicHandle>,
    form: Form,
    gaps: Gaps,
    way: Way,
    /// Offset of the next message.
    pub(super) next: u64,
    /// What may still be sent.
    pub(super) budget: ReadBudget,
    /// Messages from here on are not shown.
    pub(super) until: u64,
    /// The time that expiry is decided by; a new one with each page, unless it was planned.
    pub(super) now: Option<JournalAge>,
    begun: bool,
    place: Option<RecordPlace>,
    rest: Option<Rest>,
    /// Blocks that were read from the disk, as far as there is room for them.
    kept: Option<(Vec<Arc<ReadBlock>>, Permit)>,
    taker: Taker,
}

/// The output of one step.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Gaps that were passed.
    pub(super) gaps: Vec<Gap>,
    /// Nothing follows.
    pub(super) last: bool,
}

/// Why there is no piece.
#[derive(Debug)]
pub(super) enum Broken {
    Read(ReadError),
    Record(RecordError),
}

impl From<ReadError> for Broken {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<RecordError> for Broken {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<Broken> for Problem {
    fn from(error: Broken) -> Self {
        match error {
            Broken::Read(error) => error.into(),
            Broken::Record(error) => error.into(),
        }
    }
}

impl Pages {
    /// Begins at `next`; without a limit, unless one is set.
    pub(super) fn new(
        edge: &Data<Edge>,
        topic: &Arc<TopicHandle>,
        (form, gaps, way): (Form, Gaps, Way),
        next: u64,
        taker: Taker,
    ) -> Self {
        Self {
            edge: edge.clone(),
            topic: topic.clone(),
            form,
            gaps,
            way,
            next,
            budget: ReadBudget::new(u64::MAX, u64::MAX),
            until: u64::MAX,
            now: None,
            begun: false,
            place: None,
            rest: None,
            kept: None,
            taker,
        }
    }

    /// Nothing to send for now.
    pub(super) fn idle(&mut self) {
        self.taker.idle();
        self.kept = None;
    }

    /// Everything begun has been sent.
    pub(super) fn is_between_pages(&self) -> bool {
        self.rest.is_none()
    }

    /// The next piece; it is the last if nothing follows.
    pub(super) async fn piece(&mut self) -> Result<Piece, Broken> {
        let size = self.edge.outgoing.piece_bytes();
        if let Some(Rest::Text { .. }) = &self.rest
            && let Some(Rest::Text { text, room }) = self.rest.take()
        {
            // It has room of its own, and holds none that it would wait for.
            self.taker.took();
            let bytes = self.more_of_text(text, size, room);
            return Ok(Piece { bytes, gaps: Vec::new(), last: self.is_over() });
        }
        let size = size.max(self.rest.as_ref().map_or(0, Rest::piece_bytes_min));
        let room = match self.taker.try_room(size) {
            Some(room) => room,
            None => {
                // Readers that hold room and wait for more would wait for each other.
                self.kept = None;
                self.taker.room(size).await
            }
        };
        if let Some(rest) = self.rest.take() {
            let bytes = self.more_of(rest, size, room).await?;
            return Ok(Piece { bytes, gaps: Vec::new(), last: self.is_over() });
        }
        let (blocks, shared) = self.blocks(size as u64).await?;
        let now = self.now.unwrap_or_else(|| self.edge.queue.age());
        let (place, mut budget) = (self.place.take(), self.budget);
        let shown = self.shown(size, shared, now);
        let mut page = shown.page(&mut budget, &blocks, self.next, place)?;
        self.budget = budget;
        self.next = page.next.unwrap_or(self.next);
        self.place = page.place;
        metrics::passed(self.way, page.messages, page.body.len() as u64);
        let gaps = std::mem::take(&mut page.gaps);
        let last = page.last || page.next.is_none();
        let bytes = match page.block.take() {
            Some(block) => self.begin_block(&block, size, room),
            None => self.begin(page, now, size, room),
        };
        Ok(Piece { bytes, gaps, last: (last || self.is_over()) && self.rest.is_none() })
    }

    fn is_over(&self) -> bool {
        let spent = self.budget.messages == 0 || self.budget.bytes == 0;
        self.rest.is_none() && (spent || self.next >= self.until)
    }

    fn shown(&self, body_bytes: usize, shared: bool, now: JournalAge) -> Shown<'_> {
        Shown {
            form: self.form,
            gaps: self.gaps,
            page_bytes: u64::MAX,
            body_bytes: body_bytes.saturating_sub(1),
            until: self.until,
            frames: false,
            shared,
            receipts: &self.edge.receipts,
            now,
        }
    }

    /// The blocks from `next` on for a plan; kept as far as there is room, so that they are not
    /// read from the disk twice.
    pub(super) async fn planned_blocks(
        &mut self,
        limits: ReadLimits,
    ) -> Result<Vec<Arc<ReadBlock>>, ReadError> {
        let id = self.topic.id();
        if let Some(blocks) = self.edge.queue.read_cached(id, self.next, limits) {
            return Ok(blocks);
        }
        let blocks = self.edge.queue.read(id, self.next, limits).await?;
        self.keep(&blocks);
        Ok(blocks)
    }

    fn keep(&mut self, blocks: &[Arc<ReadBlock>]) {
        let outgoing = &self.edge.outgoing;
        let bytes = blocks.iter().map(|block| block.body.len()).sum();
        let Some(room) = (!outgoing.is_scarce()).then(|| outgoing.try_room(bytes)).flatten() else {
            return;
        };
        let (kept, held) = self.kept.get_or_insert_default();
        kept.extend_from_slice(blocks);
        held.merge(room);
    }

    /// The blocks from `next` on, and whether other readers share them.
    async fn blocks(&mut self, bytes: u64) -> Result<(Vec<Arc<ReadBlock>>, bool), ReadError> {
        let next = self.next;
        if let Some((kept, _)) = &self.kept {
            let from = kept.partition_point(|block| block.end_offset() <= next);
            if kept.get(from).is_some_and(|block| block.base_offset <= next) {
                return Ok((kept[from..].to_vec(), false));
            }
            self.kept = None;
        }
        let (id, scarce) = (self.topic.id(), self.edge.outgoing.is_scarce());
        let bytes = bytes.min(self.budget.bytes);
        let limits = ReadLimits { messages: self.budget.messages, bytes };
        if let Some(blocks) = self.edge.queue.read_cached(id, next, limits) {
            return Ok((blocks, true));
        }
        let bytes = if scarce { bytes } else { READ_BYTES.min(self.budget.bytes) };
        let blocks = self.edge.queue.read(id, next, ReadLimits { bytes, ..limits }).await?;
        self.keep(&blocks);
        Ok((blocks, false))
    }

    /// The separator of messages.
    fn separator(&mut self) -> &'static [u8] {
        let begun = std::mem::replace(&mut self.begun, true);
        if begun && self.form == Form::Json { b"," } else { b"" }
    }

    /// Sends a page, or the first part of one that is a single long message.
    fn begin(&mut self, page: Page, now: JournalAge, size: usize, room: Permit) -> Bytes {
        if page.messages == 0 {
            return Bytes::new();
        }
        let separator = self.separator();
        let mut bytes = page.body;
        if !separator.is_empty() {
            bytes.splice(..0, separator.iter().copied());
        }
        if bytes.len() <= size {
            self.taker.gave(room, bytes.len());
            return bytes.into();
        }
        let outgoing = &self.edge.outgoing;
        let own = (!outgoing.is_scarce()).then(|| outgoing.try_room(bytes.len())).flatten();
        if let Some(own) = own {
            let mut text = Bytes::from(bytes);
            let bit = text.split_to(size);
            self.rest = Some(Rest::Text { text, room: own });
            self.taker.gave_charged(size);
            return bit;
        }
        let offset = self.next.saturating_sub(1);
        let (at, whole) = (size - separator.len(), bytes.len());
        self.rest = Some(Rest::Message { offset, now, at, whole });
        self.taker.gave(room, size);
        // Not a slice of it: that would keep the whole text.
        Bytes::copy_from_slice(&bytes[..size])
    }

    fn begin_block(&mut self, block: &Arc<ReadBlock>, size: usize, room: Permit) -> Bytes {
        let Some(json) = block.json() else { return Bytes::new() };
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(self.separator());
        let json = json.messages().as_bytes();
        let at = (size - bytes.len()).min(json.len());
        bytes.extend_from_slice(&json[..at]);
        if at < json.len() {
            let base_offset = block.base_offset;
            self.rest = Some(Rest::Block { block: Arc::downgrade(block), base_offset, at });
        }
        self.taker.gave(room, bytes.len());
        bytes.into()
    }

    async fn more_of(&mut self, rest: Rest, size: usize, room: Permit) -> Result<Bytes, Broken> {
        match rest {
            Rest::Text { text, room: own } => Ok(self.more_of_text(text, size, own)),
            Rest::Block { block, base_offset, at } => {
                let shown = self.shown(size, true, self.edge.queue.age());
                let Some(block) = block.upgrade() else {
                    // It is encoded anew, with room for all of it and none held meanwhile.
                    drop(room);
                    let bytes = self.block(base_offset).await?.json_bytes_max();
                    let own = self.edge.outgoing.room(Line::Requests, bytes).await;
                    let block = self.block(base_offset).await?;
                    let json = self.shown(size, true, self.edge.queue.age()).block_json(&block)?;
                    let text = json.messages().as_bytes().get(at..).unwrap_or_default();
                    let text = Bytes::copy_from_slice(text);
                    return Ok(self.more_of_text(text, size, own));
                };
                let json = shown.block_json(&block)?;
                let json = json.messages().as_bytes();
                let end = json.len().min(at + size);
                let bit = Bytes::copy_from_slice(&json[at..end]);
                self.taker.gave(room, bit.len());
                if end < json.len() {
                    let block = Arc::downgrade(&block);
                    self.rest = Some(Rest::Block { block, base_offset, at: end });
                }
                Ok(bit)
            }
            Rest::Message { offset, now, at, whole } => {
                let block = self.block(offset).await?;
                let mut budget = ReadBudget::new(1, u64::MAX);
                let page =
                    self.shown(size, false, now).page(&mut budget, &[block], offset, None)?;
                let end = page.body.len().min(at + size);
                let bit = Bytes::copy_from_slice(page.body.get(at..end).unwrap_or_default());
                self.taker.gave(room, bit.len());
                if end < page.body.len() {
                    self.rest = Some(Rest::Message { offset, now, at: end, whole });
                }
                Ok(bit)
            }
        }
    }

    fn more_of_text(&mut self, mut text: Bytes, size: usize, room: Permit) -> Bytes {
        let bit = text.split_to(size.min(text.len()));
        self.taker.gave_charged(bit.len());
        if !text.is_empty() {
            self.rest = Some(Rest::Text { text, room });
        }
        bit
    }

    /// The block that holds this offset, which has been read before.
    async fn block(&self, offset: u64) -> Result<Arc<ReadBlock>, ReadError> {
        let limits = ReadLimits { messages: 1, bytes: 1 };
        let blocks = self.edge.queue.read(self.topic.id(), offset, limits).await?;
        blocks.into_iter().next().ok_or(ReadError::NoSuchTopic(self.topic.id()))
    }
}
