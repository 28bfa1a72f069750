//! What goes over the wires, encoded and read by hand, each protocol in the same way: encoders
//! append to a buffer, readers take a buffer that may end anywhere and say how much of it they
//! used. They take what the peers send to this client and refuse the rest; they are no libraries.

pub mod http;
pub mod mqtt;
pub mod nats;
pub mod resp;
pub mod websocket;

use std::io::Read;
use std::net::TcpStream;

use anyhow::{Result, bail, ensure};

/// The line at the start of `input`, without its CRLF, and how long it is with it.
pub fn line(input: &[u8]) -> Option<(&[u8], usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&input[..end], end + 2))
}

/// A number in decimal digits.
pub fn number(digits: &[u8]) -> Result<u64> {
    ensure!(!digits.is_empty() && digits.len() <= 19, "not a number: {:?}", lossy(digits));
    digits.iter().try_fold(0, |value, digit| {
        ensure!(digit.is_ascii_digit(), "not a number: {:?}", lossy(digits));
        Ok(value * 10 + u64::from(digit - b'0'))
    })
}

/// The number after `name` in a small JSON text, which is looked for without decoding the text.
pub fn field(json: &[u8], name: &[u8]) -> Result<u64> {
    let Some(at) = json.windows(name.len()).position(|part| part == name) else {
        bail!("no {} in {:?}", lossy(name), lossy(json));
    };
    let rest = &json[at + name.len()..];
    number(&rest[..rest.iter().take_while(|byte| byte.is_ascii_digit()).count()])
}

/// Appends a number in decimal digits.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// For error messages.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

/// Reads from a blocking socket until `take` finds what it waits for at the start of what came,
/// and how long it is. For handshakes, before the load: nothing may follow.
pub fn await_answer<T>(
    stream: &mut TcpStream,
    mut take: impl FnMut(&[u8]) -> Result<Option<(T, usize)>>,
) -> Result<T> {
    let mut came = Vec::new();
    loop {
        let mut part = [0; 4096];
        let n = stream.read(&mut part)?;
        ensure!(n > 0, "the server closed the connection; it said {:?}", lossy(&came));
        came.extend_from_slice(&part[..n]);
        if let Some((answer, used)) = take(&came)? {
            ensure!(used == came.len(), "unexpected: {:?}", lossy(&came[used..]));
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for value in [0, 7, 10, 255, u64::MAX / 10] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
            assert_eq!(number(&out).unwrap(), value);
        }
        assert!(number(b"").is_err() && number(b"1x").is_err() && number(b"-1").is_err());
        assert_eq!(field(br#"{"stream":"T", "seq":12}"#, br#""seq":"#).unwrap(), 12);
        assert!(field(br#"{"error":{}}"#, br#""seq":"#).is_err());
    }

    #[test]
    fn lines() {
        assert_eq!(line(b"+OK\r\nrest"), Some((&b"+OK"[..], 5)));
        assert_eq!(line(b"+OK\r"), None);
    }
}
