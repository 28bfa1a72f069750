//! The header of a WebSocket frame (RFC 6455 §5.2), and the rules for a client's frames.
//!
//! The codec behind the guard accepts frames for which the standard demands that the connection
//! ends: reserved bits, long or fragmented control frames, unmasked frames, malformed close frames.

/// The longest frame header: 2 bytes, 8 of length, 4 of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (§5.5).
const CONTROL_BYTES_MAX: u64 = 125;

const CLOSE: u8 = 0x8;

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is larger than is allowed.
    TooLarge,
    /// It breaks the standard.
    Protocol,
    /// What must be text isn't.
    NotUtf8,
}

/// A complete frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    first: u8,
    masked: bool,
    mask: [u8; 4],
    /// Bytes of the header itself.
    pub(super) header_bytes: usize,
    /// Bytes of the payload, as declared.
    pub(super) payload_bytes: u64,
}

impl FrameHeader {
    /// The header at the beginning of these bytes, once enough of it has arrived.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let masked = second & 0x80 != 0;
        let (length_bytes, payload_bytes) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (8, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            short => (0, u64::from(short)),
        };
        let mask_at = 2 + length_bytes;
        let mask = if masked { bytes.get(mask_at..mask_at + 4)?.try_into().ok()? } else { [0; 4] };
        let header_bytes = mask_at + if masked { 4 } else { 0 };
        Some(Self { first, masked, mask, header_bytes, payload_bytes })
    }

    /// The frame is a close frame.
    pub(super) fn is_close(&self) -> bool {
        self.opcode() == CLOSE
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Checks what can be checked before the payload has arrived.
    pub(super) fn check(&self, payload_bytes_max: u64) -> Result<(), Refusal> {
        let (fin, reserved_bits) = (self.first & 0x80 != 0, self.first & 0x70);
        let known = matches!(self.opcode(), 0x0..=0x2 | 0x8..=0xa);
        let control = self.opcode() & 0x8 != 0;
        let good_control = !control || (fin && self.payload_bytes <= CONTROL_BYTES_MAX);
        // A length's highest bit must be 0.
        let good_length = i64::try_from(self.payload_bytes).is_ok();
        if reserved_bits != 0 || !known || !self.masked || !good_control || !good_length {
            return Err(Refusal::Protocol);
        }
        if self.payload_bytes > payload_bytes_max {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    /// Checks a close frame's payload, as received: a status code and a reason in UTF-8, or nothing
    /// (§5.5.1, §7.4).
    pub(super) fn check_close(&self, payload: &[u8]) -> Result<(), Refusal> {
        let unmasked: Vec<u8> =
            payload.iter().zip(self.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let Some((code, reason)) = unmasked.split_first_chunk() else {
            return if unmasked.is_empty() { Ok(()) } else { Err(Refusal::Protocol) };
        };
        match u16::from_be_bytes(*code) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => {}
            _ => return Err(Refusal::Protocol),
        }
        match std::str::from_utf8(reason) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::NotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8]) -> Result<(), Refusal> {
        FrameHeader::parse(bytes).unwrap().check(1_000)
    }

    #[test]
    fn a_header_is_read_once_it_is_whole() {
        let header = [0x82, 0x80 | 126, 1, 0, 9, 8, 7, 6];
        for short in 0..header.len() {
            assert_eq!(FrameHeader::parse(&header[..short]), None);
        }
        let read = FrameHeader::parse(&header).unwrap();
        assert_eq!((read.header_bytes, read.payload_bytes, read.mask), (8, 256, [9, 8, 7, 6]));
    }

    #[test]
    fn frames_that_break_the_standard_are_told_by_their_header() {
        assert_eq!(checked(&[0x81, 0x80, 0, 0, 0, 0]), Ok(()));
        for bad in [
            [0xc1, 0x80], // a reserved bit
            [0x83, 0x80], // a reserved opcode
            [0x8b, 0x80], // a reserved control opcode
            [0x09, 0x80], // a fragmented ping
            [0x81, 0x00], // unmasked
        ] {
            assert_eq!(checked(&[&bad[..], &[0; 4]].concat()), Err(Refusal::Protocol), "{bad:x?}");
        }
        assert_eq!(checked(&[0x89, 0x80 | 126, 0, 126, 0, 0, 0, 0]), Err(Refusal::Protocol));
        let longest = |first: u8| [&[0x82, 0x80 | 127, first][..], &[0xff; 7], &[0; 4]].concat();
        assert_eq!(checked(&longest(0x7f)), Err(Refusal::TooLarge));
        assert_eq!(checked(&longest(0x80)), Err(Refusal::Protocol));
        assert_eq!(checked(&[0x82, 0x80 | 126, 0x03, 0xe8, 0, 0, 0, 0]), Ok(()));
        assert_eq!(checked(&[0x82, 0x80 | 126, 0x03, 0xe9, 0, 0, 0, 0]), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_close_frame_holds_a_code_that_may_be_sent_and_text_or_nothing() {
        let header = FrameHeader::parse(&[0x88, 0x80, 1, 2, 3, 4]).unwrap();
        let close = |payload: &[u8]| {
            let mask = [1, 2, 3, 4].into_iter().cycle();
            let masked: Vec<u8> = payload.iter().zip(mask).map(|(b, m)| b ^ m).collect();
            header.check_close(&masked)
        };
        let code = |code: u16| close(&code.to_be_bytes());
        assert_eq!(close(b""), Ok(()));
        assert_eq!(close(b"x"), Err(Refusal::Protocol));
        for good in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
            assert_eq!(code(good), Ok(()), "{good}");
        }
        for bad in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert_eq!(code(bad), Err(Refusal::Protocol), "{bad}");
        }
        assert_eq!(close(b"\x03\xe8goodbye"), Ok(()));
        assert_eq!(close(b"\x03\xe8\xff"), Err(Refusal::NotUtf8));
    }
}
