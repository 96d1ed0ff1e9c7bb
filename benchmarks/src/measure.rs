//! Runs the loads of one server on one subject, and keeps what they measured.

use std::time::Duration;

use crate::load::Outcome;
use crate::server::Server;
use crate::subject::{Counters, Running, Subject};

/// One load on one subject in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The load's name.
    pub load: String,
    /// The subject's name.
    pub subject: &'static str,
    /// Which round.
    pub round: usize,
    /// What the clients saw.
    pub outcome: Outcome,
    /// CPU time of all replicas for 1,000 requests, milliseconds.
    pub cpu: f64,
    /// Log entries for 1,000 requests.
    pub entries: f64,
    /// Entries without events for 1,000 requests.
    pub bubbles: f64,
    /// Bytes between replicas for 1,000 requests.
    pub wire: f64,
    /// Memory afterwards.
    pub after: Counters,
}

/// All samples.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
}

impl Results {
    /// The loads, in order.
    pub fn loads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !names.contains(&sample.load.as_str()) {
                names.push(&sample.load);
            }
        }
        names
    }

    /// The median over the rounds of some value.
    pub fn median(&self, load: &str, subject: Subject, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(self.of(load, subject).map(value).collect())
    }

    /// The median over the rounds of a value's ratio to the native one of the same round.
    pub fn ratio(&self, load: &str, subject: Subject, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let ratio = |sample: &Sample| {
            let native = self.of(load, Subject::NATIVE).find(|native| native.round == sample.round)?;
            Some(value(sample) / value(native))
        };
        median(self.of(load, subject).filter_map(ratio).collect())
    }

    fn of<'a>(&'a self, load: &'a str, subject: Subject) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.load == load && sample.subject == subject.name)
    }
}

/// The middle of some values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Measures all loads of a server on one subject.
pub fn server(server: &dyn Server, subject: Subject, round: usize, time: Duration, results: &mut Results) {
    let mut running = Running::start(server, subject);
    for load in server.loads(time) {
        let before = running.counters();
        let outcome = load.run(running.port());
        let after = running.counters();
        let thousands = outcome.requests as f64 / 1000.0;
        let per = |before: u64, after: u64| after.saturating_sub(before) as f64 / thousands;
        let sample = Sample {
            load: load.name.clone(),
            subject: subject.name,
            round,
            outcome,
            cpu: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / thousands,
            entries: per(before.entries, after.entries),
            bubbles: per(before.bubbles, after.bubbles),
            wire: per(before.wire, after.wire),
            after,
        };
        println!(
            "round {round}: {:<28} {:<20} {:>9.0}/s  p50 {:.3} ms  p99 {:.3} ms  CPU {:.1} ms/1000",
            sample.load, sample.subject, outcome.rate, outcome.p50, outcome.p99, sample.cpu
        );
        results.samples.push(sample);
    }
    running.stop();
}
