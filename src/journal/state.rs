//! Small durable state: values under keys that begin with their owner.
//!
//! The owner of a key puts and removes it with a [`Unit`](super::Unit); recovery, backup, rebuild
//! and deletion need not know what it means. `format.md` lists all keys.
//!
//! Invariant: a value comes back with its checksum verified, or as an error that names the key.

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use super::JournalError;
use crate::model::OwnerId;

/// Tags from here on are looked up when they are needed; those below are loaded at each start.
const BULK: u8 = 0x80;
/// A start refuses unknown tags among these.
const CRITICAL: u8 = 0x40;
/// The journal's own tag: a stream's extent.
pub(super) const EXTENT: u8 = b'e';

/// The key of a value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey(SmallVec<[u8; INLINE_BYTES]>);

/// Most keys are as short as this, and need no memory of their own.
const INLINE_BYTES: usize = 24;

impl StateKey {
    /// The key of an owner with this tag, and the rest that makes it unique.
    pub fn new(owner: OwnerId, tag: u8, rest: &[u8]) -> Self {
        let mut key = SmallVec::with_capacity(5 + rest.len());
        key.extend_from_slice(&owner.0.to_be_bytes());
        key.push(tag);
        key.extend_from_slice(rest);
        Self(key)
    }

    /// A key of the shared state.
    pub fn word(word: &str) -> Self {
        let mut key = SmallVec::with_capacity(4 + word.len());
        key.extend_from_slice(&OwnerId::JOURNAL.0.to_be_bytes());
        key.extend_from_slice(word.as_bytes());
        Self(key)
    }

    /// A key as it was stored; `None` for one that is too short.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        (key.len() >= 5).then(|| Self(key.into()))
    }

    /// Its owner.
    pub fn owner(&self) -> OwnerId {
        OwnerId((&self.0[..]).get_u32())
    }

    /// What kind of value it is.
    pub fn tag(&self) -> u8 {
        self.0[4]
    }

    /// What follows the tag.
    pub fn rest(&self) -> &[u8] {
        &self.0[5..]
    }

    /// The word, of a key of the shared state.
    pub fn as_word(&self) -> Option<&str> {
        let word = (self.owner() == OwnerId::JOURNAL).then(|| &self.0[4..])?;
        std::str::from_utf8(word).ok()
    }

    /// Its value is looked up when it is needed.
    pub(super) fn is_bulk(&self) -> bool {
        self.tag() & BULK != 0
    }

    /// A version that does not know it must not open the directory.
    pub fn is_critical(&self) -> bool {
        self.owner() != OwnerId::JOURNAL && self.tag() & CRITICAL != 0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_word() {
            Some(word) => write!(f, "`{word}`"),
            None => write!(f, "{}/{:#04x}/{:?}", self.owner().0, self.tag(), self.rest()),
        }
    }
}

/// A value as it is stored: behind its checksum.
pub(super) fn seal(key: &StateKey, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + value.len());
    out.put_u32_le(crc(key, value));
    out.put_slice(value);
    out
}

/// The value that was sealed.
pub(super) fn open(key: &StateKey, sealed: &Bytes) -> Result<Bytes, JournalError> {
    let damaged = || JournalError::Metadata(format!("the value of {key:?} is damaged"));
    let mut rest = &sealed[..];
    let found = rest.try_get_u32_le().map_err(|_| damaged())?;
    if found != crc(key, rest) {
        return Err(damaged());
    }
    Ok(sealed.slice(4..))
}

fn crc(key: &StateKey, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.0), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_whose_it_is_and_when_it_is_read() {
        let key = StateKey::new(OwnerId(7), 0x81, b"rest");
        assert_eq!((key.owner(), key.tag(), key.rest()), (OwnerId(7), 0x81, &b"rest"[..]));
        assert!(key.is_bulk() && !key.is_critical());
        assert!(StateKey::new(OwnerId(7), b't', b"").is_critical());
        assert_eq!(StateKey::word("secret/x").as_word(), Some("secret/x"));
        assert!(StateKey::parse(b"abcd").is_none());
    }

    #[test]
    fn a_value_is_bound_to_its_key() {
        let (key, other) = (StateKey::new(OwnerId(7), b't', b""), StateKey::word("t"));
        let sealed = Bytes::from(seal(&key, b"value"));
        assert_eq!(open(&key, &sealed).unwrap(), &b"value"[..]);
        assert!(open(&other, &sealed).is_err());
        assert!(open(&key, &sealed.slice(1..)).is_err());
    }
}
