//! A body of many messages, read in each of its three forms.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::edge::wire::{RawMessages, Sender, lines};
use weir_fuzz::messages::{COUNT_MAX, check, check_lines, check_refusal};

fuzz_target!(|body: &[u8]| {
    check(RawMessages::in_batch(body, COUNT_MAX), Sender::Request);
    check(RawMessages::in_msgpack_batch(body, COUNT_MAX), Sender::Request);
    // One byte order mark before the first line is no part of it.
    let expected: Vec<_> = body
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    match lines(body, COUNT_MAX) {
        Ok(found) => {
            assert_eq!(found, expected);
            check_lines(&found);
        }
        Err(problem) => {
            assert!(expected.is_empty() || expected.len() > COUNT_MAX, "{problem}");
            check_refusal(&problem);
        }
    }
});
