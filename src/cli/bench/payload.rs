//! Payloads that do not compress and contain their due time and a checksum.
//!
//! ```text
//! due u64 · number u64 · hash u64 · random bytes
//! ```
//!
//! The hash is XXH3 of the random bytes, seeded with the rest; one payload in [`HASHED_EVERY`] has
//! one, since hashing each cost the measured machine a tenth of its time, and the others have 0. As
//! text the three numbers are in hexadecimal and the random bytes are drawn from 64 letters, so
//! that a JSON string needs no escapes.

use std::io::Write;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of randomness that payloads are cut from.
const POOL_BYTES: usize = 1024 * 1024;
/// One payload in this many has a hash.
const HASHED_EVERY: u64 = 16;
const HEAD_BYTES: usize = 24;
const TEXT_HEAD_BYTES: usize = 2 * HEAD_BYTES;
/// The least that has room for a payload's head.
pub(super) const PAYLOAD_BYTES_MIN: usize = 64;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Nanoseconds of the system's monotonic clock, which all processes share.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The bytes that all payloads of a process are cut from, each from another position.
#[derive(Clone)]
pub(super) struct Pool {
    random: Rc<[u8]>,
    bytes: usize,
    text: bool,
}

impl Pool {
    /// For payloads of `bytes`, or JSON strings of `bytes` with their quotes.
    pub(super) fn new(bytes: usize, text: bool, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        // xorshift64* (Vigna, 2014): enough to be incompressible.
        let mut random = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
        };
        let random = (0..POOL_BYTES + bytes)
            .map(|_| if text { LETTERS[usize::from(random()) % 64] } else { random() })
            .collect();
        Self { random, bytes: if text { bytes - 2 } else { bytes }, text }
    }
}

/// Makes payloads.
pub(super) struct Payloads {
    pool: Pool,
    number: u64,
}

impl Payloads {
    /// The payloads of one connection; `source` distinguishes it from others.
    pub(super) fn new(pool: Pool, source: u64) -> Self {
        Self { pool, number: source << 32 }
    }

    /// Appends the next one, without quotes.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, due_ns: u64) {
        self.number += 1;
        let Pool { random, bytes, text } = &self.pool;
        let head = if *text { TEXT_HEAD_BYTES } else { HEAD_BYTES };
        let from = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let from = from as usize % POOL_BYTES;
        let rest = &random[from..from + bytes - head];
        let hash = hash(due_ns, self.number, rest);
        if *text {
            let number = self.number;
            // Writing to memory does not fail.
            let _ = write!(out, "{due_ns:016x}{number:016x}{hash:016x}");
        } else {
            for part in [due_ns, self.number, hash] {
                out.extend_from_slice(&part.to_le_bytes());
            }
        }
        out.extend_from_slice(rest);
    }
}

fn hash(due_ns: u64, number: u64, rest: &[u8]) -> u64 {
    if !number.is_multiple_of(HASHED_EVERY) {
        return 0;
    }
    xxh3_64_with_seed(rest, due_ns ^ number.rotate_left(32))
}

/// Checks a payload that came back, and returns when it was due.
///
/// # Errors
/// It has another length, or differs from what was sent.
pub(super) fn check(payload: &[u8], bytes: usize, text: bool) -> anyhow::Result<u64> {
    let expected = if text { bytes - 2 } else { bytes };
    ensure!(payload.len() == expected, "a payload has {} bytes, not {expected}", payload.len());
    let parts = if text {
        let (head, rest) = payload.split_at(TEXT_HEAD_BYTES);
        let head = std::str::from_utf8(head).context("a payload's head")?;
        let part = |n: usize| u64::from_str_radix(&head[n * 16..n * 16 + 16], 16);
        (part(0)?, part(1)?, part(2)?, rest)
    } else {
        let part = |n: usize| payload[n * 8..].first_chunk().map(|part| u64::from_le_bytes(*part));
        let (Some(due), Some(number), Some(hash)) = (part(0), part(1), part(2)) else {
            bail!("a payload without a head")
        };
        (due, number, hash, &payload[HEAD_BYTES..])
    };
    let (due_ns, number, sealed, rest) = parts;
    ensure!(hash(due_ns, number, rest) == sealed, "a payload is not what was sent");
    Ok(due_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_say_when_they_were_due_and_any_change_is_noticed() {
        for text in [false, true] {
            let mut payloads = Payloads::new(Pool::new(100, text, 7), 7);
            let (mut one, mut other) = (Vec::new(), Vec::new());
            payloads.write(&mut one, 42);
            payloads.write(&mut other, 42);
            assert_ne!(one, other);
            assert_eq!(check(&one, 100, text).unwrap(), 42);
            assert!(check(&one[1..], 100, text).is_err());
            let mut hashed = one;
            for _ in 0..HASHED_EVERY {
                let mut next = Vec::new();
                payloads.write(&mut next, 42);
                if payloads.number.is_multiple_of(HASHED_EVERY) {
                    hashed = next;
                }
            }
            for at in 0..hashed.len() {
                let mut bad = hashed.clone();
                bad[at] ^= 1;
                assert!(check(&bad, 100, text).is_err(), "byte {at}");
            }
        }
    }
}
