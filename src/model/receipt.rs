//! The token of the request/acknowledge pattern: names one published message, without an index.
//!
//! A receipt is a UUID of version 8 (RFC 9562 §5.8). Its 122 free bits are, from the highest: topic
//! id (32), ingest sequence (48; without processors the offset), keyed check (42). The check is
//! SipHash-2-4 under a key that only the broker's nodes know, so a receipt can be recognised as one
//! the broker issued, but grants nothing and cannot be forged in practice.
//!
//! A data directory that was restored has a key for each of its lives, so that a receipt which
//! another life issued for a message that is not here means nothing here.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use uuid::Uuid;

use super::TopicId;

const SEQUENCE_BITS: u32 = 48;
const CHECK_BITS: u32 = 42;

/// What a receipt names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The topic the message was published to.
    pub topic: TopicId,
    /// Its ingest sequence in that topic; the lower 48 bits are kept.
    pub sequence: u64,
}

/// The secrets that seal receipts, by life. Cloning shares them.
#[derive(Clone)]
pub struct ReceiptKey(Arc<[ReceiptLife]>);

/// The secret of the receipts of one life of the data directory.
#[derive(Clone, Copy)]
pub struct ReceiptLife {
    /// Topics from this number on were made in it or later.
    pub from_topic: TopicId,
    /// So were messages from this ingest sequence on, whatever their topic.
    pub from_sequence: u64,
    /// The secret, 128 bits.
    pub secret: [u8; 16],
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptKey(…)")
    }
}

impl ReceiptKey {
    /// Uses the given secret for all receipts.
    pub fn new(secret: [u8; 16]) -> Self {
        Self::of_lives(vec![ReceiptLife { from_topic: TopicId(0), from_sequence: 0, secret }])
    }

    /// Uses the secret of the life that a message came in; oldest first, at least one.
    pub fn of_lives(lives: Vec<ReceiptLife>) -> Self {
        Self(lives.into())
    }

    /// The token for a message.
    pub fn seal(&self, receipt: Receipt) -> Uuid {
        let sequence = receipt.sequence & ((1 << SEQUENCE_BITS) - 1);
        let named = u128::from(receipt.topic.0) << SEQUENCE_BITS | u128::from(sequence);
        let bits = named << CHECK_BITS | u128::from(self.check(receipt.topic, sequence));
        // RFC 9562: 48 bits, version (4), 12 bits, variant (2), 62 bits.
        let high = bits >> 74;
        let middle = (bits >> 62) & 0xfff;
        let low = bits & ((1 << 62) - 1);
        Uuid::new_v8((high << 80 | middle << 64 | low).to_be_bytes())
    }

    /// What a token names; `None` if the broker did not issue it.
    pub fn open(&self, token: Uuid) -> Option<Receipt> {
        let value = token.as_u128();
        let bits = (value >> 80) << 74 | ((value >> 64) & 0xfff) << 62 | value & ((1 << 62) - 1);
        let named = bits >> CHECK_BITS;
        let receipt = Receipt {
            topic: TopicId((named >> SEQUENCE_BITS) as u32),
            sequence: (named as u64) & ((1 << SEQUENCE_BITS) - 1),
        };
        (self.seal(receipt) == token).then_some(receipt)
    }

    fn check(&self, topic: TopicId, sequence: u64) -> u64 {
        let came_in =
            |life: &&ReceiptLife| topic.0 >= life.from_topic.0 || sequence >= life.from_sequence;
        let life = self.0.iter().rev().find(came_in).or(self.0.first());
        let mut hasher = SipHasher24::new_with_key(&life.expect("at least one life").secret);
        hasher.write_u32(topic.0);
        hasher.write_u64(sequence);
        hasher.finish() & ((1 << CHECK_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_receipt_names_its_message_and_no_other_bit_pattern_is_taken(
            topic: u32, sequence in 0u64..1 << 48, flipped in 0u32..128,
        ) {
            let key = ReceiptKey::new([7; 16]);
            let receipt = Receipt { topic: TopicId(topic), sequence };
            let token = key.seal(receipt);
            prop_assert_eq!(token.get_version_num(), 8);
            prop_assert_eq!(token.get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!(key.open(token), Some(receipt));
            prop_assert_eq!(key.open(Uuid::from_u128(token.as_u128() ^ (1 << flipped))), None);
            prop_assert_eq!(ReceiptKey::new([8; 16]).open(token), None);
        }
    }

    #[test]
    fn a_life_knows_the_receipts_of_those_before_it_and_of_no_other_copy() {
        let life = |from_topic, from_sequence, secret| ReceiptLife {
            from_topic: TopicId(from_topic),
            from_sequence,
            secret: [secret; 16],
        };
        let first = life(0, 0, 1);
        let source = ReceiptKey::of_lives(vec![first]);
        let [copy, other] =
            [2, 3].map(|secret| ReceiptKey::of_lives(vec![first, life(5, 1 << 40, secret)]));
        let receipt = |topic, sequence| Receipt { topic: TopicId(topic), sequence };
        let kept = receipt(4, 100);
        assert_eq!(copy.open(source.seal(kept)), Some(kept));
        for new in [receipt(4, 1 << 40), receipt(5, 0)] {
            assert_eq!(copy.open(copy.seal(new)), Some(new));
            assert_eq!(copy.open(source.seal(new)), None, "a message of the source's later days");
            assert_eq!(copy.open(other.seal(new)), None, "a message of another copy");
        }
    }
}
