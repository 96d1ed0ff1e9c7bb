//! Damage in the small files beside those with records: found, named, and not taken for another version or another boot.

use super::tests::{open, options, write};
use super::*;
use crate::paxos::{Member, Members};

fn corrupt(disk: &MemoryDisk, what: &str) -> (String, String) {
    match open(disk) {
        Err(LogError::Corrupt { file, why, .. }) => (file, why),
        other => panic!("{what} was not found: {:?}", other.map(|log| log.len())),
    }
}

/// Flips each byte of a small file in turn.
fn each_flipped_byte_is_named(disk: &MemoryDisk, name: &str) {
    for byte in 0..disk.contents(name).expect("the small file").len() {
        disk.flip(name, byte, 1 << (byte % 8));
        let (file, why) = corrupt(disk, &format!("byte {byte} of {name}"));
        assert!(file.contains(name), "byte {byte}: {file}");
        assert!(why.contains("expected ") && why.contains("found "), "byte {byte}: {why}");
        disk.flip(name, byte, 1 << (byte % 8));
    }
    open(disk).expect("it is whole again");
}

fn some() -> Members {
    let member = |id| Member { id, voter: true, replaces: 0, peer: None, service: None };
    Members { epoch: 3, list: [1, 2, 4].map(member).to_vec(), highest: 4 }
}

#[test]
fn damaged_members_are_not_those_of_another_version() {
    let disk = MemoryDisk::default();
    let log = open(&disk).expect("a new log");
    log.write_members(&some()).expect("memory takes all");
    drop(log);
    assert_eq!(*open(&disk).expect("opens").roster.base(), some());
    each_flipped_byte_is_named(&disk, "members");
    let good = disk.contents("members").expect("the file");
    disk.set_contents("members", good[..5].to_vec());
    assert!(corrupt(&disk, "a short file").1.contains("expected 8 bytes or more, found 5"));
    // As the version before wrote it.
    let body = &good[8..];
    let old = [&1_u32.to_le_bytes()[..], &crc32fast::hash(body).to_le_bytes(), body].concat();
    disk.set_contents("members", old);
    assert_eq!(*open(&disk).expect("opens").roster.base(), some());
    // A later one.
    let crc = crc32fast::hash(&[&9_u32.to_le_bytes()[..], b"else"].concat());
    disk.set_contents("members", [&9_u32.to_le_bytes()[..], &crc.to_le_bytes(), b"else"].concat());
    assert!(matches!(open(&disk), Err(LogError::Version { found: 9, expected: 2, .. })));
}

#[test]
fn a_damaged_mark_of_the_boot_is_not_that_of_another_boot() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    log.append(&write(0, 1, 3)).expect("space");
    drop(log);
    each_flipped_byte_is_named(&disk, "boot_id");
    let other = Options { boot_id: "boot 2".to_owned(), ..options(Durability::Memory) };
    assert!(matches!(Log::open(disk.clone(), other), Err(LogError::OtherBoot { .. })));
    disk.set_contents("boot_id", b"boot 1".to_vec());
    assert_eq!(open(&disk).expect("the mark of an earlier build").len(), 1);
    disk.set_contents("boot_id", b"boot 0".to_vec());
    assert!(matches!(open(&disk), Err(LogError::OtherBoot { .. })));
    // What it marks may have lost promises: the replica learns everything anew.
    disk.set_contents("boot_id", b"boot 1 0000".to_vec());
    let why = corrupt(&disk, "another checksum").1;
    set_aside(&disk, &why).expect("memory takes all");
    let log = open(&disk).expect("opens");
    assert!(log.is_empty() && log.lost() == Some(&why));
}
