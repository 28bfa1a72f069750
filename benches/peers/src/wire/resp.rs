//! Redis' protocol: commands as arrays of bulk strings, answers one by one.

use anyhow::{Result, bail, ensure};

use super::{line, lossy, number, put_number};

/// An answer of the kinds that the commands used here have.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Text(&'a [u8]),
    Number(u64),
}

pub fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.push(b'*');
    put_number(out, parts.len() as u64);
    out.extend_from_slice(b"\r\n");
    for part in parts {
        out.push(b'$');
        put_number(out, part.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// The answer at the start of `input` and how many bytes it has, if it has come whole.
pub fn answer(input: &[u8]) -> Result<Option<(Answer<'_>, usize)>> {
    let Some((head, used)) = line(input) else { return Ok(None) };
    match head.split_first() {
        Some((b'+', text)) => Ok(Some((Answer::Text(text), used))),
        Some((b':', digits)) => Ok(Some((Answer::Number(number(digits)?), used))),
        Some((b'$', digits)) => {
            let end = used + number(digits)? as usize;
            if input.len() < end + 2 {
                return Ok(None);
            }
            ensure!(&input[end..end + 2] == b"\r\n", "a bulk string without its end");
            Ok(Some((Answer::Text(&input[used..end]), end + 2)))
        }
        _ => bail!("Redis answered {:?}", lossy(head)),
    }
}

/// A stream entry's id, milliseconds and sequence number, as one number that rises as ids do.
pub fn entry_id(text: &[u8]) -> Result<u128> {
    let Some(dash) = text.iter().position(|byte| *byte == b'-') else {
        bail!("not an entry's id: {:?}", lossy(text));
    };
    let (time, sequence) = (number(&text[..dash])?, number(&text[dash + 1..])?);
    Ok(u128::from(time) << 64 | u128::from(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command() {
        let mut out = Vec::new();
        command(&mut out, &[b"XLEN", b"t"]);
        assert_eq!(out, b"*2\r\n$4\r\nXLEN\r\n$1\r\nt\r\n");
    }

    #[test]
    fn answers_come_in_parts() {
        let input = b"$15\r\n1700000000000-7\r\n:12\r\n";
        for cut in 0..22 {
            assert_eq!(answer(&input[..cut]).unwrap(), None);
        }
        let (first, used) = answer(input).unwrap().unwrap();
        assert_eq!(first, Answer::Text(b"1700000000000-7"));
        assert_eq!(answer(&input[used..]).unwrap(), Some((Answer::Number(12), 5)));
    }

    #[test]
    fn errors_are_errors() {
        assert!(answer(b"-ERR unknown command\r\n").is_err());
        assert!(answer(b"$-1\r\n").is_err());
        assert!(answer(b"$1\r\nabcd").is_err());
    }

    #[test]
    fn ids_rise() {
        let ids = [&b"1-9"[..], b"2-0", b"2-1", b"10-0"].map(|id| entry_id(id).unwrap());
        assert!(ids.is_sorted_by(|one, other| one < other));
        assert!(entry_id(b"12").is_err());
    }
}
