//! WebSocket frames (RFC 6455): a client's are masked, a server's come whole and unmasked.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use super::{await_answer, http, lossy};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The key and the answer to it that stand as an example in RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
}

/// Appends a masked frame.
pub fn frame(out: &mut Vec<u8>, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    // Eight bytes at a time; the compiler makes more of it.
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = out[start..].chunks_exact_mut(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
    }
    for (place, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[place % 4];
    }
}

/// The frame at the start of `input` and how many bytes it has, if it has come whole.
pub fn received(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    ensure!(first & 0xf0 == 0x80, "a fragment, or a frame with extensions");
    let (length, start) = match second {
        0..126 => (usize::from(*second), 2),
        126 => match rest.first_chunk() {
            Some(length) => (usize::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (usize::try_from(u64::from_be_bytes(*length))?, 10),
            None => return Ok(None),
        },
        _ => bail!("a server's frame is masked"),
    };
    let end = usize::checked_add(start, length).context("a frame's length")?;
    let Some(payload) = input.get(start..end) else { return Ok(None) };
    let opcode = first & 15;
    ensure!(opcode != CLOSE, "the server closed the socket: {:?}", lossy(payload));
    Ok(Some((Frame { opcode, payload }, end)))
}

/// Opens a socket and gives its first frame, if it is one to wait for. Blocking.
pub fn open(
    stream: &mut TcpStream,
    at: SocketAddr,
    path: &str,
    protocol: Option<&str>,
    greets: bool,
) -> Result<Vec<u8>> {
    let protocol_line =
        protocol.map_or(String::new(), |name| format!("sec-websocket-protocol: {name}\r\n"));
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {at}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n{protocol_line}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let upgraded = |came: &[u8]| {
        let Some(end) = came.windows(4).position(|part| part == b"\r\n\r\n") else {
            return Ok(None);
        };
        let (head, rest) = (&came[..end], &came[end + 4..]);
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "no upgrade: {:?}", lossy(came));
        let accept = http::header(head, "sec-websocket-accept");
        ensure!(accept == Some(ACCEPT), "another key's answer: {:?}", lossy(head));
        let chosen = http::header(head, "sec-websocket-protocol");
        ensure!(chosen == protocol.map(str::as_bytes), "another protocol: {:?}", lossy(head));
        if !greets {
            return Ok(Some((Vec::new(), end + 4)));
        }
        let first = received(rest)?;
        Ok(first.map(|(frame, used)| (frame.payload.to_vec(), end + 4 + used)))
    };
    await_answer(stream, upgraded).with_context(|| format!("opening the WebSocket {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server makes of a client's frame.
    fn unmasked(sent: &[u8], head: usize) -> Vec<u8> {
        let (mask, payload) = sent[head..].split_at(4);
        payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    #[test]
    fn frames_are_masked() {
        for (length, head) in [(0, 2), (5, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut sent = Vec::new();
            frame(&mut sent, BINARY, [1, 2, 3, 250], &payload);
            assert_eq!(sent[0], 0x82);
            assert_eq!(sent.len(), head + 4 + length);
            assert_eq!(unmasked(&sent, head), payload);
        }
    }

    #[test]
    fn frames_come_in_parts() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let mut input = Vec::new();
            frame(&mut input, TEXT, [0; 4], &vec![7; length]);
            // A server's frame is the same without mask bit and mask.
            input[1] &= 127;
            let head = input.len() - length;
            input.drain(head - 4..head);
            for cut in 0..input.len().min(300) {
                assert_eq!(received(&input[..cut]).unwrap(), None);
            }
            let (whole, used) = received(&input).unwrap().unwrap();
            assert_eq!((whole.opcode, whole.payload.len(), used), (TEXT, length, input.len()));
        }
    }

    #[test]
    fn fragments_masks_and_closes_are_errors() {
        assert!(received(&[0x01, 0]).is_err());
        assert!(received(&[0x81, 0x80, 0, 0, 0, 0]).is_err());
        assert!(received(&[0x88, 2, 3, 232]).is_err());
    }
}
