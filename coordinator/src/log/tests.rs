//! Recovery after every kind of damage, reading after replacements, a full disk, the boot mark.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::paxos::no_members;

const CLUSTER: [u8; 16] = *b"a cluster's name";
pub(super) const FIRST: &str = "0000000000000001.log";

pub(super) fn options(durability: Durability) -> Options {
    Options {
        cluster: CLUSTER,
        durability,
        boot_id: "boot 1".to_owned(),
        segment_bytes: 4096,
        members_of: no_members,
    }
}

pub(super) fn open(disk: &MemoryDisk) -> Result<Log<MemoryDisk>, LogError> {
    Log::open(disk.clone(), options(Durability::Memory))
}

pub(super) fn write(index: u64, round: u64, len: usize) -> Write {
    let value: Arc<[u8]> = (0..len).map(|at| (index as usize * 31 + at + round as usize) as u8).collect();
    Write::Entry { index, entry: Entry { ballot: Ballot::new(round, 1), value } }
}

pub(super) fn read_all(log: &Log<MemoryDisk>) -> Vec<Entry> {
    let mut entries = Vec::new();
    while log.first() + (entries.len() as u64) < log.len() {
        log.read(log.first() + entries.len() as u64, log.len(), 300, &mut entries)
            .expect("all entries can be read");
    }
    entries
}

fn expect(entries: &[Entry], writes: &[Write]) {
    assert_eq!(entries.len(), writes.len());
    for (at, (entry, write)) in entries.iter().zip(writes).enumerate() {
        assert!(
            matches!(write, Write::Entry { index, entry: e } if *index == at as u64 && e == entry),
            "entry {at}"
        );
    }
}

/// A log of ten entries in one file, and the offset of its last record.
fn ten_entries(durability: Durability) -> (MemoryDisk, Vec<Write>, usize) {
    let disk = MemoryDisk::default();
    let mut log = Log::open(disk.clone(), options(durability)).expect("a new log");
    let writes: Vec<_> = (0..10).map(|index| write(index, 1, 20 + index as usize)).collect();
    log.append(&Write::Promise(Ballot::new(1, 1))).expect("space");
    for write in &writes {
        log.append(write).expect("space");
    }
    log.sync().expect("memory syncs");
    let end = log.segments[0].end - record::record_bytes(29);
    (disk, writes, end as usize)
}

#[test]
fn entries_come_back_from_several_files() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    let writes: Vec<_> =
        (0..500).map(|index| write(index, 1 + index / 100, (index as usize * 7) % 200)).collect();
    for write in &writes {
        log.append(write).expect("space");
    }
    log.append(&Write::Promise(Ballot::new(77, 3))).expect("space");
    assert!(log.segments.len() > 5);
    expect(&read_all(&log), &writes);
    drop(log);
    let log = open(&disk).expect("the log opens again");
    expect(&read_all(&log), &writes);
    assert_eq!(log.promised(), Ballot::new(77, 3));
    let recovered = log.recovered(50, 1000).expect("readable");
    assert_eq!((recovered.stamps.len(), recovered.promised), (500, Ballot::new(77, 3)));
    assert!(recovered.tail.iter().map(|entry| entry.value.len()).sum::<usize>() <= 1000);
    assert_eq!(recovered.tail.last(), read_all(&log).last());
}

