//! JSON's grammar (RFC 8259), stated once more, without recursion and without serde_json.

/// The bytes are one JSON value, with nothing but white space around it.
pub fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && Scanner { rest: bytes }.document().is_some()
}

/// Most arrays and objects within each other that a message may have.
pub const DEPTH_MAX: usize = 100;

/// What is stored of a payload that is declared JSON; `None` where it is refused.
pub fn stored(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let good = is_json(bytes) && depth(bytes) <= DEPTH_MAX && !has_lone_surrogate(bytes);
    good.then_some(bytes)
}

/// An escape is half of a surrogate pair, and stands alone.
pub fn has_lone_surrogate(json: &[u8]) -> bool {
    let mut rest = json;
    let mut high = false;
    while let [byte, after @ ..] = rest {
        let mut unit = 0;
        rest = match (byte, after) {
            (b'\\', [b'u', a, b, c, d, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0);
                unit = [a, b, c, d].into_iter().fold(0, |unit, byte| unit << 4 | digit(byte));
                after
            }
            (b'\\', [_, after @ ..]) => after,
            _ => after,
        };
        let low = (0xdc00..0xe000).contains(&unit);
        if low != high {
            return true;
        }
        high = (0xd800..0xdc00).contains(&unit);
    }
    high
}

/// The numbers of a JSON value, as they are written.
pub fn numbers(json: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(json).unwrap_or_default();
    let (mut found, mut begun, mut in_string, mut escaped) = (Vec::new(), None, false, false);
    for (at, byte) in text.bytes().chain([b' ']).enumerate() {
        let of_number = matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9')
            || (begun.is_some() && matches!(byte, b'e' | b'E'));
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            _ if of_number => begun = begun.or(Some(at)),
            _ => {}
        }
        if in_string || !of_number {
            found.extend(begun.take().map(|begun| &text[begun..at]));
        }
    }
    found
}

/// How deep the arrays and objects of a JSON value stand in each other.
pub fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}

struct Scanner<'a> {
    rest: &'a [u8],
}

/// What closes the array or object we are in.
#[derive(Clone, Copy, PartialEq)]
enum Close {
    Array,
    Object,
}

impl Scanner<'_> {
    fn take(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn document(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            // A value is due.
            self.space();
            match self.rest.first()? {
                b'[' => {
                    self.take(b'[')?;
                    self.space();
                    if self.take(b']').is_none() {
                        open.push(Close::Array);
                        continue;
                    }
                }
                b'{' => {
                    self.take(b'{')?;
                    self.space();
                    if self.take(b'}').is_none() {
                        self.name()?;
                        open.push(Close::Object);
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended.
            loop {
                self.space();
                let Some(innermost) = open.last() else {
                    return self.rest.is_empty().then_some(());
                };
                match (self.rest.first()?, innermost) {
                    (b',', Close::Array) => {
                        self.take(b',')?;
                        break;
                    }
                    (b',', Close::Object) => {
                        self.take(b',')?;
                        self.space();
                        self.name()?;
                        break;
                    }
                    (b']', Close::Array) | (b'}', Close::Object) => {
                        self.rest = &self.rest[1..];
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.take(b':')
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let (escape, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let (digits, rest) = self.rest.split_first_chunk::<4>()?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.rest = rest;
                        }
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.rest.first() {
            self.rest = &self.rest[1..];
            if let Some(b'+' | b'-') = self.rest.first() {
                self.rest = &self.rest[1..];
            }
            self.digits()?;
        }
        Some(())
    }
}
