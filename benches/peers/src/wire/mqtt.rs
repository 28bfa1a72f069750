//! MQTT 3.1.1: a byte that says what it is, a length of one to four bytes, the rest.

use anyhow::{Context, Result, bail, ensure};

use super::lossy;

/// What a broker says.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connack {
        session_present: bool,
    },
    Suback,
    Puback(u16),
    /// `id` at QoS 1.
    Publish {
        id: Option<u16>,
        payload: &'a [u8],
    },
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 128 {
        out.push(length as u8 | 128);
        length /= 128;
    }
    out.push(length as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub fn connect(out: &mut Vec<u8>, client: &str, clean_session: bool) {
    out.push(0x10);
    put_length(out, 10 + 2 + client.len());
    put_text(out, "MQTT");
    // Level 4, flags, no keep-alive.
    out.extend_from_slice(&[4, u8::from(clean_session) << 1, 0, 0]);
    put_text(out, client);
}

pub fn subscribe(out: &mut Vec<u8>, topic: &str, qos: u8) {
    out.push(0x82);
    put_length(out, 2 + 2 + topic.len() + 1);
    out.extend_from_slice(&[0, 1]);
    put_text(out, topic);
    out.push(qos);
}

/// At QoS 1 with an `id`, else at QoS 0.
pub fn publish(out: &mut Vec<u8>, topic: &str, id: Option<u16>, payload: &[u8]) {
    out.push(0x30 | u8::from(id.is_some()) << 1);
    put_length(out, 2 + topic.len() + 2 * usize::from(id.is_some()) + payload.len());
    put_text(out, topic);
    out.extend(id.into_iter().flat_map(u16::to_be_bytes));
    out.extend_from_slice(payload);
}

pub fn puback(out: &mut Vec<u8>, id: u16) {
    out.extend_from_slice(&[0x40, 2]);
    out.extend_from_slice(&id.to_be_bytes());
}

pub fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

/// The packet at the start of `input` and how many bytes it has, if it has come whole.
pub fn packet(input: &[u8]) -> Result<Option<(Packet<'_>, usize)>> {
    let (mut length, mut start) = (0, 1);
    loop {
        let Some(byte) = input.get(start) else { return Ok(None) };
        ensure!(start < 5, "a length of more than four bytes");
        length |= usize::from(byte & 127) << (7 * (start - 1));
        start += 1;
        if byte & 128 == 0 {
            break;
        }
    }
    let Some(rest) = input.get(start..start + length) else { return Ok(None) };
    let packet = match (input[0] >> 4, rest) {
        (2, [present, 0]) => Packet::Connack { session_present: *present == 1 },
        (9, [_, _, 0 | 1]) => Packet::Suback,
        (4, [high, low]) => Packet::Puback(u16::from_be_bytes([*high, *low])),
        (3, _) => published(input[0], rest).context("a message cut short")?,
        _ => bail!("the broker said {:?}", lossy(&input[..start + length])),
    };
    Ok(Some((packet, start + length)))
}

fn published(head: u8, rest: &[u8]) -> Option<Packet<'_>> {
    let (topic, rest) = rest.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*topic))..)?;
    if head & 0b110 == 0 {
        return Some(Packet::Publish { id: None, payload: rest });
    }
    let (id, payload) = rest.split_first_chunk()?;
    Some(Packet::Publish { id: Some(u16::from_be_bytes(*id)), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_comes_back() {
        for id in [None, Some(65_535)] {
            let mut out = Vec::new();
            publish(&mut out, "t", id, &[7; 256]);
            for cut in 0..out.len() {
                assert_eq!(packet(&out[..cut]).unwrap(), None, "{cut}");
            }
            let whole = (Packet::Publish { id, payload: &[7; 256] }, out.len());
            assert_eq!(packet(&out).unwrap(), Some(whole));
        }
    }

    #[test]
    fn small_packets() {
        let mut out = Vec::new();
        puback(&mut out, 258);
        assert_eq!(packet(&out).unwrap(), Some((Packet::Puback(258), 4)));
        assert_eq!(
            packet(&[0x20, 2, 1, 0]).unwrap(),
            Some((Packet::Connack { session_present: true }, 4))
        );
        assert_eq!(packet(&[0x90, 3, 0, 1, 1]).unwrap(), Some((Packet::Suback, 5)));
    }

    #[test]
    fn refusals_are_errors() {
        assert!(packet(&[0x20, 2, 0, 5]).is_err());
        assert!(packet(&[0x90, 3, 0, 1, 0x80]).is_err());
        assert!(packet(&[0x30, 2, 0, 9]).is_err());
        assert!(packet(&[0x30, 255, 255, 255, 255, 1]).is_err());
    }
}
