//! Cutting a log off at the front, beginning it anew, and a crash at each step of both.

use super::tests::{FIRST, coin, open, options, read_all, write};
use super::*;

/// A log of 100 entries in several files, in which another leadership has replaced those from 60 on.
fn hundred(durability: Durability) -> (MemoryDisk, Vec<Entry>) {
    let disk = MemoryDisk::default();
    let mut log = Log::open(disk.clone(), options(durability)).expect("a new log");
    let all = (0..90).map(|index| (index, 1)).chain((60..100).map(|index| (index, 2)));
    for (index, round) in all {
        log.append(&write(index, round, 150)).expect("space");
        if index == 40 {
            log.append(&Write::Promise(Ballot::new(9, 3))).expect("space");
        }
    }
    log.sync().expect("memory syncs");
    (disk, read_all(&log))
}

fn anew(entry: &Entry, first: u64) -> Write {
    let (previous, promised) = (entry.ballot, Ballot::new(11, 2));
    Write::Anew { first, entry: entry.clone(), previous, promised, members: Members::default() }
}

#[test]
fn a_cut_log_goes_on_and_comes_back_with_its_promises() {
    for first in (0..100).step_by(7) {
        let (disk, all) = hundred(Durability::Memory);
        let files = |disk: &MemoryDisk| {
            disk.list().expect("names").iter().filter(|name| segment_number(name).is_some()).count()
        };
        let before = files(&disk);
        let mut log = open(&disk).expect("opens");
        if !log.cut(first).expect("memory takes all") {
            assert!(first < 30, "entry {first} is in the first file, and nothing can be removed");
            assert_eq!((log.first(), files(&disk)), (0, before));
            continue;
        }
        assert!(files(&disk) < before && !log.cut(first).expect("nothing to do"));
        for reopened in [false, true] {
            if reopened {
                drop(log);
                log = open(&disk).expect("opens");
            }
            assert_eq!((log.first(), log.len(), log.promised()), (first, 100, Ballot::new(9, 3)));
            assert_eq!(read_all(&log), all[first as usize..]);
            let error = log.read(first - 1, first + 1, 1, &mut Vec::new()).expect_err("it was cut off");
            assert!(error.to_string().contains(&format!("from {first} on")), "{error}");
            let recovered = log.recovered(1000, 1 << 20).expect("readable");
            assert_eq!(recovered.stamps.before(), all[first as usize - 1].ballot);
            assert_eq!(
                (recovered.stamps.first(), recovered.commit, recovered.tail.len() as u64),
                (first, first + 1, 100 - first)
            );
        }
        assert!(
            matches!(log.append(&write(first - 1, 7, 1)), Err(LogError::WrongWrite { .. })),
            "decided and gone"
        );
        log.append(&write(first, 7, 10)).expect("the first entry may be stamped anew");
        log.append(&write(first + 1, 7, 10)).expect("space");
        drop(log);
        assert_eq!(open(&disk).expect("opens").len(), first + 2);
    }
}

#[test]
fn it_is_cut_again_and_again() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).expect("a new log");
    for index in 0..2000 {
        log.append(&write(index, 1 + index / 300, 100)).expect("space");
        if index % 50 == 49 {
            log.cut(index - 20).expect("memory takes all");
            assert!(log.segments.len() <= 4, "{} files", log.segments.len());
        }
        if index % 333 == 0 {
            drop(log);
            log = open(&disk).expect("opens");
        }
    }
    let entries = read_all(&log);
    assert!(log.first() > 1900);
    for (index, entry) in (log.first()..).zip(&entries) {
        assert!(matches!(write(index, 1 + index / 300, 100), Write::Entry { entry: e, .. } if e == *entry));
    }
}

#[test]
fn a_log_begins_anew_behind_a_checkpoint() {
    for durability in [Durability::Memory, Durability::Disk] {
        let (disk, all) = hundred(durability);
        let mut log = Log::open(disk.clone(), options(durability)).expect("opens");
        log.append(&anew(&all[7], 5000)).expect("space");
        log.append(&write(5001, 4, 20)).expect("space");
        log.sync().expect("memory syncs");
        for _ in 0..2 {
            assert_eq!((log.first(), log.len(), log.promised()), (5000, 5002, Ballot::new(11, 2)));
            assert_eq!(read_all(&log)[0], all[7]);
            drop(log);
            log = Log::open(disk.clone(), options(durability)).expect("opens");
        }
        assert_eq!(log.segments.len(), 1);
        log.append(&anew(&all[8], 9000)).expect("space");
        assert_eq!((log.first(), log.len()), (9000, 9001));
    }
}

