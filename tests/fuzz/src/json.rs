//! JSON's grammar (RFC 8259), stated once more, without recursion and without serde_json.

/// The bytes are one JSON value, with nothing but white space around it.
pub fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && Scanner { rest: bytes }.document().is_some()
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
