//! The `weir` program: the command line, and nothing else.
//!
//! The system's allocator serves best here: under overload mimalloc held half as much memory again
//! for the same work (`faults -- --only overload`), jemalloc about the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}
