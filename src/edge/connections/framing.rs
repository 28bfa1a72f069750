//! Where a request ends among the bytes that a connection sends (RFC 9112 §6 and §7.1).
//!
//! actix-http parses every request in its buffer, and each one that waits takes a few KiB. So the
//! stream gives it one request at a time, and needs to know where each ends.
//!
//! Invariant: bytes with malformed framing count as part of the current request, so that actix-http
//! receives and refuses them.

/// A position in a head, which ends with an empty line after its first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Head {
    /// Before its first line; empty lines are ignored there.
    #[default]
    Before,
    /// Within a line.
    Line,
    /// After a line end.
    LineEnd,
    /// After a line end and a CR.
    Return,
}

impl Head {
    /// Returns how many of the bytes belong to the head, and whether the head ends with them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            *self = match (*self, byte) {
                (Self::Before, b'\r' | b'\n') => Self::Before,
                (Self::LineEnd | Self::Return, b'\n') => {
                    *self = Self::Before;
                    return (at + 1, true);
                }
                (Self::LineEnd, b'\r') => Self::Return,
                (_, b'\n') => Self::LineEnd,
                _ => Self::Line,
            };
        }
        (bytes.len(), false)
    }
}

/// The part of a body that has not been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Bytes left, by `Content-Length`.
    Length(u64),
    /// Chunks, by `Transfer-Encoding`.
    Chunks(Chunks),
}

/// A position in a body of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Within a chunk's size.
    Size(u64),
    /// Within the extensions after a chunk's size.
    Extension(u64),
    /// Within a chunk's data, with this many bytes left.
    Data(u64),
    /// After a chunk's data, before its line end.
    DataEnd,
    /// Within the trailers, on a line that is empty so far, or not.
    Trailer { empty: bool },
    /// The body is complete.
    End,
    /// The framing is malformed.
    Broken,
}

impl Body {
    /// All of it has been received.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunks::End))
    }

    /// Returns how many of the bytes belong to it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Length(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                taken as usize
            }
            Self::Chunks(chunks) => chunks.take(bytes),
        }
    }
}

impl Chunks {
    /// The beginning of a body.
    pub(super) const BEGIN: Self = Self::Size(0);

    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match self {
                Self::End => break,
                Self::Broken => return bytes.len(),
                Self::Data(left) => {
                    let taken = (*left).min((bytes.len() - at) as u64);
                    *left -= taken;
                    at += taken as usize;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                }
                _ => {
                    *self = self.after(bytes[at]);
                    at += 1;
                }
            }
        }
        at
    }

    /// The position after a byte of the framing.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size(size) | Self::Extension(size), b'\n') => match size {
                0 => Self::Trailer { empty: true },
                size => Self::Data(size),
            },
            (Self::Extension(size), _) | (Self::Size(size), b'\r' | b';' | b' ' | b'\t') => {
                Self::Extension(size)
            }
            (Self::Size(size), digit) => {
                let digit = char::from(digit).to_digit(16).map(u64::from);
                let size = digit.and_then(|digit| size.checked_mul(16)?.checked_add(digit));
                size.map_or(Self::Broken, Self::Size)
            }
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::BEGIN,
            (Self::Trailer { empty: true }, b'\n') => Self::End,
            (Self::Trailer { .. }, b'\n') => Self::Trailer { empty: true },
            (Self::Trailer { empty }, b'\r') => Self::Trailer { empty },
            (Self::Trailer { .. }, _) => Self::Trailer { empty: false },
            (Self::DataEnd | Self::Broken, _) => Self::Broken,
            (Self::End | Self::Data(_), _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        for (text, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET"[..], 27),
            (b"GET / HTTP/1.1\n\nGET", 16),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\nrest", 22),
            (b"GET / HTTP/1.1\r\na: b\n\r\nrest", 23),
        ] {
            for cut in 0..text.len() {
                let mut head = Head::default();
                let (first, ended) = head.take(&text[..cut]);
                assert_eq!((first, ended), (cut.min(expected), cut >= expected));
                if !ended {
                    assert_eq!(head.take(&text[cut..]), (expected - cut, true));
                }
            }
        }
        let mut head = Head::default();
        assert_eq!(head.take(b"GET / HTTP/1.1\r\r\nx\r\n"), (20, false));
    }

    #[test]
    fn a_body_of_chunks_ends_behind_its_trailers_however_it_is_cut() {
        for (text, expected) in [
            (&b"3\r\nabc\r\n0\r\n\r\nGET"[..], 13),
            (b"a;x=\"y\"\r\n0123456789\r\n00\r\nTrailer: 1\r\nB: 2\r\n\r\nGET", 45),
            (b"3\nabc\n0\n\nGET", 9),
        ] {
            for cut in 0..text.len() {
                let mut body = Body::Chunks(Chunks::BEGIN);
                let first = body.take(&text[..cut]);
                assert_eq!(first, cut.min(expected));
                assert_eq!(body.take(&text[first..]), expected - first, "{cut}");
                assert!(body.is_complete());
                assert_eq!(body.take(b"more"), 0);
            }
        }
    }

    #[test]
    fn what_follows_no_framing_is_passed_on() {
        for text in [&b"xyz\r\nabc"[..], b"3\r\nabcd\r\n", b"fffffffffffffffff\r\n"] {
            let mut body = Body::Chunks(Chunks::BEGIN);
            assert_eq!(body.take(text), text.len());
            assert!(!body.is_complete());
        }
    }
}
