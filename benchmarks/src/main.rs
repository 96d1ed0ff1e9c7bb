//! Native against brolga, side by side in one run: throughput, latency, CPU, memory, entries and bytes on the wire, the gap
//! of a failover, the price of checkpoints, and the cost of doing nothing. Writes a Markdown table and a plot.
//!
//! The machine is part of every number, so each round runs all subjects one after the other, and what is reported first
//! is the median over the rounds of the ratio to the native server of the *same* round.

mod checkpoints;
mod failover;
mod idle;
mod load;
mod measure;
mod plot;
mod report;
mod server;
mod servers;
mod subject;
mod wrk;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::subject::Subject;

/// Compares servers run natively and under brolga.
#[derive(Debug, Parser)]
#[command(name = "scripts/dev bench")]
struct Options {
    /// Rounds; each runs every subject once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Divide the number of requests and the time of each load by this: a quick look, not a measurement.
    #[arg(long, default_value_t = 1)]
    divide: u64,
    /// What to measure; all if not given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(parts()))]
    only: Vec<String>,
    /// Also measure the protocol that orders first and executes after (`--admission crane`).
    #[arg(long)]
    crane: bool,
    /// Also measure three replicas that wait for the disk (`--durability disk`).
    #[arg(long)]
    disk: bool,
    /// Where the table and the plot go.
    #[arg(long, default_value = "benchmarks/results")]
    output: PathBuf,
}

/// How long each load takes.
const LOAD: Duration = Duration::from_secs(5);

/// What can be measured: the servers, and three things more.
fn parts() -> Vec<&'static str> {
    server::ALL.iter().map(|server| server.name()).chain(["failover", "checkpoints", "idle"]).collect()
}

fn main() {
    let options = Options::parse();
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let mut subjects = vec![Subject::NATIVE, Subject::ONE, Subject::THREE];
    if options.crane {
        subjects.push(Subject::CRANE);
    }
    if options.disk {
        subjects.push(Subject::DISK);
    }
    let time = LOAD / u32::try_from(options.divide.max(1)).unwrap_or(u32::MAX);
    let mut results = measure::Results::default();
    for round in 0..options.rounds {
        for server in server::ALL.into_iter().filter(|server| wanted(server.name())) {
            for &subject in &subjects {
                measure::server(server, subject, round, time, &mut results);
            }
        }
    }
    let gaps = if wanted("failover") { failover::gaps(options.rounds) } else { Vec::new() };
    let costs = if wanted("checkpoints") { checkpoints::costs() } else { Vec::new() };
    let idle = wanted("idle").then(idle::cost);
    let text = report::markdown(&results, &subjects, &gaps, &costs, idle);
    println!("\n{text}");
    std::fs::create_dir_all(&options.output).expect("make the results' directory");
    let write = |name: &str, text: &str| {
        let path = options.output.join(name);
        std::fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        println!("wrote {}", path.display());
    };
    write("results.md", &text);
    write("throughput.svg", &plot::throughput(&results, &subjects));
}