#[test]
fn an_entry_replaces_its_predecessor_and_all_that_follow() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    let mut model: Vec<Write> = Vec::new();
    let mut state = 7u64;
    for round in 1..60 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let back = (state >> 33) % 6;
        let from = (model.len() as u64).saturating_sub(back);
        model.truncate(from as usize);
        for index in from..from + 1 + (state >> 50) % 20 {
            model.push(write(index, round, 30));
            log.append(model.last().expect("just pushed")).expect("space");
        }
        expect(&read_all(&log), &model);
    }
    drop(log);
    expect(&read_all(&open(&disk).expect("the log opens again")), &model);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let (disk, writes, last) = ten_entries(Durability::Memory);
    let whole = disk.contents(FIRST).expect("the file");
    let end = last + record::record_bytes(29) as usize;
    for cut in last..end {
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        disk.set_contents(FIRST, bytes);
        let mut log = open(&disk).expect("a torn tail is no error");
        // A record whose padding alone was cut is whole.
        let kept = if whole[cut..end].iter().all(|byte| *byte == 0) { 10 } else { 9 };
        expect(&read_all(&log), &writes[..kept]);
        log.append(&write(kept as u64, 2, 5)).expect("space");
        drop(log);
        assert_eq!(open(&disk).expect("appended to").len(), kept as u64 + 1);
        // A file has all its room from the beginning: one that is shorter was not torn by a crash.
        disk.set_contents(FIRST, whole[..cut].to_vec());
        let error = open(&disk).expect_err("bytes are missing").to_string();
        assert!(error.contains(&format!("corrupt at byte {cut}")) && error.contains("expected "), "{error}");
    }
}

#[test]
fn a_flipped_bit_before_the_last_record_is_an_error_that_names_the_place() {
    for durability in [Durability::Memory, Durability::Disk] {
        let (disk, _, last) = ten_entries(durability);
        if durability == Durability::Disk {
            // A record that knows that those before it were durable.
            let mut log = Log::open(disk.clone(), options(durability)).expect("opens");
            log.append(&write(10, 1, 3)).expect("space");
        }
        for offset in 0..last {
            disk.flip(FIRST, offset, 1 << (offset % 8));
            match Log::open(disk.clone(), options(durability)) {
                Err(LogError::Corrupt { file, offset: at, why }) => {
                    assert!(file.contains(FIRST) && at <= offset as u64, "byte {offset}: {file} {at}");
                    assert!(why.contains("expected ") && why.contains(", found "), "byte {offset}: {why}");
                    assert!(
                        offset < 64 || offset as u64 - at < 96,
                        "byte {offset} is not in the record at {at}"
                    );
                }
                other => panic!("byte {offset} was flipped and not found: {:?}", other.map(|log| log.len())),
            }
            disk.flip(FIRST, offset, 1 << (offset % 8));
        }
    }
}

#[test]
fn damage_in_an_early_file_or_a_missing_file_is_an_error() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    for index in 0..100 {
        log.append(&write(index, 1, 100)).expect("space");
    }
    let end = log.segments[0].end as usize;
    drop(log);
    disk.flip(FIRST, end - 60, 4);
    assert!(
        matches!(open(&disk), Err(LogError::Corrupt { .. })),
        "the last record of a full file counts as well"
    );
    disk.flip(FIRST, end - 60, 4);
    assert!(open(&disk).is_ok());
    disk.remove(FIRST).expect("it is there");
    assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })));
}

/// Throws that a seed repeats.
pub(super) fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 1
    }
}

#[test]
fn a_power_failure_loses_at_most_what_was_not_synced() {
    for seed in 0..400u64 {
        let mut coin = coin(seed);
        let disk = MemoryDisk::default();
        let mut log = Log::open(disk.clone(), options(Durability::Disk)).expect("a new log");
        let (mut synced, mut all): (usize, Vec<Write>) = (0, Vec::new());
        for _ in 0..3 {
            for _ in 0..10 {
                all.push(write(all.len() as u64, 1, 150));
                log.append(&all[all.len() - 1]).expect("space");
                if coin() && coin() {
                    log.sync().expect("memory syncs");
                    synced = all.len();
                }
            }
            drop(log);
            disk.crash(&mut coin);
            log = Log::open(disk.clone(), options(Durability::Disk)).expect("a crash is no corruption");
            let len = log.len() as usize;
            assert!(len >= synced, "seed {seed}: {synced} were synced, {len} are left");
            all.truncate(len);
            expect(&read_all(&log), &all);
            synced = len;
        }
    }
}

