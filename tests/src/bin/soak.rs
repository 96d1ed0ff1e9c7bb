//! Kills random replicas of redis under load, round after round, and checks the journal and the digests after each.
//! Usage: `soak [MINUTES] [SEED]`. A fault ends it; the state of the cluster stays for inspection.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::resp::Redis;
use brolga_tests::stats::Times;
use brolga_tests::wait::{PATIENCE, until};

const CLIENTS: usize = 8;
const KILLS_IN_A_ROUND: usize = 5;
const MOST_WRITES_BETWEEN: u64 = 5000;

/// A small generator: the choices of a soak run can be repeated with its seed.
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
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
    /// Time without an acknowledged write after the death of a leader, and of a follower.
    gaps: [Vec<Duration>; 2],
    /// From a death until all replicas are there again.
    rejoins: Vec<Duration>,
}

fn main() {
    let number =
        |index, usual| std::env::args().nth(index).map_or(usual, |text| text.parse().expect("a number"));
    let minutes = number(1, 10);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(60 * minutes);
    let seed = number(2, u64::from(std::process::id()));
    println!("soak: {minutes} minutes, seed {seed}");
    let directory = Arc::new(Mutex::new(PathBuf::new()));
    tell_of_a_fault(minutes, seed, Arc::clone(&directory));
    let (mut choice, mut report) = (Choice(seed), Report::default());
    while Instant::now() < end {
        report.rounds += 1;
        play(&mut choice, &mut report, &directory);
    }
    report.print(begin.elapsed());
}

/// Says what a person needs to look into a fault; the program dies of it, and its cluster with it.
fn tell_of_a_fault(minutes: u64, seed: u64, directory: Arc<Mutex<PathBuf>>) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        let directory = directory.lock().map(|path| path.display().to_string()).unwrap_or_default();
        println!("soak: FAULT; the state of the cluster is kept in {directory}");
        println!("soak: the same choices again: scripts/soak {minutes} {seed}");
    }));
}

fn play(choice: &mut Choice, report: &mut Report, directory: &Mutex<PathBuf>) {
    let io_threads = if choice.below(4) == 0 { "4" } else { "1" };
    let durability = if choice.below(3) == 0 { "disk" } else { "memory" };
    let command =
        ["redis-server", "--port", "7000", "--save", "", "--io-threads", io_threads, "--appendonly", "yes"];
    let begin = Instant::now();
    let mut cluster = Plan::new(&command).port(7000).options(&["--durability", durability]).start("soak");
    *directory.lock().expect("nobody panicked") = cluster.directory().to_owned();
    cluster.await_complete();
    let writer = Writer::start(cluster.port(), CLIENTS);
    let mut kills = Vec::new();
    for _ in 0..KILLS_IN_A_ROUND {
        kills.push(kill_one(&mut cluster, &writer, choice, report));
    }
    let journal = writer.finish();
    let mut redis = Redis::connect(cluster.port()).expect("connect");
    let verdict = journal.compare(&mut redis).unwrap_or_else(|wrong| panic!("LOST OR DOUBLED: {wrong}"));
    let status = cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    let leader = status.leader().expect("a leader");
    let moments: Vec<_> = kills.iter().map(|(_, moment)| *moment).collect();
    for ((led, _), gap) in kills.iter().zip(journal.gaps(&moments)) {
        report.gaps[usize::from(!led)].push(gap);
    }
    report.acknowledged += verdict.acknowledged;
    report.unknown += verdict.unknown_done + verdict.unknown_lost;
    report.entries += leader.committed;
    report.preemptions += leader.preemptions;
    println!(
        "round {}: io-threads {io_threads}, {durability}: {} writes acknowledged, none missing, none doubled; {} without \
         an answer; {} entries; digests and files equal; {:.0?}",
        report.rounds,
        verdict.acknowledged,
        verdict.unknown_done + verdict.unknown_lost,
        leader.committed,
        begin.elapsed()
    );
    cluster.stop();
}

/// Kills a replica after a random amount of load, and again a random amount later lets it catch up. Returns whether it led,
/// and when it died.
fn kill_one(
    cluster: &mut Cluster,
    writer: &Writer,
    choice: &mut Choice,
    report: &mut Report,
) -> (bool, Instant) {
    await_load(writer, 1 + choice.below(MOST_WRITES_BETWEEN));
    let victim = u8::try_from(1 + choice.below(u64::from(cluster.replicas()))).expect("a small number");
    let leads = cluster.leader() == victim;
    let moment = cluster.kill_replica(victim);
    await_load(writer, choice.below(MOST_WRITES_BETWEEN));
    writer.rest(true);
    cluster.await_complete();
    writer.rest(false);
    report.rejoins.push(moment.elapsed());
    (leads, moment)
}

fn await_load(writer: &Writer, writes: u64) {
    let goal = writer.acknowledged() + writes;
    until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
}

impl Report {
    fn print(self, took: Duration) {
        let row = |name: &str, value: String| println!("  {name:<42} {value}");
        let spread = |times: Vec<Duration>| {
            let count = times.len();
            if count == 0 {
                return "none killed".to_owned();
            }
            let times = Times::new(times);
            format!("{count} kills: median {:.0?}, worst {:.0?}", times.percentile(50), times.percentile(100))
        };
        let [leader, follower] = self.gaps;
        println!("soak: no fault in {} rounds, {:.0} s", self.rounds, took.as_secs_f64());
        row("acknowledged writes, none missing or doubled", self.acknowledged.to_string());
        row("writes without an answer, either way right", self.unknown.to_string());
        row("entries, preemptions", format!("{}, {}", self.entries, self.preemptions));
        row("no acknowledged write: a leader died", spread(leader));
        row("  a follower died", spread(follower));
        row("back and level after a death", spread(self.rejoins));
    }
}
