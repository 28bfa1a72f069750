//! The keys and values of topics' state. `journal/format.md` lists them.

use bytes::{Buf, Bytes};

use super::catalogue::Topic;
use super::fold::Core;
use super::record::TopicRecord;
use crate::journal::{JournalError, StateKey, Unit};
use crate::model::{OwnerId, StreamId, TopicId};

/// A topic's record, as JSON.
const RECORD: u8 = b't';
/// Offsets that may be used without a sync.
const RESERVED: u8 = b'r';
/// The secret receipts are sealed with.
pub(super) const RECEIPTS: &str = "secret/receipts";
/// The secret message ids are hashed with.
pub(super) const MESSAGE_IDS: &str = "secret/message-ids";

/// A small value of a topic.
pub(super) enum Small {
    Record(TopicRecord),
    Reserved(u64),
    Fold(Core),
    /// A later version's value, which can be ignored.
    Other,
}

/// Reads a small value of a topic.
///
/// # Errors
/// It is malformed, or critical and not known.
pub(super) fn parse(key: &StateKey, value: &Bytes) -> Result<Small, JournalError> {
    let malformed = || JournalError::Metadata(format!("{key:?} is malformed"));
    Ok(match key.tag() {
        RECORD => {
            let record: TopicRecord = serde_json::from_slice(value)
                .map_err(|error| JournalError::Metadata(format!("a topic's record: {error}")))?;
            Small::Record(TopicRecord { id: TopicId(key.owner().0), ..record })
        }
        RESERVED => Small::Reserved((&value[..]).try_get_u64_le().map_err(|_| malformed())?),
        Core::TAG => Small::Fold(Core::decode(value).ok_or_else(malformed)?),
        _ if key.is_critical() => {
            return Err(JournalError::LaterVersion(format!("it holds {key:?}")));
        }
        _ => Small::Other,
    })
}

/// Puts a topic's record.
pub(super) fn put_record(topic: &Topic, unit: &mut Unit) {
    let value = serde_json::to_vec(&topic.record).expect("a topic's record is plain data");
    unit.put(StateKey::new(topic.record.id.into(), RECORD, b""), value);
}

/// Puts a topic's reserved offsets.
pub(super) fn put_reserved(topic: &Topic, unit: &mut Unit) {
    let key = StateKey::new(topic.record.id.into(), RESERVED, b"");
    unit.put(key, topic.reserved.to_le_bytes().to_vec());
}

/// Puts the changes of a topic's snapshot, which covers all blocks up to those that `last` gives,
/// by stream.
pub(super) fn put_snapshot(topic: &mut Topic, last: &dyn Fn(StreamId) -> u64, unit: &mut Unit) {
    let owner = OwnerId::from(topic.record.id);
    let core = &mut topic.fold.core;
    core.number = last(topic.record.id.outgoing());
    core.raw_number = topic.record.ingest.map_or(core.raw_number, last);
    topic.fold.save(&mut |tag, rest, value| {
        let key = StateKey::new(owner, tag, rest);
        match value {
            Some(value) => unit.put(key, value),
            None => unit.remove(key),
        }
    });
}
