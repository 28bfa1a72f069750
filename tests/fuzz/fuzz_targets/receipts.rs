//! A receipt is one we gave out or none; what we gave out names its message again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uuid::Uuid;
use weir::model::{Receipt, ReceiptKey, TopicId};

const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// What is opened is the one token for what it names.
fn check(key: &ReceiptKey, token: Uuid) {
    if let Some(receipt) = key.open(token) {
        assert!(receipt.sequence <= SEQUENCE_MAX);
        assert_eq!(key.seal(receipt), token);
        assert_eq!(token.get_version_num(), 8);
    }
}

// 32 bytes: topic (4), sequence (8), bits to flip (16), key (4); the rest is a receipt as text.
fuzz_target!(|bytes: &[u8]| {
    let text = match bytes.split_first_chunk::<32>() {
        None => bytes,
        Some((fixed, text)) => {
            let (topic, fixed) = fixed.split_first_chunk::<4>().unwrap();
            let (sequence, fixed) = fixed.split_first_chunk::<8>().unwrap();
            let (flipped, secret) = fixed.split_first_chunk::<16>().unwrap();
            let key = ReceiptKey::new(
                [secret[0], secret[1], secret[2], secret[3]].repeat(4)[..].try_into().unwrap(),
            );
            let topic = TopicId(u32::from_le_bytes(*topic));
            let sequence = u64::from_le_bytes(*sequence);
            let token = key.seal(Receipt { topic, sequence });
            let named = Receipt { topic, sequence: sequence & SEQUENCE_MAX };
            assert_eq!(key.open(token), Some(named));
            let other = Uuid::from_u128(token.as_u128() ^ u128::from_le_bytes(*flipped));
            check(&key, other);
            check(&key, Uuid::from_u128(u128::from_le_bytes(*flipped)));
            text
        }
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(token) = Uuid::try_parse(text) {
        check(&ReceiptKey::new([7; 16]), token);
        assert_eq!(Uuid::try_parse(&token.to_string()), Ok(token));
    }
});
