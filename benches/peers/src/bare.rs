//! The machine's own part: how long a bare append with fdatasync takes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::payload::BYTES;

const TIMES: usize = 2_000;

/// p50 and p99 of an append of one payload with fdatasync, to a file that has room.
pub fn appends(directory: &Path) -> Result<(Duration, Duration)> {
    let mut file = tempfile::tempfile_in(directory)?;
    reserve(&mut file)?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let start = Instant::now();
        file.write_all(&[7; BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok((times[TIMES / 2], times[TIMES * 99 / 100]))
}

fn reserve(file: &mut File) -> Result<()> {
    file.set_len((TIMES * BYTES) as u64)?;
    Ok(file.sync_all()?)
}
