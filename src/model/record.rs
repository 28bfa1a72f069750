//! One message as stored: payload, content type and the producer's other fields.
//!
//! Encoding (all integers little endian): `u32` bytes that follow · `u8` flags · content type (`u8`
//! length, bytes; only when it is not one of the two common ones) · key (`u16`, bytes) · message id
//! (`u8`, bytes) · attributes (`u16` count, then name and value each `u16`, bytes) · `ttl_ms`
//! (`u64`) · payload (the rest). Optional parts exist only when their flag is set.
//!
//! Invariants: what [`Record::encode`] wrote, [`Record::decode`] gives back byte for byte; a
//! record holds no offset and no time, those belong to its place in the journal.

use bytes::{Buf, BufMut};

use super::JournalAge;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Longest message id, in bytes (API.md).
pub const MESSAGE_ID_BYTES_MAX: usize = 128;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Most attributes of one message.
pub const ATTRIBUTES_MAX: usize = 64;
/// Most bytes in all names and values of one message's attributes together.
pub const ATTRIBUTE_BYTES_MAX: usize = 16 * 1_024;

const JSON: &str = "application/json";
const OCTET_STREAM: &str = "application/octet-stream";

const CONTENT_TYPE_JSON: u8 = 0b0000_0001;
const CONTENT_TYPE_GIVEN: u8 = 0b0000_0010;
const KEY: u8 = 0b0000_0100;
const MESSAGE_ID: u8 = 0b0000_1000;
const ATTRIBUTES: u8 = 0b0001_0000;
const TTL: u8 = 0b0010_0000;

/// A message without its position: borrowed from a frame, a request body or a stored block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Media type of the payload.
    pub content_type: &'a str,
    /// What the message is about; messages of one key belong together.
    pub key: Option<&'a str>,
    /// The producer's own id for deduplication.
    pub message_id: Option<&'a str>,
    /// Names and values the producer attached, in its order.
    pub attributes: Vec<(&'a str, &'a str)>,
    /// The message's lifetime, in milliseconds from its publication.
    pub ttl_ms: Option<u64>,
    /// The bytes themselves.
    pub payload: &'a [u8],
}

/// A record that breaks a limit, or bytes that hold no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A part is longer than it may be.
    #[error("`{field}` has {len} {unit}, at most {max} are allowed")]
    TooLong {
        /// The message field.
        field: &'static str,
        /// The length found.
        len: usize,
        /// The unit: bytes or entries.
        unit: &'static str,
        /// The length allowed.
        max: usize,
    },
    /// A content type that is not valid in a header.
    #[error("`content_type` must be printable ASCII, and not empty")]
    ContentType,
    /// A part that may be omitted, but not be empty.
    #[error("`{field}` is empty")]
    Empty {
        /// The message field.
        field: &'static str,
    },
    /// Stored bytes that this format cannot have written.
    #[error("stored bytes are no record")]
    Malformed,
}

impl<'a> Record<'a> {
    /// The least that any record takes: its length and its flags.
    pub const ENCODED_BYTES_MIN: u64 = 5;

    /// A JSON message with nothing but its payload.
    pub fn json(payload: &'a [u8]) -> Self {
        Self::of(JSON, payload)
    }

    /// A message with nothing but its content type and payload.
    pub fn of(content_type: &'a str, payload: &'a [u8]) -> Self {
        Self {
            content_type,
            key: None,
            message_id: None,
            attributes: Vec::new(),
            ttl_ms: None,
            payload,
        }
    }

    /// Checks every part but the payload, whose limit is the topic's.
    ///
    /// # Errors
    /// [`RecordError`] names the field and its limit.
    pub fn validate(&self) -> Result<(), RecordError> {
        let check = |field, unit, len, max| {
            if len > max { Err(RecordError::TooLong { field, len, unit, max }) } else { Ok(()) }
        };
        check("content_type", "bytes", self.content_type.len(), CONTENT_TYPE_BYTES_MAX)?;
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if self.content_type.is_empty() || !self.content_type.bytes().all(printable) {
            return Err(RecordError::ContentType);
        }
        check("key", "bytes", self.key.map_or(0, str::len), KEY_BYTES_MAX)?;
        check("message_id", "bytes", self.message_id.map_or(0, str::len), MESSAGE_ID_BYTES_MAX)?;
        if self.message_id == Some("") {
            return Err(RecordError::Empty { field: "message_id" });
        }
        if self.attributes.iter().any(|(name, _)| name.is_empty()) {
            return Err(RecordError::Empty { field: "attributes" });
        }
        check("attributes", "entries", self.attributes.len(), ATTRIBUTES_MAX)?;
        let bytes = self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        check("attributes", "bytes", bytes, ATTRIBUTE_BYTES_MAX)
    }

