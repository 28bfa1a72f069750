//! weir's producers: frames that are acknowledged in ranges, and requests.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};

use crate::publish::{Publisher, Taken};
use crate::wire::websocket::{self, BINARY, PING, PONG, TEXT};
use crate::wire::{field, http, lossy, number, put_number};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutFrame {
    Raw,
    Json,
}

/// A producer socket. Messages are numbered from 1, and every range begins where the one before
/// ended.
pub struct Acked {
    frame: PutFrame,
    mask: [u8; 4],
    text: Vec<u8>,
    sent: u64,
    acknowledged: u64,
}

impl Acked {
    pub fn new(frame: PutFrame, mask: [u8; 4]) -> Self {
        Self { frame, mask, text: Vec::new(), sent: 0, acknowledged: 0 }
    }
}

impl Publisher for Acked {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        self.sent += 1;
        if self.frame == PutFrame::Raw {
            return websocket::frame(out, BINARY, self.mask, payload);
        }
        self.text.clear();
        self.text.extend_from_slice(br#"{"id":"#);
        put_number(&mut self.text, self.sent);
        self.text.extend_from_slice(br#","data":"#);
        self.text.extend_from_slice(payload);
        self.text.push(b'}');
        websocket::frame(out, TEXT, self.mask, &self.text);
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((frame, used)) = websocket::received(&input[taken.used..])? {
            match frame.opcode {
                TEXT => {
                    let (from, to) = range(frame.payload)?;
                    ensure!(
                        from == self.acknowledged + 1 && from <= to && to <= self.sent,
                        "not the next range after {}: {:?}",
                        self.acknowledged,
                        lossy(frame.payload)
                    );
                    taken.messages += to - self.acknowledged;
                    self.acknowledged = to;
                }
                PING => websocket::frame(out, PONG, self.mask, frame.payload),
                other => bail!("a frame with opcode {other}"),
            }
            taken.used += used;
        }
        Ok(taken)
    }
}

/// `{"acked":{"from":1,"to":64}}`
fn range(text: &[u8]) -> Result<(u64, u64)> {
    let read = || {
        let rest = text.strip_prefix(br#"{"acked":{"from":"#)?;
        let rest = rest.strip_suffix(b"}}")?;
        let comma = rest.iter().position(|byte| *byte == b',')?;
        let to = rest[comma..].strip_prefix(br#","to":"#)?;
        Some((number(&rest[..comma]).ok()?, number(to).ok()?))
    };
    read().with_context(|| format!("not an acknowledgement: {:?}", lossy(text)))
}

/// A connection that posts. Every answer has an offset, above the one before.
pub struct Post {
    head: Vec<u8>,
    next: u64,
}

impl Post {
    pub fn new(at: SocketAddr) -> Self {
        let head = format!(
            "POST /v1/topics/t/messages HTTP/1.1\r\nhost: {at}\r\naccept: application/json\r\n\
             content-type: application/json\r\n"
        );
        Self { head: head.into_bytes(), next: 0 }
    }
}

impl Publisher for Post {
    fn publish(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        http::request(out, &self.head, payload);
    }

    fn receive(&mut self, input: &[u8], _out: &mut Vec<u8>) -> Result<Taken> {
        let mut taken = Taken::default();
        while let Some((response, used)) = http::response(&input[taken.used..])? {
            ensure!(response.status == 202, "{} {}", response.status, lossy(response.body));
            let offset = field(response.body, br#""offset":"#)?;
            ensure!(offset >= self.next, "an offset that does not rise: {offset}");
            self.next = offset + 1;
            taken.used += used;
            taken.messages += 1;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(text: &[u8]) -> Vec<u8> {
        [&[0x81, text.len() as u8], text].concat()
    }

    #[test]
    fn ranges_follow_each_other() {
        let mut client = Acked::new(PutFrame::Raw, [0; 4]);
        for _ in 0..9 {
            client.publish(&mut Vec::new(), b"x");
        }
        let mut take = |text: &[u8]| client.receive(&served(text), &mut Vec::new());
        assert_eq!(take(br#"{"acked":{"from":1,"to":4}}"#).unwrap().messages, 4);
        assert!(take(br#"{"acked":{"from":6,"to":7}}"#).is_err());
        assert!(take(br#"{"acked":{"from":5,"to":10}}"#).is_err());
        assert!(take(br#"{"acks":[{"id":5,"error":{}}]}"#).is_err());
        assert_eq!(take(br#"{"acked":{"from":5,"to":9}}"#).unwrap().messages, 5);
    }
}
