//! NATS' protocol: lines, and payloads of the length a line says.

use anyhow::{Result, bail, ensure};

use super::{line, lossy, number, put_number};

/// What this client says first. It asks for headers, so that a server without the subject says so.
pub const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\
    \"version\":\"0\",\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Message { subject: &'a [u8], payload: &'a [u8] },
    Ping,
    Pong,
    Info,
}

pub fn publish(out: &mut Vec<u8>, subject: &[u8], reply: Option<(&[u8], u64)>, payload: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some((inbox, n)) = reply {
        out.extend_from_slice(inbox);
        put_number(out, n);
        out.push(b' ');
    }
    put_number(out, payload.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// What stands at the start of `input` and how many bytes it has, if it has come whole.
pub fn said(input: &[u8]) -> Result<Option<(Said<'_>, usize)>> {
    let Some((head, used)) = line(input) else { return Ok(None) };
    let Some(parts) = head.strip_prefix(b"MSG ") else {
        return match head {
            b"PING" => Ok(Some((Said::Ping, used))),
            b"PONG" => Ok(Some((Said::Pong, used))),
            head if head.starts_with(b"INFO ") => Ok(Some((Said::Info, used))),
            head => bail!("NATS said {:?}", lossy(head)),
        };
    };
    // Subject, number of the subscription, a reply subject that nobody here uses, length.
    let space = |byte: &u8| *byte == b' ';
    let (Some(first), Some(last)) = (parts.iter().position(space), parts.iter().rposition(space))
    else {
        bail!("NATS said {:?}", lossy(head));
    };
    let end = used + number(&parts[last + 1..])? as usize;
    if input.len() < end + 2 {
        return Ok(None);
    }
    ensure!(&input[end..end + 2] == b"\r\n", "a message without its end");
    Ok(Some((Said::Message { subject: &parts[..first], payload: &input[used..end] }, end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_to_publish() {
        let mut out = Vec::new();
        publish(&mut out, b"t", Some((b"_INBOX.1.", 42)), b"hello");
        publish(&mut out, b"t", None, b"");
        assert_eq!(out, b"PUB t _INBOX.1.42 5\r\nhello\r\nPUB t 0\r\n\r\n");
    }

    #[test]
    fn messages_come_in_parts() {
        let input = b"MSG _INBOX.1.42 1 5\r\nhe\r\nl\r\nPING\r\n";
        for cut in 0..28 {
            assert_eq!(said(&input[..cut]).unwrap(), None, "{cut}");
        }
        let (message, used) = said(input).unwrap().unwrap();
        assert_eq!(message, Said::Message { subject: b"_INBOX.1.42", payload: b"he\r\nl" });
        assert_eq!(said(&input[used..]).unwrap(), Some((Said::Ping, 6)));
    }

    #[test]
    fn errors_are_errors() {
        assert!(said(b"-ERR 'Unknown Protocol Operation'\r\n").is_err());
        assert!(said(b"HMSG _INBOX.1.1 1 16 16\r\n").is_err());
        assert!(said(b"MSG a 1 2\r\nabcd").is_err());
    }
}
