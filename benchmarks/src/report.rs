//! The tables, in Markdown.

use std::fmt::Write;
use std::time::Duration;

use coordinator::checkpoint::Phases;

use crate::checkpoints::{Cost, Taken};
use crate::idle::Idle;
use crate::measure::{Results, Sample};
use crate::subject::Subject;

/// Everything that was measured.
pub fn markdown(
    results: &Results,
    subjects: &[Subject],
    gaps: &[Duration],
    costs: &[Cost],
    idle: Option<Idle>,
) -> String {
    let mut text = String::from("# Benchmark results\n\n");
    let _ = writeln!(text, "{}\n", machine());
    if !results.samples.is_empty() {
        ratios(&mut text, results, subjects);
        details(&mut text, results, subjects);
    }
    if !gaps.is_empty() {
        failover(&mut text, gaps);
    }
    if !costs.is_empty() {
        checkpoints(&mut text, costs);
    }
    if let Some(idle) = idle {
        text.push_str("\n## Idle\n\n");
        let (percent, entries) = (idle.cores * 100.0, idle.entries);
        let _ = writeln!(
            text,
            "Three replicas of a redis without clients: {percent:.1} % of one core in total, {entries:.1} entries/s."
        );
    }
    text
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cpus} CPUs ({}), Linux {}. All replicas, the server alone and the load generators share them.",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    )
}

fn ratios(text: &mut String, results: &Results, subjects: &[Subject]) {
    text.push_str(
        "## Against the native server\n\nMedian over the rounds of the ratio within a round. CPU and memory are those of all replicas together, \
         memory that of their servers alone.\n\n| load |",
    );
    let compared: Vec<_> = subjects.iter().filter(|subject| subject.replicas > 0).collect();
    for subject in &compared {
        let _ =
            write!(text, " {0}: throughput | {0}: p50 | {0}: p99 | {0}: CPU | {0}: memory |", subject.name);
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(5 * compared.len()));
    for load in results.loads() {
        let _ = write!(text, "| {load} |");
        for subject in &compared {
            let values: [fn(&Sample) -> f64; 5] = [
                |s| s.outcome.rate,
                |s| s.outcome.p50,
                |s| s.outcome.p99,
                |s| s.cpu,
                |s| s.after.server_memory as f64,
            ];
            for value in values {
                cell(text, results.ratio(load, **subject, value).map(|ratio| format!("{ratio:.2}")));
            }
        }
        text.push('\n');
    }
}

fn details(text: &mut String, results: &Results, subjects: &[Subject]) {
    text.push_str(
        "\n## Values\n\nMedians over the rounds. CPU, entries, bubbles and bytes are for 1,000 requests and count all \
         replicas. Memory of servers: of all replicas' server processes together (Pss: a page that several share counts once), after the \
         load. Memory of a coordinator: the largest one's whole resident set, with its mapped log and arena.\n\n\
         | load | subject | requests/s | p50 ms | p99 ms | CPU ms | servers MB | coordinator MB | entries | bubbles | wire kB |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    type Column = (fn(&Sample) -> f64, usize);
    let columns: [Column; 9] = [
        (|s| s.outcome.rate, 0),
        (|s| s.outcome.p50, 3),
        (|s| s.outcome.p99, 3),
        (|s| s.cpu, 1),
        (|s| s.after.server_memory as f64 / 1e6, 0),
        (|s| s.after.coordinator_memory as f64 / 1e6, 0),
        (|s| s.entries, 1),
        (|s| s.bubbles, 1),
        (|s| s.wire / 1e3, 1),
    ];
    for load in results.loads() {
        for subject in subjects {
            let _ = write!(text, "| {load} | {} |", subject.name);
            for (value, digits) in columns {
                cell(text, results.median(load, *subject, value).map(|value| format!("{value:.digits$}")));
            }
            text.push('\n');
        }
    }
}

fn cell(text: &mut String, value: Option<String>) {
    let _ = write!(text, " {} |", value.unwrap_or_else(|| "-".into()));
}

fn failover(text: &mut String, gaps: &[Duration]) {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let (middle, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    text.push_str("\n## Failover\n\n");
    let _ = writeln!(
        text,
        "`kill -9` of the leader's whole replica under load, {} times: the longest time between two acknowledged writes of \
         eight clients was {} ms in the median and {} ms at most.",
        gaps.len(),
        middle.as_millis(),
        most.as_millis()
    );
}

fn checkpoints(text: &mut String, costs: &[Cost]) {
    text.push_str(
        "\n## Checkpoints\n\nOf a follower of three replicas, first with idle clients, then with eight at work. Its server stands still while CRIU \
         dumps its memory and files are copied, at the same time; sums and disk come after. p99: that of the clients while checkpoints \
         are taken, against that of the same seconds without. Restored: from `brolga restore` until the replica is level and its digest is the leader's. Replay: entries a \
         second against those at which the log was written.\n\n\
         | server | MB | still ms, idle | at work | dump ms | copies ms | memory ms | store ms | p99 ms without | with | ratio | restored ms | replay ratio |\n\
         |---|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let still = |taken: &[Taken]| -> String {
        let each: Vec<_> = taken.iter().map(|(_, pause, _)| pause.as_millis().to_string()).collect();
        each.join(", ")
    };
    for Cost { server, taken, idle, p99, restored, rates } in costs {
        let most =
            |phase: fn(&Phases) -> u64| taken.iter().map(|(_, _, phases)| phase(phases)).max().unwrap_or(0);
        let megabytes = taken.iter().map(|(bytes, ..)| bytes >> 20).max().unwrap_or(0);
        let (without, with) = (p99.0.as_secs_f64() * 1e3, p99.1.as_secs_f64() * 1e3);
        let _ = writeln!(
            text,
            "| {server} | {megabytes} | {} | {} | {} | {} | {} | {} | {without:.2} | {with:.2} | {:.2} | {} | {:.1} |",
            still(idle),
            still(taken),
            most(|phases| phases.dump),
            most(|phases| phases.copies),
            most(|phases| phases.memory),
            most(|phases| phases.store),
            with / without,
            restored.as_millis(),
            rates.1 / rates.0,
        );
    }
}
