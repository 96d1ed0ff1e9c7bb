//! What a file of a log says of itself costs no more than the file is long.

use zerocopy::IntoBytes;

use super::record::{self, MAX_FILE_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::tests::{FIRST, open, options, read_all, write};
use super::*;

/// A file of a log with one entry, whose header says that it is `size` bytes long.
fn announcing(size: u64) -> (MemoryDisk, Vec<u8>) {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    log.append(&write(0, 1, 20)).expect("space");
    drop(log);
    let mut bytes = disk.contents(FIRST).expect("the file");
    let header = SegmentHeader::new(options(Durability::Memory).cluster, 1, 1, size);
    bytes[..SEGMENT_HEADER_BYTES as usize].copy_from_slice(header.as_bytes());
    (disk, bytes)
}

#[test]
fn a_file_that_claims_to_be_longer_than_any_is_not_made_longer() {
    let len = announcing(4096).1.len();
    for (size, offset) in [(MAX_FILE_BYTES, len as u64), (MAX_FILE_BYTES + 1, 0)] {
        let (disk, bytes) = announcing(size);
        disk.set_contents(FIRST, bytes);
        assert!(matches!(open(&disk), Err(LogError::Corrupt { offset: at, .. }) if at == offset), "{size}");
        assert_eq!(disk.contents(FIRST).map(|bytes| bytes.len()), Some(len));
    }
}

/// Heads of long records that overlap: checksums of all of them would take the square of the file's length.
fn with_heads(durable: u64) -> Result<Log<MemoryDisk>, LogError> {
    const BYTES: usize = 8 << 20;
    let (disk, mut bytes) = announcing(BYTES as u64);
    bytes.resize(BYTES, 0);
    let damaged = SEGMENT_HEADER_BYTES as usize + record::record_bytes(20) as usize;
    let mut head = [0; RECORD_HEADER_BYTES];
    head[4..8].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    head[8..16].copy_from_slice(&5_u64.to_le_bytes());
    head[16..24].copy_from_slice(&durable.to_le_bytes());
    // The kind of an entry.
    head[40] = 2;
    bytes[damaged..].chunks_exact_mut(head.len()).for_each(|place| place.copy_from_slice(&head));
    disk.set_contents(FIRST, bytes);
    open(&disk)
}

#[test]
fn places_that_look_like_records_are_not_all_looked_at() {
    let error = with_heads(5).expect_err("nobody knows whether one of them is a record");
    assert!(error.to_string().contains("look like records"), "{error}");
    // What says nothing of the damaged record needs no look.
    assert_eq!(read_all(&with_heads(2).expect("a torn tail")).len(), 1);
}
