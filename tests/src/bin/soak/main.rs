//! Kills random replicas of a server under load, round after round, and checks the clients' journal, the digests and the
//! files after each; with the word `faults`, inflicts random faults of more kinds on redis or MariaDB and checks whole histories.
//! Usage: `soak [faults|elections] [--server NAME] [--only FAULT] [MINUTES] [SEED]`. With the word `elections`, full load and no fault
//! at all: whether any replica takes a busy leader for a dead one. A fault of Brolga ends it; the state of the cluster stays for
//! inspection.

mod elections;
mod faults;
mod services;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use brolga_tests::cluster::Cluster;
use brolga_tests::stats::Times;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::{Failure, Workload};
use brolga_tests::{machines, mounts, process};

use services::{SERVICES, Service};

const KILLS_IN_A_ROUND: u32 = 6;
/// Between two kills there is a random number of operations, but load lasts no longer than this...
const LOAD_LIMIT: Duration = Duration::from_secs(4);
/// ... and of a slow server at least this time, too. Every second kill is one of the leader.
const TIME_BETWEEN: Duration = Duration::from_secs(8);
/// How long a replica that came back may replay before the next one dies.
const LEVEL_LIMIT: Duration = Duration::from_secs(6);
/// What a replica's log says of one that differs.
const DIVERGED: &str = "DIVERGED";
/// What it says when it throws its server's state away, which a leader that was replaced must do at times.
const REBUILDS: &str = "rebuilds its server";

/// A small generator: the choices of a soak run can be repeated with its seed.
pub struct Choice(u64);

impl Choice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What is told at the end.
#[derive(Default)]
struct Report {
    rounds: u64,
    acknowledged: usize,
    unknown: usize,
    entries: u64,
    preemptions: u64,
    rebuilds: usize,
    /// Time between the deaths of two leaders in a row.
    failovers: Vec<Duration>,
    /// Time without an acknowledged write after the death of a leader, and of a follower.
    gaps: [Vec<Duration>; 2],
    /// From a death until all replicas were level again, as far as that was awaited.
    rejoins: Vec<Duration>,
    /// Deaths while a replica was replaying yet.
    behind: usize,
}

/// Where the cluster of the moment keeps its state.
type Directory = Arc<Mutex<PathBuf>>;