    /// Appends the record to `out`. It must have been [validated](Record::validate).
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.encoded_bytes_max());
        out.put_u32_le(0);
        let mut flags = match self.content_type {
            JSON => CONTENT_TYPE_JSON,
            OCTET_STREAM => 0,
            _ => CONTENT_TYPE_GIVEN,
        };
        flags |= if self.key.is_some() { KEY } else { 0 };
        flags |= if self.message_id.is_some() { MESSAGE_ID } else { 0 };
        flags |= if self.attributes.is_empty() { 0 } else { ATTRIBUTES };
        flags |= if self.ttl_ms.is_some() { TTL } else { 0 };
        out.put_u8(flags);
        if flags & CONTENT_TYPE_GIVEN != 0 {
            put_short(out, self.content_type);
        }
        if let Some(key) = self.key {
            put_long(out, key);
        }
        if let Some(message_id) = self.message_id {
            put_short(out, message_id);
        }
        if !self.attributes.is_empty() {
            out.put_u16_le(self.attributes.len() as u16);
            for (name, value) in &self.attributes {
                put_long(out, name);
                put_long(out, value);
            }
        }
        if let Some(ttl_ms) = self.ttl_ms {
            out.put_u64_le(ttl_ms);
        }
        out.put_slice(self.payload);
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Takes the first record off `bytes`.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] when the bytes don't begin with a whole record.
    pub fn decode(bytes: &mut &'a [u8]) -> Result<Self, RecordError> {
        let len = bytes.try_get_u32_le().map_err(|_| RecordError::Malformed)? as usize;
        let mut rest = bytes.split_off(..len).ok_or(RecordError::Malformed)?;
        Self::decode_body(&mut rest).ok_or(RecordError::Malformed)
    }

    /// The message has expired, when it was published at that age of the journal and this is its
    /// age now.
    pub fn has_expired(&self, published: JournalAge, now: JournalAge) -> bool {
        self.ttl_ms.is_some_and(|ttl_ms| now.has_passed(published, ttl_ms))
    }

    /// At least its encoded size.
    fn encoded_bytes_max(&self) -> usize {
        // Length, flags, TTL; a length before each text.
        const AROUND: usize = 4 + 1 + 8 + 4 * 2;
        AROUND + self.content_type.len() + self.bytes() + 4 * self.attributes.len()
    }

    /// Bytes of what the producer sent: payload, key, message id and attributes.
    pub fn bytes(&self) -> usize {
        let text = |text: Option<&str>| text.map_or(0, str::len);
        let attributes: usize = self.attributes.iter().map(|(n, v)| n.len() + v.len()).sum();
        let named = text(self.key) + text(self.message_id);
        self.payload.len() + named + attributes
    }

    /// [`bytes`](Self::bytes) of an encoded record, without decoding the rest; `None` if it is
    /// malformed.
    pub(super) fn bytes_of_encoded(encoded: &[u8]) -> Option<usize> {
        let mut rest = encoded.get(4..)?;
        let flags = rest.try_get_u8().ok()?;
        let mut bytes = 0;
        if flags & (CONTENT_TYPE_GIVEN | CONTENT_TYPE_JSON) == CONTENT_TYPE_GIVEN {
            pass_short(&mut rest)?;
        }
        if flags & KEY != 0 {
            bytes += pass_long(&mut rest)?;
        }
        if flags & MESSAGE_ID != 0 {
            bytes += pass_short(&mut rest)?;
        }
        if flags & ATTRIBUTES != 0 {
            let count = rest.try_get_u16_le().ok()?;
            for _ in 0..2 * u32::from(count) {
                bytes += pass_long(&mut rest)?;
            }
        }
        if flags & TTL != 0 {
            rest.try_get_u64_le().ok()?;
        }
        Some(bytes + rest.len())
    }

    /// Some of the encoded records have a `ttl_ms`.
    pub(super) fn any_has_ttl(mut records: &[u8]) -> bool {
        std::iter::from_fn(|| Self::take_encoded(&mut records))
            .any(|record| record.get(4).is_some_and(|flags| flags & TTL != 0))
    }

    /// Takes the first record off `bytes` as it is encoded.
    pub(super) fn take_encoded<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
        let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        bytes.split_off(..len + 4)
    }

    fn decode_body(rest: &mut &'a [u8]) -> Option<Self> {
        let flags = rest.try_get_u8().ok()?;
        let content_type = match flags & (CONTENT_TYPE_GIVEN | CONTENT_TYPE_JSON) {
            CONTENT_TYPE_GIVEN => take_short(rest)?,
            CONTENT_TYPE_JSON => JSON,
            _ => OCTET_STREAM,
        };
        let key = if flags & KEY != 0 { Some(take_long(rest)?) } else { None };
        let message_id = if flags & MESSAGE_ID != 0 { Some(take_short(rest)?) } else { None };
        let mut attributes = Vec::new();
        if flags & ATTRIBUTES != 0 {
            let count = rest.try_get_u16_le().ok()?;
            attributes.reserve_exact(usize::from(count).min(ATTRIBUTES_MAX));
            for _ in 0..count {
                attributes.push((take_long(rest)?, take_long(rest)?));
            }
        }
        let ttl_ms = if flags & TTL != 0 { Some(rest.try_get_u64_le().ok()?) } else { None };
        Some(Self { content_type, key, message_id, attributes, ttl_ms, payload: rest })
    }
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

