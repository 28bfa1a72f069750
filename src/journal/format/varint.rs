//! Numbers of variable length (unsigned LEB128), and differences as such numbers.
//!
//! Most numbers in the journal are small or close to the one before, so a block's directory entry
//! takes about 25 bytes instead of 72.

use bytes::{Buf, BufMut};

/// Most bytes that a number takes.
const BYTES_MAX: usize = 10;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the difference of two numbers.
pub(crate) fn put_difference(out: &mut Vec<u8>, value: u64, from: u64) {
    let difference = value.wrapping_sub(from) as i64;
    put(out, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Takes a number; `None` if the bytes are not the shortest form of one.
#[inline]
pub(crate) fn take(rest: &mut &[u8]) -> Option<u64> {
    // Most are of one byte.
    let (first, after) = rest.split_first()?;
    if *first < 0x80 {
        *rest = after;
        return Some(u64::from(*first));
    }
    take_long(rest)
}

fn take_long(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for n in 0..BYTES_MAX {
        let byte = rest.try_get_u8().ok()?;
        let low = u64::from(byte & 0x7f);
        if n == BYTES_MAX - 1 && low > 1 {
            return None;
        }
        value |= low << (7 * n);
        if byte < 0x80 {
            return (byte != 0 || n == 0).then_some(value);
        }
    }
    None
}

/// Takes a number of 32 bits.
pub(crate) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest)?.try_into().ok()
}

/// Takes a number that was put as a difference to `from`.
pub(crate) fn take_difference(rest: &mut &[u8], from: u64) -> Option<u64> {
    let value = take(rest)?;
    let difference = (value >> 1) as i64 ^ -((value & 1) as i64);
    Some(from.wrapping_add(difference as u64))
}

/// Takes bytes that follow their length.
pub(crate) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take(rest)?).ok()?;
    rest.split_off(..len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_differences_come_back(value: u64, shift in 0u32..64, from: u64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put(&mut out, value);
            put_difference(&mut out, value, from);
            let mut rest = &out[..];
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert_eq!(take_difference(&mut rest, from), Some(value));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_number_has_one_form_and_no_more_than_64_bits() {
        assert_eq!(take(&mut &[0x80, 0x00][..]), None, "a longer form of 0");
        assert_eq!(take(&mut &[0xff; 10][..]), None);
        assert_eq!(take(&mut &[0x80][..]), None, "cut short");
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(take(&mut &most[..]), Some(u64::MAX));
    }
}