/// What to play.
enum Play {
    Deaths(&'static dyn Service),
    Faults(faults::Server, faults::Rounds),
    Elections,
}

fn main() {
    let (play, again, numbers) = arguments();
    let minutes = numbers.first().copied().unwrap_or(10);
    let seed = numbers.get(1).copied().unwrap_or_else(|| u64::from(std::process::id()));
    println!("soak: {again}, {minutes} minutes, seed {seed}");
    let directory = Directory::default();
    tell_of_a_fault(format!("{again} {minutes} {seed}"), Arc::clone(&directory));
    let mut choice = Choice(seed);
    match play {
        Play::Deaths(service) => soak(service, minutes, &mut choice, &directory),
        Play::Faults(server, rounds) => faults::run(server, &rounds, minutes, &mut choice, &directory),
        Play::Elections => elections::run(minutes, &directory),
    }
}

fn soak(service: &dyn Service, minutes: u64, choice: &mut Choice, directory: &Directory) {
    let (begin, mut report) = (Instant::now(), Report::default());
    while begin.elapsed() < Duration::from_secs(60 * minutes) {
        report.rounds += 1;
        play(service, choice, &mut report, directory);
    }
    report.print(begin.elapsed());
}

/// What to play, how to say so, and the numbers that were given.
fn arguments() -> (Play, String, Vec<u64>) {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let known = |word: &String| ["faults", "elections"].contains(&word.as_str());
    let mode = if words.first().is_some_and(known) { words.remove(0) } else { String::new() };
    let name = option(&mut words, "--server").unwrap_or("redis".to_owned());
    let only = option(&mut words, "--only");
    let rounds = match &only {
        None => Some(faults::Rounds::All),
        Some(fault) if faults::names().contains(fault) => Some(faults::Rounds::Only(fault.clone())),
        Some(_) => None,
    };
    let play = match (mode.as_str(), name.as_str(), rounds) {
        ("faults", "redis", Some(rounds)) => Some(Play::Faults(faults::Server::Redis, rounds)),
        ("faults", "mariadb", Some(rounds)) => Some(Play::Faults(faults::Server::MariaDb, rounds)),
        ("elections", "redis", Some(faults::Rounds::All)) => Some(Play::Elections),
        ("", name, Some(faults::Rounds::All)) => {
            SERVICES.into_iter().find(|service| service.name() == name).map(Play::Deaths)
        }
        _ => None,
    };
    let numbers = words.iter().map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>();
    match (play, numbers) {
        (Some(play), Some(numbers)) => {
            let only = only.map(|fault| format!(" --only {fault}")).unwrap_or_default();
            let again = format!("{mode} --server {name}{only}");
            (play, again.trim_start().to_owned(), numbers)
        }
        _ => {
            let names = SERVICES.map(Service::name).join(", ");
            eprintln!("usage: soak [--server NAME] [MINUTES [SEED]], where NAME is one of {names}");
            eprintln!(
                "       soak faults [--server NAME] [--only FAULT] [MINUTES [SEED]], where NAME is redis or mariadb, and"
            );
            eprintln!("         FAULT one of {}", faults::names().join(", "));
            eprintln!("       soak elections [MINUTES]");
            std::process::exit(2)
        }
    }
}

/// Takes an option with its value out of the words; one without a value has an empty one.
fn option(words: &mut Vec<String>, name: &str) -> Option<String> {
    let at = words.iter().position(|word| word == name)?;
    words.remove(at);
    Some(if at < words.len() { words.remove(at) } else { String::new() })
}

/// Notes where this cluster keeps its state.
fn mark(directory: &Directory, cluster: &Cluster) {
    *directory.lock().expect("nobody panicked") = cluster.directory().to_owned();
}

/// Says what a person needs to look into a fault; the program dies of it, and its cluster with it.
fn tell_of_a_fault(again: String, directory: Directory) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        let directory = directory.lock().map(|path| path.clone()).unwrap_or_default();
        // Others may die of it, too.
        static KEPT: Once = Once::new();
        KEPT.call_once(|| keep(&directory));
        println!("soak: FAULT; the state of the cluster is kept in {}", directory.display());
        println!("soak: the same choices again: scripts/soak {again}");
    }));
}

/// This program ends at once then, without the usual cleaning up, and its disks end with it: ends its processes, removes its networks,
/// copies what is on a disk, and takes the disk away while this process still serves it. A file system that ends later waits for its
/// disk for good, and every `sync` on the machine waits with it.
fn keep(directory: &Path) {
    let own = std::process::id().cast_signed();
    let others = process::tree(own).into_iter().map(|process| process.pid).filter(|&pid| pid != own);
    others.for_each(|pid| process::signal(pid, libc::SIGKILL));
    machines::remove_all();
    let seen = mounts::seen();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && seen.contains(&format!(" {} ", path.display())) {
            let to = directory.join(format!("kept-{}", entry.file_name().display()));
            let _ = Command::new("cp").args(["-a", "--sparse=always"]).arg(&path).arg(to).status();
            let _ = Command::new("umount").arg(&path).status();
        }
    }
}

fn play(service: &dyn Service, choice: &mut Choice, report: &mut Report, directory: &Directory) {
    let begin = Instant::now();
    let (mut cluster, kind) = service.start(choice);
    mark(directory, &cluster);
    let mut load = service.load(&cluster);
    let mut kills = Vec::new();
    for number in 0..KILLS_IN_A_ROUND {
        // A replica that led is killed at every second step, and at the others whoever it may be.
        let any = (number % 2 == 1).then(|| 1 + choice.below(u64::from(cluster.replicas())));
        kills.push(kill_one(service, &mut cluster, load.as_mut(), any, choice, report));
    }
    let failures: Vec<_> = kills.iter().map(|(_, failure)| *failure).collect();
    let (verdict, gaps) = load.finish(&failures).unwrap_or_else(|wrong| panic!("LOST OR DOUBLED: {wrong}"));
    let status = cluster.await_level();
    let leader = status.leader().expect("a leader");
    report.note_kills(&kills, gaps);
    report.acknowledged += verdict.acknowledged;
    report.unknown += verdict.unknown_done + verdict.unknown_lost;
    report.entries += leader.committed;
    report.preemptions += leader.preemptions;
    let files = service.end(&mut cluster);
    // A replica that was rebuilt is right again, and would not be noticed.
    let diverged = cluster.logged(DIVERGED);
    assert!(diverged.is_empty(), "{}", diverged.join("\n"));
    let rebuilds = cluster.logged(REBUILDS);
    rebuilds.iter().for_each(|line| println!("round {}: {line}", report.rounds));
    report.rebuilds += rebuilds.len();
    println!(
        "round {}: {kind}: {} operations acknowledged, none missing, none doubled; {} without an answer; {} entries; \
         digests and {files} files equal; {:.0?}",
        report.rounds,
        verdict.acknowledged,
        verdict.unknown_done + verdict.unknown_lost,
        leader.committed,
        begin.elapsed()
    );
}

