//! Times and sizes in human units: `7d`, `1h30m`, `10GiB`, in broker.toml and on the command line.
//! A number alone has the unit of the setting's name: milliseconds or bytes.

use std::str::FromStr;

use bytesize::ByteSize;
use jiff::{Span, SpanRelativeTo};

/// Reads milliseconds: a whole number, or a time with units (`ms`, `s`, `m`, `h`, `d`, `w`; a day
/// has 24 hours).
///
/// # Errors
/// It is neither, negative, or not a whole number of milliseconds.
pub fn milliseconds(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let wrong =
        || format!("`{text}` is neither milliseconds nor a time such as `500ms`, `90s`, `7d`");
    // Months and years have no fixed length.
    let span = Span::from_str(text).map_err(|_| wrong())?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(wrong());
    }
    let days = SpanRelativeTo::days_are_24_hours();
    let span = span.to_duration(days).map_err(|_| wrong())?;
    let whole = span.subsec_nanos() % 1_000_000 == 0;
    u64::try_from(span.as_millis()).ok().filter(|_| whole).ok_or_else(wrong)
}

/// Reads bytes: a whole number, or a size with a unit (`kB`, `MB`, … of 1,000; `KiB`, `MiB`, … of
/// 1,024).
///
/// # Errors
/// It is neither, or exceeds 64 bits.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let wrong =
        || format!("`{text}` is neither bytes nor a size such as `64KiB`, `10GiB`, `1.5GB`");
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match ByteSize::from_str(text) {
        Ok(ByteSize(bytes)) if bytes < u64::MAX => Ok(bytes),
        _ => Err(wrong()),
    }
}

/// Reads a number that may have a unit.
pub(super) type Read = fn(&str) -> Result<u64, String>;

/// The unit of a setting of this name, if units may be given.
pub(super) fn reader(key: &str) -> Option<Read> {
    let mut words = key.split('_');
    // `reader_bytes_per_s_min` is a rate.
    if words.clone().any(|word| word == "per") {
        return None;
    }
    words.find_map(|word| match word {
        "ms" => Some(milliseconds as Read),
        "bytes" => Some(bytes as Read),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1500", 1_500),
            ("0", 0),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("90 s", 90_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1 day 12 hours", 129_600_000),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for bad in
            ["", "d", "7x", "-1s", "-5", "1.5", "1us", "1mo", "1y", "7d7d", "99999999999999999999"]
        {
            assert!(milliseconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1500", 1_500),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("10GiB", 10_737_418_240),
            ("1.5GB", 1_500_000_000),
            ("1kB", 1_000),
            ("7B", 7),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "GiB", "10XB", "-1", "-1KiB", "99999999999EiB", "1e3", "7d"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_a_setting_says_what_it_is() {
        assert_eq!(reader("stall_ms_max").unwrap()("1s"), Ok(1_000));
        assert_eq!(reader("retention_bytes").unwrap()("1KiB"), Ok(1_024));
        for none in ["reader_bytes_per_s_min", "topics_max", "path", "workers"] {
            assert!(reader(none).is_none(), "{none}");
        }
    }
}
