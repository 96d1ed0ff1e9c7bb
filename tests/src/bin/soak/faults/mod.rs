//! The fault campaign: random faults while clients record their whole history, which must be linearizable. Rounds on one machine,
//! whose processes and files fail, and on three, whose network, clocks and disks fail, take turns.

mod here;
mod network;
mod timeline;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use brolga_tests::stats::Times;
use brolga_tests::workload::{Failure, Verdict};

use crate::{Choice, Directory};

const FAULTS_IN_A_ROUND: u32 = 10;
/// Operations between two faults, at the most.
const MOST_BETWEEN: u64 = 3000;
/// A fault that does not end by itself ends after so long at the most.
const LONGEST: Duration = Duration::from_secs(3);
/// The server of the campaign on Redis.
const REDIS: [&str; 9] =
    ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes", "--protected-mode", "no"];

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    /// Strings, lists, hashes and scripts of Redis.
    Redis,
    /// Tables of MariaDB.
    MariaDb,
}

/// Which rounds are played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// On one machine and on three by turns.
    All,
    /// On three, with this fault alone; to look into it.
    Only(String),
}

/// What a round brought.
struct Round {
    place: &'static str,
    faults: Vec<(String, Failure)>,
    gaps: Vec<Duration>,
    verdict: Verdict,
    rebuilds: usize,
    files: usize,
    took: Duration,
}

/// What is told at the end.
#[derive(Default)]
struct Report {
    rounds: u64,
    operations: usize,
    unanswered: usize,
    undecided: usize,
    rebuilds: usize,
    /// Times without an acknowledged operation, by fault.
    gaps: BTreeMap<String, Vec<Duration>>,
}

/// Plays rounds until the time is over.
pub fn run(server: Server, rounds: &Rounds, minutes: u64, choice: &mut Choice, directory: &Directory) {
    let (begin, mut report) = (Instant::now(), Report::default());
    while begin.elapsed() < Duration::from_secs(60 * minutes) {
        report.rounds += 1;
        match rounds {
            Rounds::All if report.rounds % 2 == 1 => here::play(server, choice, &mut report, directory),
            Rounds::All => network::play(server, None, choice, &mut report, directory),
            Rounds::Only(fault) => network::play(server, Some(fault), choice, &mut report, directory),
        }
    }
    report.print(begin.elapsed());
}

/// The names of the faults that can be asked for alone.
pub fn names() -> Vec<String> {
    network::FAULTS.iter().map(|fault| format!("{fault:?}")).collect()
}

/// Flips a bit in the first `part` of `of` parts of what is used of a file.
fn flip(path: &Path, choice: &mut Choice, part: u64, of: u64) {
    let mut bytes = std::fs::read(path).expect("read the file");
    let Some(used) = bytes.iter().rposition(|&byte| byte != 0) else { return };
    let place = choice.below((used as u64 + 1) * part / of) as usize;
    bytes[place] ^= 1 << choice.below(8);
    std::fs::write(path, &bytes).expect("damage the file");
}

impl Report {
    fn note(&mut self, round: Round) {
        let unanswered = round.verdict.unknown_done + round.verdict.unknown_lost;
        let names: Vec<_> = round.faults.iter().map(|(fault, _)| fault.as_str()).collect();
        println!(
            "round {}, {}: {}: {} operations in a linearizable order, {unanswered} without an answer; {} rebuilds; \
             digests and {} files equal; {:.0?}",
            self.rounds,
            round.place,
            names.join(" "),
            round.verdict.acknowledged,
            round.rebuilds,
            round.files,
            round.took
        );
        self.operations += round.verdict.acknowledged;
        self.unanswered += unanswered;
        self.undecided += round.verdict.undecided;
        self.rebuilds += round.rebuilds;
        for ((fault, _), gap) in round.faults.into_iter().zip(round.gaps) {
            self.gaps.entry(fault).or_default().push(gap);
        }
    }

    fn print(self, took: Duration) {
        let row = |name: &str, value: String| println!("  {name:<50} {value}");
        let faults: usize = self.gaps.values().map(Vec::len).sum();
        println!("faults: no anomaly in {} rounds, {:.0} s", self.rounds, took.as_secs_f64());
        row("faults", faults.to_string());
        row("anomalies, divergences", "0".to_owned());
        row("operations in a linearizable order", self.operations.to_string());
        row("operations without an answer", self.unanswered.to_string());
        row("objects whose history was too much to check", self.undecided.to_string());
        row("rebuilds of leaders that were replaced", self.rebuilds.to_string());
        for (fault, gaps) in self.gaps {
            let times = Times::new(gaps);
            let [median, worst] = [50, 100].map(|percent| times.percentile(percent));
            let name = format!("{fault}: {} times, none acknowledged", times.count());
            row(&name, format!("median {median:.0?}, worst {worst:.0?}"));
        }
    }
}
