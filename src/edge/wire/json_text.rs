//! JSON text, token by token: what its grammar allows and a message may not hold, and what
//! MessagePack can't represent.
//!
//! The text is known to be JSON in UTF-8 (serde_json has read it); here it is scanned without
//! recursion and nothing is built.

/// Most arrays and objects within each other (API.md, "Messages"): what common readers accept.
pub(super) const DEPTH_MAX: usize = 100;

/// The byte order mark that some programs put before UTF-8 text; JSON's grammar does not have it.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes without a byte order mark before them.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Checks what JSON's grammar leaves open: depth, and surrogates in pairs.
///
/// # Errors
/// The fault.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    // Decides nearly all texts, with two passes that cost next to nothing.
    if !json.contains(&b'\\') && !may_be_deep(json) {
        return Ok(());
    }
    let mut depth = Depth::default();
    for token in (Tokens { rest: json }) {
        match token {
            Token::Number(_) => {}
            Token::Text(raw) if has_lone_surrogate(raw) => {
                return Err(
                    "holds half of a surrogate pair (`\\ud800` to `\\udfff` alone), which \
                            is no character"
                        .into(),
                );
            }
            other if depth.exceeded_by(other) => {
                return Err(format!("is nested deeper than {DEPTH_MAX}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// There are enough opening brackets, strings included, that it may be nested too deep.
fn may_be_deep(json: &[u8]) -> bool {
    // As many close them.
    if json.len() <= 2 * DEPTH_MAX {
        return false;
    }
    // `[` and `{` differ in this bit alone. The compiler vectorises sums in a byte.
    let is_opening = |byte: &u8| u8::from(byte | 0x20 == b'{');
    let in_piece = |piece: &[u8]| usize::from(piece.iter().map(is_opening).sum::<u8>());
    json.chunks(usize::from(u8::MAX)).map(in_piece).sum::<usize>() > DEPTH_MAX
}

/// MessagePack can represent this value exactly: every whole number has at most 64 bits, every
/// other one is the shortest form of a double, and nothing is nested deeper than [`DEPTH_MAX`].
pub(super) fn fits_messagepack(json: &[u8]) -> bool {
    let mut depth = Depth::default();
    Tokens { rest: json }.all(|token| match token {
        Token::Number(number) => std::str::from_utf8(number).is_ok_and(is_exact),
        Token::Text(raw) => !has_lone_surrogate(raw),
        other => !depth.exceeded_by(other),
    })
}

/// A piece of JSON text; literals, commas and colons don't matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    /// The text between the quotes.
    Text(&'a [u8]),
    Number(&'a [u8]),
}

#[derive(Default)]
struct Depth(usize);

impl Depth {
    fn exceeded_by(&mut self, token: Token<'_>) -> bool {
        match token {
            Token::Open => self.0 += 1,
            Token::Close => self.0 = self.0.saturating_sub(1),
            Token::Text(_) | Token::Number(_) => {}
        }
        self.0 > DEPTH_MAX
    }
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// Takes N bytes off.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    /// The string up to its end, whose first quote has been taken.
    fn text(&mut self) -> &'a [u8] {
        let mut length = 0;
        loop {
            let rest = &self.rest[length..];
            match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                Some(at) if rest[at] == b'\\' => length = self.rest.len().min(length + at + 2),
                Some(at) => {
                    let text = self.take(length + at);
                    self.take(1);
                    return text;
                }
                None => return self.take(self.rest.len()),
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.rest.first()?;
            if matches!(byte, b'-' | b'0'..=b'9') {
                let of_number =
                    |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let end = self.rest.iter().position(|byte| !of_number(byte));
                return Some(Token::Number(self.take(end.unwrap_or(self.rest.len()))));
            }
            self.take(1);
            match byte {
                b'"' => return Some(Token::Text(self.text())),
                b'[' | b'{' => return Some(Token::Open),
                b']' | b'}' => return Some(Token::Close),
                _ => {}
            }
        }
    }
}

/// An escape is half of a pair, and the other half does not follow.
fn has_lone_surrogate(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at..];
        match escaped(rest) {
            Some(0xd800..=0xdbff) => {
                rest = &rest[6..];
                match escaped(rest) {
                    Some(0xdc00..=0xdfff) => rest = &rest[6..],
                    _ => return true,
                }
            }
            Some(0xdc00..=0xdfff) => return true,
            Some(_) => rest = &rest[6..],
            // Another escape has one character behind the backslash.
            None => rest = rest.get(2..).unwrap_or_default(),
        }
    }
    false
}

/// The number in an escape `\uXXXX`, if the text begins with one.
fn escaped(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A JSON number that MessagePack has: an integer of 64 bits, or a double that is written as this
/// number (1.0, 1e2 and 0.10 are; 0.1 with thirty digits more is not, though it would be read as
/// the same double, and a whole number beyond 64 bits is never a double). `-0` is the double.
fn is_exact(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number == "-0" || number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
    }
    let nearest = number.parse::<f64>().ok().filter(|nearest| nearest.is_finite());
    // Rust writes the shortest digits that are read as the same double.
    nearest.is_some_and(|nearest| {
        let written = Decimal::of(number);
        written.is_some() && written == Decimal::of(&format!("{nearest:e}"))
    })
}

/// A decimal number: `digits` × 10^`exponent`, with no zero at either end of the digits.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// `None` if no double has the exponent.
    fn of(number: &str) -> Option<Self> {
        let (negative, number) = match number.strip_prefix('-') {
            Some(positive) => (true, positive),
            None => (false, number),
        };
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = [whole.as_bytes(), fraction.as_bytes()].concat();
        let leading = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..leading);
        let trailing = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        digits.truncate(digits.len() - trailing);
        if digits.is_empty() {
            return Some(Self { negative, digits, exponent: 0 });
        }
        let shifted = trailing as i64 - fraction.len() as i64;
        let exponent = exponent.parse::<i64>().ok()?.checked_add(shifted)?;
        Some(Self { negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize, open: &str, close: &str) -> String {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    }

    #[test]
    fn depth_counts_arrays_and_objects_and_no_brackets_in_strings() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"\\\"\":", "}]")] {
            let levels = open.matches(['[', '{']).count();
            let at = |depth: usize| check(nested(depth / levels, open, close).as_bytes());
            assert_eq!(at(DEPTH_MAX), Ok(()), "{open}");
            assert!(at(DEPTH_MAX + levels).unwrap_err().contains("100"), "{open}");
        }
        let side_by_side = format!("[{}[]]", "[],".repeat(500));
        assert_eq!(check(side_by_side.as_bytes()), Ok(()));
        let in_string = format!("[\"{}\\\"{}\"]", "[".repeat(300), "{".repeat(300));
        assert_eq!(check(in_string.as_bytes()), Ok(()));
    }

    #[test]
    fn surrogates_stand_in_pairs_wherever_they_are() {
        for good in [r#""\ud83d\ude00""#, r#"{"\uD83D\uDE00":"\\ud800"}"#, r#"["\u00e9","\\"]"#] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ude00\ud83d""#,
            r#""\ud83d\n\ude00""#,
            r#""\ud83d\ud83d\ude00""#,
            r#"{"\uDFFF":1}"#,
            r#"[1,{"a":["x\\\ud800x"]}]"#,
        ] {
            assert!(check(bad.as_bytes()).unwrap_err().contains("surrogate"), "{bad}");
            assert!(!fits_messagepack(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_number_is_exact_where_messagepack_has_just_that_one() {
        for exact in [
            "0",
            "-0",
            "-0.0",
            "0e5",
            "0.0E-999",
            "18446744073709551615",
            "-9223372036854775808",
            "1.0",
            "1e2",
            "1.50",
            "0.10",
            "0.1",
            "-2.5E-3",
            "1.7976931348623157e308",
            "5e-324",
            "123456789012345680000.0",
            "1e22",
            "1e23",
            "0e99999999999999999999",
        ] {
            assert!(is_exact(exact), "{exact}");
        }
        for inexact in [
            "18446744073709551616",
            "18446744073709551617",
            "-9223372036854775809",
            "1e400",
            "-1e309",
            "1e-400",
            "0.1000000000000000055511151231257827",
            "0.30000000000000001",
            "1.0000000000000001",
            "4.9e-324",
            "9007199254740993.0",
            "1e99999999999999999999",
            "123456789012345678901234567890",
        ] {
            assert!(!is_exact(inexact), "{inexact}");
        }
    }

    #[test]
    fn one_number_anywhere_keeps_the_whole_value_from_messagepack() {
        for fits in [r#"{"a":[1,2.5,"1e400"],"1e400":null}"#, " [ true , -1 ] ", "\"\\u0031\""] {
            assert!(fits_messagepack(fits.as_bytes()), "{fits}");
        }
        for exceeds in ["1e400", r#"{"a":[{"b":18446744073709551616}]}"#, "[0,1e-999,2]"] {
            assert!(!fits_messagepack(exceeds.as_bytes()), "{exceeds}");
        }
    }
}
