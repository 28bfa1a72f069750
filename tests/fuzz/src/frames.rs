//! WebSocket frames (RFC 6455 §5), stated once more: where they begin and end, and which a client
//! may not send.

/// A frame, or as much of one as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub start: usize,
    /// Where its header ends.
    pub payload: usize,
    /// Where it ends; it may not have come that far.
    pub end: usize,
}

/// What stands in bytes that came.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// Those that are whole and may be sent.
    pub whole: Vec<Found>,
    /// The first one that may not be sent, up to which everything is whole.
    pub refused: Option<Found>,
    /// The last one, if its payload has not come whole.
    pub begun: Option<Found>,
}

/// Finds the frames in what a client sent.
pub fn find(wire: &[u8], payload_bytes_max: usize) -> Frames {
    let mut frames = Frames::default();
    let mut start = 0;
    while let Some((header_bytes, payload_bytes)) = header(&wire[start..]) {
        let payload = start + header_bytes;
        let end = payload.saturating_add(usize::try_from(payload_bytes).unwrap_or(usize::MAX));
        let found = Found { start, payload, end };
        let whole = wire.get(payload..end);
        if !may_be_sent(&wire[start..payload], payload_bytes, payload_bytes_max)
            || whole.is_some_and(|masked| !may_close(&wire[start..payload], masked))
        {
            frames.refused = Some(found);
            break;
        }
        if whole.is_none() {
            frames.begun = Some(found);
            break;
        }
        frames.whole.push(found);
        start = end;
    }
    frames
}

/// Bytes of a whole header and of the payload it announces.
fn header(bytes: &[u8]) -> Option<(usize, u64)> {
    let second = *bytes.get(1)?;
    let (length_bytes, payload_bytes) = match second & 0x7f {
        126 => (2, bytes.get(2..4)?.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))),
        127 => (8, bytes.get(2..10)?.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))),
        short => (0, u64::from(short)),
    };
    let header_bytes = 2 + length_bytes + if second & 0x80 == 0 { 0 } else { 4 };
    (bytes.len() >= header_bytes).then_some((header_bytes, payload_bytes))
}

fn may_be_sent(header: &[u8], payload_bytes: u64, payload_bytes_max: usize) -> bool {
    let good_opcode = match (header[0] & 0x0f, header[0] & 0x80 != 0) {
        (0 | 1 | 2, _) => true,
        (8 | 9 | 10, fin) => fin && payload_bytes <= 125,
        _ => false,
    };
    let reserved_bits = header[0] & 0x70;
    let masked = header[1] & 0x80 != 0;
    good_opcode && reserved_bits == 0 && masked && payload_bytes <= payload_bytes_max as u64
}

/// A close frame holds nothing, or a code that may be sent and a reason in UTF-8.
fn may_close(header: &[u8], masked: &[u8]) -> bool {
    let mask = &header[header.len() - 4..];
    let payload: Vec<u8> = masked.iter().enumerate().map(|(n, b)| b ^ mask[n % 4]).collect();
    match &payload[..] {
        _ if header[0] & 0x0f != 8 => true,
        [] => true,
        [_] => false,
        [high, low, reason @ ..] => {
            let code = u16::from(*high) * 256 + u16::from(*low);
            let registered = (1000..=1014).contains(&code) && !(1004..=1006).contains(&code);
            (registered || (3000..5000).contains(&code)) && std::str::from_utf8(reason).is_ok()
        }
    }
}

/// Writes a frame that a client may send, its payload masked.
pub fn write(wire: &mut Vec<u8>, first: u8, length_form: u8, mask: [u8; 4], payload: &[u8]) {
    wire.push(first);
    match (length_form, payload.len()) {
        (0, short @ 0..126) => wire.push(0x80 | short as u8),
        (0 | 1, medium @ 0..0x1_0000) => {
            wire.push(0x80 | 126);
            wire.extend((medium as u16).to_be_bytes());
        }
        (_, long) => {
            wire.push(0x80 | 127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(mask);
    wire.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
}
