//! See [`crate::fuzzing`]: a log whose files were changed.

use std::sync::Arc;

use super::{Durability, Log, LogError, MemoryDisk, Options, record};
use crate::paxos::{Ballot, Entry, Write, no_members};

const CLUSTER: [u8; 16] = *b"a cluster's name";
const FIRST: &str = "0000000000000001.log";
const SECOND: &str = "0000000000000002.log";
/// The small files beside those of entries.
const SMALL: [&str; 5] = ["sealed", "lost", "boot_id", "members", "cut"];
/// Bytes that an edit is announced by: what, where (two), how many.
const EDIT_BYTES: usize = 4;

fn open(disk: &MemoryDisk) -> Result<Log<MemoryDisk>, LogError> {
    let options = Options {
        cluster: CLUSTER,
        durability: Durability::Memory,
        boot_id: "boot 1".to_owned(),
        segment_bytes: 4096,
        members_of: no_members,
    };
    Log::open(disk.clone(), options)
}

fn write(index: u64) -> Write {
    let value: Arc<[u8]> = vec![index as u8; 20].into();
    Write::Entry { index, entry: Entry { ballot: Ballot::new(1, 1), value } }
}

/// Opens a log of ten entries whose files were changed as `edits` say: an error, or a log that can be read, written and opened again.
pub(crate) fn fuzz(edits: &[u8]) {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    log.append(&Write::Promise(Ballot::new(1, 1))).expect("space");
    (0..10).for_each(|index| log.append(&write(index)).expect("space"));
    drop(log);
    change(&disk, edits);
    let Ok(mut log) = open(&disk) else { return };
    let mut entries = Vec::new();
    while log.first() + (entries.len() as u64) < log.len() {
        let before = entries.len();
        if log.read(log.first() + before as u64, log.len(), 300, &mut entries).is_err() {
            return;
        }
        assert!(entries.len() > before, "reading goes on");
    }
    let len = log.len();
    if log.append(&write(len)).is_err() {
        return;
    }
    drop(log);
    let again = open(&disk).expect("what was opened and written can be opened again");
    assert_eq!(again.len(), len + 1);
}

fn change(disk: &MemoryDisk, mut edits: &[u8]) {
    let mut mended = false;
    while let Some((head, rest)) = edits.split_first_chunk::<EDIT_BYTES>() {
        let (at, len) = (usize::from(u16::from_le_bytes([head[1], head[2]])), usize::from(head[3]));
        let (bytes, rest) = rest.split_at(len.min(rest.len()));
        edits = rest;
        let name = match head[0] & 7 {
            0 => SECOND,
            small @ 1..=5 => SMALL[usize::from(small) - 1],
            _ => FIRST,
        };
        mended |= head[0] & 128 == 0;
        let mut contents = disk.contents(name).unwrap_or_default();
        // Longer than any file needs to be is not interesting.
        let at = at % 5000;
        contents.resize(contents.len().max(at + bytes.len()), 0);
        contents[at..at + bytes.len()].copy_from_slice(bytes);
        disk.set_contents(name, contents);
    }
    for (name, number) in [(FIRST, 1), (SECOND, 2)].into_iter().filter(|_| mended) {
        if let Some(mut contents) = disk.contents(name) {
            record::mend(&mut contents, CLUSTER, number);
            disk.set_contents(name, contents);
        }
    }
}
