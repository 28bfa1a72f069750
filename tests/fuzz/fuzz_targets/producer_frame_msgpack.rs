//! A producer's binary frame: what is taken of it is kept within its limits, and the rest is
//! refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::edge::wire::{RawMessages, Sender};
use weir_fuzz::messages::{COUNT_MAX, check};

fuzz_target!(|bytes: &[u8]| {
    check(RawMessages::in_binary_frame(bytes, COUNT_MAX), Sender::Socket);
});
