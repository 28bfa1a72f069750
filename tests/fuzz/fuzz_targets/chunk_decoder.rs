//! A chunk gives back what was written, or says that it doesn't; and whatever its bytes are, no
//! block of it claims more than is there.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::exposed::{blocks, blocks_unchecked, chunk};
use weir::model::{Block, BlockBuilder, PlacedBlock, Record};

const HEADER_BYTES: usize = 36;
/// The least a record takes: its length and its flags.
const RECORD_BYTES_MIN: usize = 5;

/// Nothing is claimed that is not there.
fn check(value: &Bytes, block: &PlacedBlock) {
    assert!(block.body.len() <= value.len());
    assert!(block.count as usize * RECORD_BYTES_MIN <= block.body.len());
    assert!(block.end_offset() >= block.base_offset);
    for (n, record) in block.records().enumerate() {
        match record {
            Ok((offset, _)) => {
                assert_eq!(offset, block.base_offset + n as u64);
                assert!(offset < block.end_offset(), "more records than it counts");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let _ = block.has_ttl();
}

/// Gives bytes the version, the log and the checksum that a chunk of `sequence` must have.
fn mend(sequence: u64, bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    (bytes[0], bytes[1]) = (3, 0);
    let entries = bytes[2] % 8;
    bytes[2..4].copy_from_slice(&u16::from(entries).to_le_bytes());
    let room = bytes.len() - HEADER_BYTES;
    let directory = usize::from(bytes[8]).min(room);
    bytes[8..12].copy_from_slice(&(directory as u32).to_le_bytes());
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[..4]);
    let crc = crc32c::crc32c_append(crc, &bytes[8..HEADER_BYTES + directory]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Each byte string as a record; a line end begins another block.
fn built(bytes: &[u8]) -> Vec<(u32, u64, Block)> {
    let mut parts = Vec::new();
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate().take(8) {
        let mut builder = BlockBuilder::default();
        for payload in line.split(|byte| *byte == b' ') {
            let ttl_ms = payload.first().map(|byte| u64::from(*byte));
            let record = Record { ttl_ms, ..Record::json(payload) };
            builder.push(&record).expect("nothing is over a limit");
        }
        parts.extend(builder.finish().map(|block| (n as u32 % 3, n as u64 * 1_000, block)));
    }
    parts
}

// 4 bytes: where to flip bits (3), which (1); the rest is a chunk, or what to make one of.
fuzz_target!(|input: &[u8]| {
    let Some((head, bytes)) = input.split_first_chunk::<4>() else { return };
    let sequence = u64::from(head[0]);

    // As it came, and as if it were ours.
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        let value = Bytes::from(bytes.clone());
        for block in blocks_unchecked(sequence, &value) {
            check(&value, &block);
        }
        mend(sequence, &mut bytes);
    }

    // One that we wrote, with a byte of it changed or not.
    let parts = built(&input[4..]);
    let mut value = chunk(sequence, &parts).to_vec();
    let place = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize % value.len();
    value[place] ^= head[3];
    let value = Bytes::from(value);
    let read: Option<Vec<_>> = blocks(sequence, &value)
        .ok()
        .and_then(|read| read.into_iter().collect::<Result<_, _>>().ok());
    match read {
        None => assert_ne!(head[3], 0, "refused as it was written"),
        Some(read) => {
            assert_eq!(read.len(), parts.len());
            for (block, (topic, base_offset, sent)) in read.iter().zip(&parts) {
                check(&value, block);
                assert_eq!((block.stream.0, block.base_offset), (*topic, *base_offset));
                assert_eq!((block.count, &block.body), (sent.count(), sent.body()));
            }
            assert_eq!(head[3], 0, "a changed byte at {place} is noticed");
        }
    }
    assert!(blocks(sequence + 1, &value).is_err(), "another's place");
});