#[test]
fn a_crash_at_any_step_of_a_cut_leaves_the_log_whole_or_cut() {
    let (mut whole, mut cut) = (0, 0);
    for seed in 0..40 {
        let (disk, all) = hundred(Durability::Disk);
        for steps in 0..20 {
            let disk = disk.duplicate();
            let mut log = Log::open(disk.clone(), options(Durability::Disk)).expect("opens");
            disk.stop_after(Some(steps));
            let done = log.cut(80);
            drop(log);
            disk.stop_after(None);
            disk.crash(coin(seed * 100 + steps));
            let log = Log::open(disk.clone(), options(Durability::Disk)).expect("a crash is no corruption");
            assert_eq!((log.len(), log.promised()), (100, Ballot::new(9, 3)));
            let first = log.first();
            assert!(first == 80 || (first == 0 && !done.is_ok_and(|cut| cut)), "cut at {first}");
            assert_eq!(read_all(&log), all[first as usize..]);
            (whole, cut) = if first == 0 { (whole + 1, cut) } else { (whole, cut + 1) };
        }
    }
    assert!(whole > 0 && cut > 0, "{whole} whole, {cut} cut");
}

#[test]
fn a_crash_at_any_step_of_a_new_beginning_leaves_the_old_log_or_the_new() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..40 {
        let (disk, all) = hundred(Durability::Disk);
        for steps in 0..20 {
            let disk = disk.duplicate();
            let mut log = Log::open(disk.clone(), options(Durability::Disk)).expect("opens");
            disk.stop_after(Some(steps));
            let done = log.append(&anew(&all[7], 500));
            drop(log);
            disk.stop_after(None);
            disk.crash(coin(seed * 100 + steps));
            let log = Log::open(disk.clone(), options(Durability::Disk)).expect("a crash is no corruption");
            if log.first() == 0 {
                assert!(done.is_err());
                assert_eq!(read_all(&log), all);
                old += 1;
            } else {
                assert_eq!((log.first(), log.len(), log.promised()), (500, 501, Ballot::new(11, 2)));
                assert_eq!(read_all(&log), all[7..8]);
                new += 1;
            }
        }
    }
    assert!(old > 0 && new > 0, "{old} old, {new} new");
}

#[test]
fn a_log_that_begins_late_without_its_word_is_corrupt() {
    let (disk, _) = hundred(Durability::Memory);
    let mut log = open(&disk).expect("opens");
    assert!(log.cut(80).expect("memory takes all"));
    drop(log);
    let word = disk.contents("cut").expect("the small file");
    let corrupt = |disk: &MemoryDisk, what: &str| match open(disk) {
        Err(LogError::Corrupt { file, .. }) => file,
        other => panic!("{what} was not found: {:?}", other.map(|log| log.first())),
    };
    for byte in 0..word.len() {
        disk.flip("cut", byte, 1 << (byte % 8));
        assert!(corrupt(&disk, &format!("byte {byte}")).contains("cut"));
        disk.flip("cut", byte, 1 << (byte % 8));
    }
    // Of another version, whatever is behind it; and with a checksum that is right for it.
    let mut later = [&word[..], &[7; 40]].concat();
    later[8] = 2;
    later[12..16].fill(0);
    let crc = crc32fast::hash(&later);
    later[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.set_contents("cut", later);
    assert!(matches!(open(&disk), Err(LogError::Version { found: 2, expected: 1, .. })));
    disk.set_contents("cut", word[..30].to_vec());
    assert!(corrupt(&disk, "a short file").contains("cut"));
    disk.remove("cut").expect("it is there");
    corrupt(&disk, "a missing word");
    disk.set_contents("cut", word);
    let segments = || disk.list().expect("names").into_iter().filter(|name| segment_number(name).is_some());
    let first = segments().next().expect("a file");
    assert_ne!(first, FIRST);
    let at = open(&disk).expect("opens").segments[0].end as usize - 100;
    disk.flip(&first, at, 1);
    assert!(corrupt(&disk, "a flipped bit").contains(&first));
    segments().for_each(|name| disk.remove(&name).expect("it is there"));
    assert!(corrupt(&disk, "a missing log").contains(&first));
    set_aside(&disk, "for a test").expect("memory takes all");
    let log = open(&disk).expect("opens");
    assert!(log.lost().is_some() && log.is_empty() && log.first() == 0);
}