fn put_long(out: &mut Vec<u8>, text: &str) {
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn pass_short(rest: &mut &[u8]) -> Option<usize> {
    let len = usize::from(rest.try_get_u8().ok()?);
    rest.split_off(..len).map(<[u8]>::len)
}

fn pass_long(rest: &mut &[u8]) -> Option<usize> {
    let len = usize::from(rest.try_get_u16_le().ok()?);
    rest.split_off(..len).map(<[u8]>::len)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = rest.try_get_u8().ok()?;
    std::str::from_utf8(rest.split_off(..usize::from(len))?).ok()
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = rest.try_get_u16_le().ok()?;
    std::str::from_utf8(rest.split_off(..usize::from(len))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_part_has_a_limit_and_the_error_names_it() {
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        let record = Record { key: Some(&long), ..Record::json(b"1") };
        let error = record.validate().unwrap_err();
        assert!(error.to_string().contains("`key` has 1025 bytes"), "{error}");
        let record = Record { key: Some(&long[1..]), ..Record::json(b"1") };
        record.validate().unwrap();
    }

    #[test]
    fn a_content_type_that_would_break_a_header_is_refused() {
        for bad in ["", "a\r\nSet-Cookie: b", "text/plain; charset=\u{e9}"] {
            assert_eq!(Record::of(bad, b"").validate(), Err(RecordError::ContentType), "{bad:?}");
        }
        Record::of("text/plain; charset=\"utf-8\"", b"").validate().unwrap();
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_went_in(
            content_type in prop_oneof![Just(JSON.to_owned()), Just(OCTET_STREAM.to_owned()), ".{0,60}"],
            key in proptest::option::of(".{0,40}"),
            message_id in proptest::option::of("[ -~]{0,128}"),
            attributes in proptest::collection::vec((".{0,12}", ".{0,12}"), 0..5),
            ttl_ms in proptest::option::of(any::<u64>()),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let record = Record {
                content_type: &content_type,
                key: key.as_deref(),
                message_id: message_id.as_deref(),
                attributes: attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
                ttl_ms,
                payload: &payload,
            };
            let mut out = Vec::new();
            record.encode(&mut out);
            let mut bytes = &out[..];
            prop_assert_eq!(Record::decode(&mut bytes).unwrap(), record);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while Record::decode(&mut rest).is_ok() && !rest.is_empty() {}
        }
    }
}
