//! The producer's own ids for its messages, as the dedup window keeps them.
//!
//! An id is kept as a keyed 128-bit hash (SipHash-2-4 with 128 bits of output), so that no client
//! can make two ids collide; a payload as a 64-bit hash (XXH3 with a seed from the same key), which
//! only has to show a client that it used one id for two messages. Windows are a topic's own, so
//! ids of different topics never collide.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The secret message ids are hashed with; 128 bits.
#[derive(Clone)]
pub struct MessageIdKey([u8; 16]);

/// The fingerprint kept of a message with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its id.
    pub id: u128,
    /// Its payload.
    pub payload: u64,
}

impl MessageIdKey {
    /// Uses the given secret.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// The fingerprint of a message.
    pub fn fingerprint(&self, message_id: &str, payload: &[u8]) -> Fingerprint {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(message_id.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        let seed = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Fingerprint { id: hasher.finish128().as_u128(), payload: xxh3_64_with_seed(payload, seed) }
    }
}

impl fmt::Debug for MessageIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageIdKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_payload_and_key_all_count() {
        let key = MessageIdKey::new([1; 16]);
        let one = key.fingerprint("a", b"x");
        assert_eq!(one, key.fingerprint("a", b"x"));
        assert_ne!(one.id, key.fingerprint("b", b"x").id);
        assert_ne!(one.payload, key.fingerprint("a", b"y").payload);
        assert_ne!(one.id, MessageIdKey::new([2; 16]).fingerprint("a", b"x").id);
    }
}