#[test]
fn a_disk_that_lies_about_a_sync_loses_entries() {
    // Not a rule of the log, but of the fault injection: without it the test above would prove nothing.
    let mut found = 0;
    for seed in 0..50u64 {
        let mut coin = coin(seed);
        let disk = MemoryDisk::default();
        let mut log = Log::open(disk.clone(), options(Durability::Disk)).expect("a new log");
        for index in 0..8 {
            log.append(&write(index, 1, 150)).expect("space");
            disk.skip_syncs(u64::from(index == 7));
            log.sync().expect("it lies");
        }
        drop(log);
        disk.crash(&mut coin);
        let log = Log::open(disk.clone(), options(Durability::Disk));
        found += u64::from(log.map_or(true, |log| log.len() < 8));
    }
    assert!(found > 10);
}

#[test]
fn a_full_disk_is_an_error_that_passes() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    disk.set_capacity(Some(2 * 4096 + 100));
    let mut next = 0;
    let error = loop {
        match log.append(&write(next, 1, 500)) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full() && next > 10);
    assert!(log.append(&write(next, 1, 500)).is_err_and(|error| error.is_full()));
    assert_eq!(read_all(&log).len() as u64, next);
    disk.set_capacity(None);
    log.append(&write(next, 1, 500)).expect("there is space again");
    drop(log);
    assert_eq!(open(&disk).expect("opens").len(), next + 1);
}

#[test]
fn writes_that_do_not_fit_are_refused() {
    let mut log = open(&MemoryDisk::default()).expect("a new log");
    assert!(matches!(log.append(&write(1, 1, 1)), Err(LogError::WrongWrite { index: 1, len: 0 })));
    log.append(&write(0, 5, 1)).expect("space");
    assert!(matches!(log.append(&write(1, 4, 1)), Err(LogError::WrongWrite { .. })), "stamps never fall");
    assert!(matches!(log.read(0, 2, 1, &mut Vec::new()), Err(LogError::NoEntry { .. })));
}

#[test]
fn other_clusters_versions_and_boots_are_refused() {
    let (disk, _, _) = ten_entries(Durability::Memory);
    let other = Options { cluster: [9; 16], ..options(Durability::Memory) };
    assert!(matches!(Log::open(disk.clone(), other), Err(LogError::Cluster { .. })));
    let rebooted = Options { boot_id: "boot 2".to_owned(), ..options(Durability::Memory) };
    assert!(matches!(Log::open(disk.clone(), rebooted.clone()), Err(LogError::OtherBoot { .. })));
    let log = open(&disk).expect("the same boot");
    log.close().expect("memory syncs");
    let log = Log::open(disk.clone(), rebooted).expect("it was closed, so nothing is lost");
    drop(log);
    let synced = Options { boot_id: "boot 2".to_owned(), ..options(Durability::Disk) };
    drop(Log::open(disk.clone(), synced).expect("the same boot, and synced from now on"));
    let later = Options { boot_id: "boot 3".to_owned(), ..options(Durability::Disk) };
    assert!(Log::open(disk, later).is_ok());
}

#[test]
fn real_files_keep_entries_and_are_held_by_one_log() {
    let path = std::env::temp_dir().join(format!("brolga-log-test-{}", std::process::id()));
    let options = Options { segment_bytes: 1 << 16, ..options(Durability::Disk) };
    let writes: Vec<_> = (0..300).map(|index| write(index, 1, 1000)).collect();
    let mut log =
        Log::open(Directory::open(&path).expect("a directory"), options.clone()).expect("a new log");
    for write in &writes {
        log.append(write).expect("space");
    }
    log.sync().expect("syncs");
    drop(log);
    let log = Log::open(Directory::open(&path).expect("a directory"), options).expect("opens again");
    let mut entries = Vec::new();
    log.read(0, 300, usize::MAX, &mut entries).expect("readable");
    expect(&entries, &writes);
    drop(log);
    std::fs::remove_dir_all(&path).expect("it is ours");
}

