//! The cluster simulator: many seeded schedules, and rules broken on purpose that it must notice.
//!
//! `BROLGA_SIM_SCHEDULES` sets the number of schedules, `BROLGA_SIM_FROM` the first seed. A failure names its seed;
//! `cargo run --release -p brolga-tests --bin sim -- --seed N --trace` replays it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use brolga_tests::sim::{self, Broken, Report, check::rule};

/// Schedules that a plain test run simulates.
const SCHEDULES: u64 = 1000;
/// Schedules within which a broken rule must be noticed.
const ENOUGH: u64 = 300;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

#[test]
fn simulator_keeps_every_invariant_on_every_schedule() {
    let (first, count) = (number("BROLGA_SIM_FROM", 1), number("BROLGA_SIM_SCHEDULES", SCHEDULES));
    let (next, total) = (AtomicU64::new(first), Mutex::new(Total::default()));
    let begun = Instant::now();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return failures;
                }
                match std::panic::catch_unwind(|| sim::run(seed, None)) {
                    Ok(Ok(report)) => total.lock().expect("no panic holds it").add(&report),
                    Ok(Err(violation)) => failures.push(format!("seed {seed}: {violation}")),
                    Err(_) => failures.push(format!("seed {seed}: a panic, see above")),
                }
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker catches panics")).collect()
    });
    let total = total.into_inner().expect("no panic holds it");
    println!("{count} schedules in {:.1} s: {total:?}", begun.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} schedules failed:\n{}", failures.len(), failures.join("\n"));
    assert!(total.answered >= count, "hardly any request was answered");
    assert!(total.digests >= count, "hardly any digest was compared");
    if count >= SCHEDULES {
        assert!(total.crane > count / 16 && total.crane < count / 2, "both admissions must be exercised");
        assert!(total.crane_answered >= total.crane, "hardly any request was answered under crane");
        assert!(total.preemptions > 0 && total.closings > 0, "no bubble was ever cut");
        assert!(total.usurpations > 0, "no promiser crashed between two leaders");
        assert!(total.full_disks > 0, "no disk was ever full");
        assert!(total.bulk > 0, "no flow window was ever filled");
        assert!(total.cuts > 0 && total.restores > 0, "no log was cut, or no server restored");
        assert!(total.transfers > 0, "no replica went on behind a checkpoint of another");
        assert!(total.epochs >= count / 4, "members hardly ever changed");
        assert!(
            total.calls >= count && total.datagrams >= count,
            "hardly anything came from or went outside"
        );
    }
}

/// What a run must have come across.
#[derive(Debug, Default)]
struct Total {
    answered: u64,
    digests: u64,
    crane: u64,
    crane_answered: u64,
    preemptions: u64,
    closings: u64,
    usurpations: u64,
    full_disks: u64,
    bulk: u64,
    calls: u64,
    datagrams: u64,
    cuts: u64,
    restores: u64,
    transfers: u64,
    copies: u64,
    lost_checkpoints: u64,
    epochs: u64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.answered += report.answered;
        self.digests += report.digests;
        self.crane += u64::from(report.crane);
        self.crane_answered += if report.crane { report.answered } else { 0 };
        self.preemptions += report.preemptions;
        self.closings += report.closings;
        self.usurpations += report.usurpations;
        self.full_disks += report.full_disks;
        self.bulk += report.bulk;
        self.calls += report.calls;
        self.datagrams += report.datagrams;
        self.cuts += report.cuts;
        self.restores += report.restores;
        self.transfers += report.transfers;
        self.copies += report.copies;
        self.lost_checkpoints += report.lost_checkpoints;
        self.epochs += report.epochs;
    }
}

#[test]
fn simulator_replays_a_seed_exactly() {
    for seed in [5, 6, 7] {
        let (first, second) = (sim::run(seed, None), sim::run(seed, None));
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed} is not one schedule");
    }
}

/// Runs schedules with `broken` until one breaks a rule, and returns the rule's name.
fn caught(broken: Broken) -> &'static str {
    caught_where(broken, |_| true)
}

/// The same, where only breaches of some rules count.
fn caught_where(broken: Broken, counts: impl Fn(&str) -> bool) -> &'static str {
    for seed in 1..=ENOUGH {
        // The code under test may notice by an assertion of its own; that counts, too, but says no rule.
        match std::panic::catch_unwind(|| sim::run(seed, Some(broken))) {
            Ok(Ok(_)) => {}
            Ok(Err(violation)) if !counts(violation.rule) => {}
            Ok(Err(violation)) => {
                println!("{broken:?}, seed {seed}: {violation}");
                return violation.rule;
            }
            Err(_) if counts("an assertion") => return "an assertion",
            Err(_) => {}
        }
    }
    panic!("{broken:?} went unnoticed in {ENOUGH} schedules");
}

#[test]
fn simulator_notices_output_that_leaves_one_entry_too_early() {
    assert_eq!(caught(Broken::ReleaseEarly), rule::I3_OUTPUT);
}

#[test]
fn simulator_notices_a_skipped_sync() {
    assert!([rule::AGREEMENT, rule::I3_OUTPUT].contains(&caught(Broken::SkipSync)));
}

#[test]
fn simulator_notices_an_admission_inside_a_bubble() {
    assert_eq!(caught(Broken::AdmitInside), rule::I1_STAMPS);
}

#[test]
fn simulator_notices_an_event_that_is_applied_twice() {
    assert_eq!(caught(Broken::ApplyTwice), rule::I5_EXACTLY_ONCE);
}

#[test]
fn simulator_notices_a_forgotten_promise() {
    // Either the checkers see a decided entry change, or a replica's own assertion does.
    assert!([rule::AGREEMENT, rule::I3_OUTPUT, "an assertion"].contains(&caught(Broken::ForgetPromise)));
}

#[test]
fn simulator_notices_a_connection_that_is_made_twice() {
    assert_eq!(caught(Broken::DialTwice), rule::I5_EXACTLY_ONCE);
}

#[test]
fn simulator_notices_a_restored_server_that_lacks_an_entry() {
    assert!([rule::DIVERGED, rule::DIGESTS, rule::I2_INSIDE].contains(&caught(Broken::DropTail)));
}

#[test]
fn simulator_notices_a_log_that_is_cut_before_a_majority_has_checkpoints() {
    assert_eq!(caught(Broken::CutEarly), rule::CHECKPOINTS);
}

#[test]
fn simulator_notices_a_server_that_lives_on_with_what_was_not_decided() {
    assert_eq!(caught(Broken::KeepTainted), rule::I4_REBUILD);
}

#[test]
fn simulator_notices_a_server_that_runs_beyond_its_bubble() {
    // The server itself notices, too, where it does not get far before the next entry comes.
    caught_where(Broken::RunBeyond, |breach| breach == rule::I2_INSIDE);
}
