//! The cluster simulator: many seeded schedules, and rules broken on purpose that it must notice.
//!
//! `BROLGA_SIM_SCHEDULES` sets the number of schedules, `BROLGA_SIM_FROM` the first seed. A failure names its seed;
//! `cargo run --release -p brolga-tests --bin sim -- --seed N --trace` replays it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use brolga_tests::sim::{self, Broken, check::rule};

/// Schedules that a plain test run simulates.
const SCHEDULES: u64 = 1000;
/// Schedules within which a broken rule must be noticed.
const ENOUGH: u64 = 300;

/// Seeds that once broke a rule; what they found is fixed and must stay so.
///
/// 2: a follower applied a `Preempt` entry before the change of turn that came before it at the same tick.
/// 3: a new leader closed a bubble that it had inherited, whose output had left.
/// 11: the watchdog did not see that a spinner had woken another thread since it got the turn.
/// 6008: an entry that cut a bubble came back after a leader in between had run through that bubble.
const REGRESSIONS: [u64; 4] = [2, 3, 11, 6008];

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

#[test]
fn simulator_keeps_every_invariant_on_every_schedule() {
    let (first, count) = (number("BROLGA_SIM_FROM", 1), number("BROLGA_SIM_SCHEDULES", SCHEDULES));
    let (next, answered, digests) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
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
                    Ok(Ok(report)) => {
                        answered.fetch_add(report.answered, Ordering::Relaxed);
                        digests.fetch_add(report.digests, Ordering::Relaxed);
                    }
                    Ok(Err(violation)) => failures.push(format!("seed {seed}: {violation}")),
                    Err(_) => failures.push(format!("seed {seed}: a panic, see above")),
                }
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker catches panics")).collect()
    });
    println!(
        "{count} schedules in {:.1} s: {} requests answered, {} digests compared",
        begun.elapsed().as_secs_f64(),
        answered.load(Ordering::Relaxed),
        digests.load(Ordering::Relaxed)
    );
    assert!(failures.is_empty(), "{} schedules failed:\n{}", failures.len(), failures.join("\n"));
    assert!(answered.load(Ordering::Relaxed) >= count, "hardly any request was answered");
    assert!(digests.load(Ordering::Relaxed) >= count, "hardly any digest was compared");
}

#[test]
fn simulator_seeds_that_found_bugs_stay_fixed() {
    for seed in REGRESSIONS {
        if let Err(violation) = sim::run(seed, None) {
            panic!("seed {seed}: {violation}");
        }
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
    for seed in 1..=ENOUGH {
        // The code under test may notice by an assertion of its own; that counts, too, but says no rule.
        match std::panic::catch_unwind(|| sim::run(seed, Some(broken))) {
            Ok(Ok(_)) => {}
            Ok(Err(violation)) => {
                println!("{broken:?}, seed {seed}: {violation}");
                return violation.rule;
            }
            Err(_) => return "an assertion",
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
