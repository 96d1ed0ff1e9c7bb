//! Long runs of the cluster simulator, and replays of single schedules.
//!
//! `sim [--schedules N] [--from SEED] [--jobs N] [--break RULE]` runs many; `sim --seed N [--trace]` replays one.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use brolga_tests::sim::{Broken, Plan, Report, World};

const USAGE: &str = "usage: sim [--schedules N] [--from SEED] [--jobs N] [--break RULE]\n       sim --seed N [--trace] [--break RULE]";
/// Schedules of a long run.
const DEFAULT_SCHEDULES: u64 = 20_000;

struct Arguments {
    schedules: u64,
    from: u64,
    jobs: usize,
    seed: Option<u64>,
    trace: bool,
    broken: Option<Broken>,
}

fn parse() -> Result<Arguments, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed =
        Arguments { schedules: DEFAULT_SCHEDULES, from: 1, jobs, seed: None, trace: false, broken: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--trace" {
            parsed.trace = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value, or is unknown\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word}: {value} is not a number"));
        match word.as_str() {
            "--schedules" => parsed.schedules = number()?,
            "--from" => parsed.from = number()?,
            "--jobs" => parsed.jobs = number()?.max(1) as usize,
            "--seed" => parsed.seed = Some(number()?),
            "--break" => {
                let known = Broken::ALL.iter().find(|(name, _)| *name == value);
                parsed.broken = Some(known.ok_or_else(|| format!("no rule is called {value}\n{USAGE}"))?.1);
            }
            _ => return Err(format!("unknown option {word}\n{USAGE}")),
        }
    }
    Ok(parsed)
}

thread_local! {
    /// The schedule that this thread runs.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// A panic may end the process: it must name its seed first.
fn name_seed_in_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        println!("seed {} panics", SEED.get());
        before(info);
    }));
}

fn main() -> ExitCode {
    name_seed_in_panics();
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match arguments.seed {
        Some(seed) => replay(seed, &arguments),
        None => run_many(&arguments),
    }
}

fn replay(seed: u64, arguments: &Arguments) -> ExitCode {
    SEED.set(seed);
    let plan = Plan::new(seed, arguments.broken);
    println!("{plan:?}");
    match World::new(plan, arguments.trace).run() {
        Ok(report) => {
            println!("seed {seed}: {report:?}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("seed {seed} FAILED: {violation}");
            ExitCode::FAILURE
        }
    }
}

/// What the threads share.
struct Run {
    next: AtomicU64,
    end: u64,
    failed: AtomicBool,
    done: AtomicU64,
    requests: AtomicU64,
    answered: AtomicU64,
    entries: AtomicU64,
    events: AtomicU64,
    digests: AtomicU64,
    preemptions: AtomicU64,
    crane: AtomicU64,
    usurpations: AtomicU64,
    full_disks: AtomicU64,
    bulk: AtomicU64,
    checkpoints: AtomicU64,
    restores: AtomicU64,
    cuts: AtomicU64,
    transfers: AtomicU64,
    copies: AtomicU64,
    epochs: AtomicU64,
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let zero = || AtomicU64::new(0);
    let run = Run {
        next: AtomicU64::new(arguments.from),
        end: arguments.from + arguments.schedules,
        failed: AtomicBool::new(false),
        done: zero(),
        requests: zero(),
        answered: zero(),
        entries: zero(),
        events: zero(),
        digests: zero(),
        preemptions: zero(),
        crane: zero(),
        usurpations: zero(),
        full_disks: zero(),
        bulk: zero(),
        checkpoints: zero(),
        restores: zero(),
        cuts: zero(),
        transfers: zero(),
        copies: zero(),
        epochs: zero(),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| work(&run, arguments.broken));
        }
    });
    let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (done, took) = (total(&run.done), begun.elapsed().as_secs_f64());
    println!(
        "{done} schedules in {took:.1} s ({:.0}/s): {} events, {} entries, {} of {} requests answered, {} digests \
         compared, {} preemptions, {} schedules of crane, {} promisers crashed between two leaders, {} full disks, \
         {} uploads and downloads, {} checkpoints taken, {} restored, {} logs cut, {} replicas went on behind a checkpoint of \
         another, {} checkpoints copied by leaders, {} changes of members",
        done as f64 / took,
        total(&run.events),
        total(&run.entries),
        total(&run.answered),
        total(&run.requests),
        total(&run.digests),
        total(&run.preemptions),
        total(&run.crane),
        total(&run.usurpations),
        total(&run.full_disks),
        total(&run.bulk),
        total(&run.checkpoints),
        total(&run.restores),
        total(&run.cuts),
        total(&run.transfers),
        total(&run.copies),
        total(&run.epochs)
    );
    if run.failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn work(run: &Run, broken: Option<Broken>) {
    loop {
        let seed = run.next.fetch_add(1, Ordering::Relaxed);
        if seed >= run.end {
            return;
        }
        SEED.set(seed);
        let result = std::panic::catch_unwind(|| brolga_tests::sim::run(seed, broken));
        match result {
            Ok(Ok(report)) => count(run, report),
            Ok(Err(violation)) => fail(run, seed, &violation.to_string()),
            Err(_) => fail(run, seed, "it panicked, see above"),
        }
    }
}

fn count(run: &Run, report: Report) {
    let add = |counter: &AtomicU64, value| counter.fetch_add(value, Ordering::Relaxed);
    add(&run.done, 1);
    add(&run.events, report.events);
    add(&run.entries, report.entries);
    add(&run.requests, report.requests);
    add(&run.answered, report.answered);
    add(&run.digests, report.digests);
    add(&run.preemptions, report.preemptions);
    add(&run.crane, report.crane.into());
    add(&run.usurpations, report.usurpations);
    add(&run.full_disks, report.full_disks);
    add(&run.bulk, report.bulk);
    add(&run.checkpoints, report.checkpoints);
    add(&run.restores, report.restores);
    add(&run.cuts, report.cuts);
    add(&run.transfers, report.transfers);
    add(&run.copies, report.copies);
    add(&run.epochs, report.epochs);
}

fn fail(run: &Run, seed: u64, why: &str) {
    run.failed.store(true, Ordering::Relaxed);
    println!(
        "seed {seed} FAILED: {why}\n  replay with: cargo run --release -p brolga-tests --bin sim -- --seed {seed} --trace"
    );
}
