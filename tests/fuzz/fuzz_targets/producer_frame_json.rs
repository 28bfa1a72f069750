//! A producer's text frame: what is taken of it is kept as it was sent, and the rest is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::edge::wire::{RawMessages, Sender};
use weir_fuzz::messages::{COUNT_MAX, check};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check(RawMessages::in_frame(text, COUNT_MAX), Sender::Socket);
});
