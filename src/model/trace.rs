//! The trace that a message belongs to (W3C Trace Context, `traceparent`).

use std::sync::Arc;

/// A checked `traceparent`: version, trace id, parent id, flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(Arc<str>);

impl TraceParent {
    /// Parses a header's value; `None` if it is malformed, which the standard says to ignore.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.split('-');
        let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
        let flags = parts.next()?;
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        let known = version != "00" || parts.next().is_none();
        let good = hex(version, 2)
            && version != "ff"
            && hex(trace, 32)
            && hex(parent, 16)
            && hex(flags, 2)
            && !zero(trace)
            && !zero(parent)
            && known
            && text.len() <= 256;
        good.then(|| Self(text.into()))
    }

    /// The value as received.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_taken_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceParent::parse(good).unwrap().trace_id(), &good[3..35]);
        assert!(TraceParent::parse(&good.replacen("00", "cc", 1)).is_some(), "a later version");
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }
}