/// Kills a replica after a random amount of load, the leader if none is named, and again a random amount later lets it catch
/// up. Returns whether it led, and when it died.
fn kill_one(
    service: &dyn Service,
    cluster: &mut Cluster,
    load: &mut dyn Workload,
    victim: Option<u64>,
    choice: &mut Choice,
    report: &mut Report,
) -> (bool, Failure) {
    let begin = Instant::now();
    await_load(load, 1 + choice.below(service.most_between()));
    let leader = cluster.leader();
    let victim = victim.map_or(leader, |id| u8::try_from(id).expect("a small number"));
    let killed = cluster.kill_replica(victim);
    await_load(load, 1 + choice.below(service.most_between()));
    let failure = Failure::since(killed);
    load.rest(true);
    cluster.await_complete();
    // On a machine with too much to do a replay takes long, and the next death comes in the middle of it.
    match cluster.level_within(LEVEL_LIMIT) {
        true => report.rejoins.push(killed.elapsed()),
        false => report.behind += 1,
    }
    while service.is_slow() && begin.elapsed() < TIME_BETWEEN {
        await_load(load, 1);
    }
    load.rest(false);
    (leader == victim, failure)
}

/// Waits for so many operations, or for those of [`LOAD_LIMIT`], but for one at least.
fn await_load(load: &mut dyn Workload, operations: u64) {
    let (begin, before) = (Instant::now(), load.acknowledged());
    until("operations go on", PATIENCE, || {
        let done = load.acknowledged() - before;
        (done >= operations || (done > 0 && begin.elapsed() >= LOAD_LIMIT)).then_some(())
    });
}

impl Report {
    fn note_kills(&mut self, kills: &[(bool, Failure)], gaps: Vec<Duration>) {
        for ((led, _), gap) in kills.iter().zip(gaps) {
            self.gaps[usize::from(!led)].push(gap);
        }
        let leaders: Vec<_> = kills.iter().filter(|(led, _)| *led).map(|(_, failure)| failure.at).collect();
        self.failovers.extend(leaders.windows(2).map(|pair| pair[1] - pair[0]));
    }

    fn print(self, took: Duration) {
        let row = |name: &str, value: String| println!("  {name:<50} {value}");
        let spread = |times: Vec<Duration>| {
            let count = times.len();
            if count == 0 {
                return "none killed".to_owned();
            }
            let times = Times::new(times);
            format!("{count} kills: median {:.0?}, worst {:.0?}", times.percentile(50), times.percentile(100))
        };
        let [leader, follower] = self.gaps;
        let kills = self.rejoins.len() + self.behind;
        println!("soak: no fault in {} rounds, {:.0} s", self.rounds, took.as_secs_f64());
        row("acknowledged operations, none missing or doubled", self.acknowledged.to_string());
        row("operations without an answer, either way right", self.unknown.to_string());
        row("divergences; rebuilds of leaders that were replaced", format!("0; {}", self.rebuilds));
        row("entries, preemptions", format!("{}, {}", self.entries, self.preemptions));
        row("kills; while a replica was replaying yet", format!("{kills}; {}", self.behind));
        row("from a leader's death to the next", spread(self.failovers));
        row("none acknowledged: a leader died", spread(leader));
        row("  a follower died", spread(follower));
        row("back and level after a death", spread(self.rejoins));
    }
}
