//! The payloads: 256 bytes each, incompressible, each one different.
//!
//! They are cut from a pool of random bytes one after the other, and each is stamped with its
//! number, so that making one costs a copy. The pool comes round after [`POOL`] bytes, far outside
//! the window of any compression a server could do.

/// Size of every payload, what stands for it in JSON with its quotes included.
pub const BYTES: usize = 256;
const POOL: usize = 4 << 20;

/// What may stand in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Any byte.
    Raw,
    /// A JSON string of 254 characters, 6 random bits each.
    Json,
}

/// Gives the payload of any number.
pub struct Payloads {
    pool: Vec<u8>,
    body: Body,
    current: [u8; BYTES],
}

impl Payloads {
    pub fn new(body: Body, seed: u64) -> Self {
        let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pool = Vec::with_capacity(POOL);
        while pool.len() < POOL {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pool.extend(state.to_le_bytes().map(|byte| match body {
                Body::Raw => byte,
                Body::Json => letter(u64::from(byte)),
            }));
        }
        Self { pool, body, current: [0; BYTES] }
    }

    /// The payload of message `n`.
    pub fn of(&mut self, n: u64) -> &[u8; BYTES] {
        let start = (n as usize).wrapping_mul(BYTES) % POOL;
        self.current.copy_from_slice(&self.pool[start..start + BYTES]);
        match self.body {
            Body::Raw => self.current[..8].copy_from_slice(&n.to_le_bytes()),
            Body::Json => {
                for (place, letter_at) in self.current[1..12].iter_mut().enumerate() {
                    *letter_at = letter(n >> (6 * place));
                }
                self.current[0] = b'"';
                self.current[BYTES - 1] = b'"';
            }
        }
        &self.current
    }
}

fn letter(value: u64) -> u8 {
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[value as usize % 64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_is_different_and_of_its_size() {
        for body in [Body::Raw, Body::Json] {
            let mut payloads = Payloads::new(body, 7);
            let round = (POOL / BYTES) as u64;
            let some: std::collections::HashSet<_> =
                (0..2 * round + 5).map(|n| *payloads.of(n)).collect();
            assert_eq!(some.len() as u64, 2 * round + 5);
        }
    }

    #[test]
    fn a_json_payload_is_a_json_string() {
        let text: String = serde_json::from_slice(Payloads::new(Body::Json, 1).of(9)).unwrap();
        assert_eq!(text.len(), BYTES - 2);
    }
}