#[test]
fn after_an_orderly_end_every_flipped_byte_is_found_and_named() {
    for durability in [Durability::Memory, Durability::Disk] {
        let (disk, writes, last) = ten_entries(durability);
        let mut log = Log::open(disk.clone(), options(durability)).expect("opens");
        log.seal().expect("memory syncs");
        drop(log);
        let seal = disk.contents("sealed").expect("a seal");
        let end = last + record::record_bytes(29) as usize;
        for (file, offset) in (0..end).map(|at| (FIRST, at)).chain((0..12).map(|at| ("sealed", at))) {
            disk.flip(file, offset, 1 << (offset % 8));
            match Log::open(disk.clone(), options(durability)) {
                Err(LogError::Corrupt { file: named, offset: at, .. }) => {
                    assert!(
                        named.contains(file) && at <= offset as u64,
                        "byte {offset} of {file}: {named} {at}"
                    );
                }
                other => panic!("byte {offset} of {file} was missed: {:?}", other.map(|log| log.len())),
            }
            disk.flip(file, offset, 1 << (offset % 8));
        }
        expect(&read_all(&Log::open(disk.clone(), options(durability)).expect("whole again")), &writes);
        assert_eq!(disk.contents("sealed"), None, "the seal is broken by use");
        disk.set_contents("sealed", seal);
        disk.remove(FIRST).expect("it is there");
        assert!(
            matches!(Log::open(disk, options(durability)), Err(LogError::Corrupt { .. })),
            "a missing file"
        );
    }
}

#[test]
fn a_damaged_log_that_is_set_aside_is_empty_and_marked_until_it_is_found() {
    let (disk, writes, last) = ten_entries(Durability::Memory);
    disk.flip(FIRST, last / 2, 1);
    let damaged = disk.contents(FIRST);
    let why = open(&disk).expect_err("it is damaged").to_string();
    set_aside(&disk, &why).expect("memory takes all");
    assert_eq!(disk.contents("0000000000000001.log.damaged"), damaged);
    for kept in 0..2 {
        let mut log = open(&disk).expect("opens");
        assert_eq!((log.len(), log.lost()), (kept, Some(why.as_str())));
        assert!(log.recovered(1, 1).expect("readable").lost);
        log.append(&writes[kept as usize]).expect("space");
    }
    open(&disk).expect("opens").found().expect("memory takes all");
    assert_eq!(open(&disk).expect("opens").lost(), None);
}

#[test]
fn a_header_that_promises_too_large_a_file_is_refused() {
    let (disk, ..) = ten_entries(Durability::Memory);
    let mut bytes = disk.contents(FIRST).expect("the file");
    let header = record::SegmentHeader::new(CLUSTER, 1, 1, 1 << 40);
    bytes[..record::SEGMENT_HEADER_BYTES as usize].copy_from_slice(header.as_bytes());
    disk.set_contents(FIRST, bytes);
    let error = open(&disk).expect_err("no file is so large").to_string();
    assert!(error.contains("the file's header is damaged: expected a size of 64 to "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes stand in the files: an error, or a log that can be read and written.
    #[test]
    fn any_bytes_in_the_files_are_an_error_or_a_log(
        from in 0..4096_usize,
        garbage in prop::collection::vec(any::<u8>(), 1..400),
        small in prop::collection::vec(any::<u8>(), 0..20),
        which in 0..4_u8,
    ) {
        let (disk, writes, _) = ten_entries(Durability::Memory);
        let mut bytes = disk.contents(FIRST).expect("the file");
        let end = (from + garbage.len()).min(bytes.len());
        bytes[from..end].copy_from_slice(&garbage[..end - from]);
        disk.set_contents(FIRST, bytes);
        match which {
            0 => disk.set_contents("sealed", small),
            1 => disk.set_contents("lost", small),
            2 => disk.set_contents("boot_id", small),
            _ => disk.set_contents("0000000000000002.log", small),
        }
        if let Ok(mut log) = open(&disk) {
            let entries = read_all(&log);
            prop_assert!(entries.len() <= writes.len());
            expect(&entries, &writes[..entries.len()]);
            prop_assert!(log.append(&write(log.len(), 2, 5)).is_ok());
        }
    }
}
