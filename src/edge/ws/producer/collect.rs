//! What a producer socket has accepted and not sent on yet: messages, the client's ids for them,
//! and, for a named producer, their numbers.

use std::sync::Arc;

use super::acks::Marks;
use crate::edge::error::Problem;
use crate::edge::wire::{IncomingMessage, Mark, check_payload};
use crate::model::{Block, BlockBuilder, NamedRun, Record};

/// The default content type.
const OCTET_STREAM: &str = "application/octet-stream";

/// The largest id of a named producer. A single one near the largest integer would leave none for
/// those after it.
const NUMBER_MAX: u64 = u64::MAX >> 1;

/// See the module.
pub(super) struct Collector {
    builder: BlockBuilder,
    marks: Marks,
    numbers: Option<Numbers>,
}

/// A named producer's count.
struct Numbers {
    name: Arc<str>,
    claim: u64,
    /// The last one accepted on this socket.
    last: Option<u64>,
    collected: Vec<u64>,
}

impl Collector {
    /// Collects for a producer, which may have a name and its claim on that.
    pub(super) fn new(builder: BlockBuilder, name: Option<(Arc<str>, u64)>) -> Self {
        let numbers =
            name.map(|(name, claim)| Numbers { name, claim, last: None, collected: Vec::new() });
        Self { builder, marks: Marks::default(), numbers }
    }

    /// Adds a message; an invalid one changes nothing.
    pub(super) fn take(
        &mut self,
        message: IncomingMessage<'_>,
        message_bytes_max: usize,
    ) -> Result<(), Problem> {
        let number = self.number(message.id.as_ref())?;
        message.push_to(&mut self.builder, message_bytes_max)?;
        self.taken(message.id, number);
        Ok(())
    }

    /// Adds a payload that needs no acknowledgement.
    pub(super) fn take_payload(
        &mut self,
        payload: &[u8],
        id: Mark,
        message_bytes_max: usize,
    ) -> Result<(), Problem> {
        let number = self.number(Some(&id))?;
        check_payload(OCTET_STREAM, payload, message_bytes_max)?;
        self.builder.push(&Record::of(OCTET_STREAM, payload))?;
        self.taken(Some(id), number);
        Ok(())
    }

    /// Checks an id against a named producer's count.
    fn number(&self, id: Option<&Mark>) -> Result<Option<u64>, Problem> {
        self.numbers.as_ref().map(|numbers| numbers.next(id)).transpose()
    }

    fn taken(&mut self, id: Option<Mark>, number: Option<u64>) {
        if let (Some(numbers), Some(number)) = (&mut self.numbers, number) {
            numbers.last = Some(number);
            numbers.collected.push(number);
        }
        self.marks.push(id);
    }

    /// Takes what was collected; `None` if that is nothing.
    pub(super) fn finish(&mut self) -> Option<(Block, Marks)> {
        let block = self.builder.finish()?;
        let marks = std::mem::take(&mut self.marks);
        let block = match &mut self.numbers {
            Some(numbers) => {
                let ids = std::mem::take(&mut numbers.collected).into();
                let (name, claim) = (numbers.name.clone(), numbers.claim);
                block.numbered(NamedRun { name, claim, ids })
            }
            None => block,
        };
        Some((block, marks))
    }

    /// Encoded bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Nothing is collected.
    pub(super) fn is_empty(&self) -> bool {
        self.builder.count() == 0
    }
}

impl Numbers {
    fn next(&self, id: Option<&Mark>) -> Result<u64, Problem> {
        let number = id.and_then(Mark::number).ok_or_else(|| {
            Problem::invalid("id", "a named producer numbers its messages with whole numbers")
        })?;
        if number > NUMBER_MAX {
            let why = format!("a named producer's ids are at most {NUMBER_MAX}");
            return Err(Problem::invalid("id", why));
        }
        match self.last.filter(|last| number <= *last) {
            Some(last) => {
                let why = format!("a named producer's ids rise, and {number} follows {last}");
                Err(Problem::invalid("id", why))
            }
            None => Ok(number),
        }
    }
}
