//! Whole blocks in JSON: written once, kept with the block, and sent to every reader that takes all
//! of it.

use std::ops::Range;

use bytestring::ByteString;

use super::{Form, Page, ReadBudget, Shown, json};
use crate::model::RecordError;
use crate::queue::{BlockJson, ReadBlock};

/// The text around messages in a tail's frame.
const FRAME_BEGINS: &[u8] = br#"{"messages":["#;
const FRAME_ENDS: &[u8] = b"]}";

/// Messages of one block that are this long in JSON are a frame of their own: the one kept with it.
const BY_ITSELF_BYTES: usize = 16 * 1024;

/// What happened to a whole block's JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// It is in the page's body.
    Copied,
    /// It is to be the page by itself.
    ByItself,
    /// The block's messages are to be written one by one.
    No,
}

impl Shown<'_> {
    /// The block can be sent as it is, its JSON written once for all readers.
    pub(super) fn may_be_whole(
        &self,
        block: &ReadBlock,
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

    /// Adds a whole block's JSON, if there is room for it, and it is not to be the page by itself.
    /// `alone`: no block follows.
    pub(super) fn whole(
        &self,
        block: &ReadBlock,
        alone: bool,
        page: &mut Page,
    ) -> Result<Whole, RecordError> {
        let json = self.block_json(block)?;
        let bytes = json.messages().len();
        let room = self.body_bytes.saturating_sub(page.body.len() + 1);
        let alone = alone && page.messages == 0;
        if bytes > room || (self.frames && (alone || bytes >= BY_ITSELF_BYTES)) {
            // JSON of unusual length is not kept with the block.
            let kept = block.json().is_some();
            return Ok(if kept { Whole::ByItself } else { Whole::No });
        }
        self.separate(page);
        page.body.extend_from_slice(json.messages().as_bytes());
        Ok(Whole::Copied)
    }

    /// The messages of a whole block in JSON, within a tail's frame.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] when the block's bytes are not records.
    pub fn block_json(&self, block: &ReadBlock) -> Result<BlockJson, RecordError> {
        if let Some(json) = block.json() {
            return Ok(json.clone());
        }
        let heading = self.heading(block);
        let mut out = Vec::with_capacity(block.body.len() * 2);
        out.extend_from_slice(FRAME_BEGINS);
        for item in block.records() {
            let (offset, record) = item?;
            if out.len() > FRAME_BEGINS.len() {
                out.push(b',');
            }
            json::append(&mut out, &heading, offset, &record);
        }
        let messages = FRAME_BEGINS.len()..out.len();
        out.extend_from_slice(FRAME_ENDS);
        let frame = String::from_utf8(out).map_err(|_| RecordError::Malformed)?.into();
        let json = BlockJson::new(frame, messages);
        block.keep_json(&json);
        Ok(json)
    }
}

/// The frame of these messages, written as JSON.
///
/// # Panics
/// They are not text.
pub fn messages_frame(messages: &[u8]) -> ByteString {
    let mut frame = Vec::with_capacity(FRAME_BEGINS.len() + messages.len() + FRAME_ENDS.len());
    frame.extend_from_slice(FRAME_BEGINS);
    frame.extend_from_slice(messages);
    frame.extend_from_slice(FRAME_ENDS);
    String::from_utf8(frame).expect("JSON is text").into()
}
