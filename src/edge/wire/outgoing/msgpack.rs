//! A message in MessagePack.

use rmp::encode::{RmpWrite, ValueWriteError, write_bin, write_map_len, write_str, write_uint};

use super::Heading;
use crate::edge::wire::transcode;
use crate::model::{PayloadKind, Record};

/// Appends the message as a map. Its data is a value if it is JSON that MessagePack can represent,
/// else bin.
pub(super) fn append(out: &mut Vec<u8>, heading: &Heading<'_>, offset: u64, record: &Record<'_>) {
    written(append_map(out, heading, offset, record));
    let value = PayloadKind::of(record.content_type) == PayloadKind::Json;
    if !value || transcode::append_json(out, record.payload).is_none() {
        written(write_bin(out, record.payload));
    }
}

type Written = Result<(), ValueWriteError<<Vec<u8> as RmpWrite>::Error>>;

/// Everything up to the name of the last member, which is `data`.
fn append_map(
    out: &mut Vec<u8>,
    heading: &Heading<'_>,
    offset: u64,
    record: &Record<'_>,
) -> Written {
    let Record { content_type, key, message_id, attributes, ttl_ms, .. } = record;
    let optional = [key.is_some(), message_id.is_some(), !attributes.is_empty(), ttl_ms.is_some()];
    let members = 5 + optional.iter().filter(|there| **there).count() as u32;
    write_map_len(out, members)?;
    write_str(out, "offset")?;
    write_uint(out, offset)?;
    write_str(out, "receipt")?;
    let mut receipt = [0; uuid::fmt::Hyphenated::LENGTH];
    write_str(out, heading.receipt(offset).hyphenated().encode_lower(&mut receipt))?;
    write_str(out, "published_at")?;
    write_str(out, &heading.published_at)?;
    write_str(out, "content_type")?;
    write_str(out, content_type)?;
    for (name, value) in [("key", key), ("message_id", message_id)] {
        if let Some(value) = value {
            write_str(out, name)?;
            write_str(out, value)?;
        }
    }
    if !attributes.is_empty() {
        write_str(out, "attributes")?;
        write_map_len(out, attributes.len() as u32)?;
        for (name, value) in attributes {
            write_str(out, name)?;
            write_str(out, value)?;
        }
    }
    if let Some(ttl_ms) = ttl_ms {
        write_str(out, "ttl_ms")?;
        write_uint(out, *ttl_ms)?;
    }
    write_str(out, "data")
}

fn written(result: Written) {
    result.expect("a Vec takes everything");
}
