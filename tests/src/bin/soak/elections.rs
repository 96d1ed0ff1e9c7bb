//! Full load and no fault: whether a leader that gets little time of a busy machine is taken for dead.

use std::time::{Duration, Instant};

use brolga_tests::cluster::Plan;
use brolga_tests::redis_benchmark::{self, Load};
use brolga_tests::wait::poll;

use crate::{DIVERGED, Directory, mark};

/// Requests of one run of the load, of which one follows the other: few enough for the time that a run has, on a machine that has
/// much else to do.
const REQUESTS: u64 = 50_000;
/// Pause between two looks at who leads.
const LOOK: Duration = Duration::from_secs(1);

/// Runs it; ends with an error if there was any election.
pub fn run(minutes: u64, directory: &Directory) {
    let command = ["redis-server", "--port", "7000", "--save", "", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(7000).start("elections");
    cluster.await_complete();
    mark(directory, &cluster);
    let status = cluster.await_level();
    let first = status.leader().map(|leader| (leader.id, leader.ballot));
    let (begin, port) = (Instant::now(), cluster.port());
    let over = move || begin.elapsed() >= Duration::from_secs(60 * minutes);
    // One with many connections, one with many requests on the way: together they take all the time that two CPUs have.
    let loads = [(50, 1), (8, 16)].map(|(clients, pipeline)| {
        let load = Load { command: "SET", clients, pipeline, requests: REQUESTS };
        std::thread::spawn(move || {
            let mut runs = 0;
            while !over() {
                redis_benchmark::run(port, load).unwrap_or_else(|error| panic!("{error}"));
                runs += 1;
            }
            runs
        })
    });
    let (mut elections, mut now) = (0, first);
    while poll(LOOK, || over().then_some(())).is_none() {
        let Some(status) = cluster.status() else { continue };
        let leads = status.leader().map(|leader| (leader.id, leader.ballot));
        if leads.is_some() && leads != now {
            elections += 1;
            println!("after {:.0?}: {leads:?} leads instead of {now:?}", begin.elapsed());
            now = leads;
        }
    }
    let runs: u64 = loads.into_iter().map(|load| load.join().expect("the load went on")).sum();
    cluster.await_level();
    let diverged = cluster.logged(DIVERGED);
    let lines = cluster.logged("ended: ");
    println!(
        "elections: {elections} without a fault in {:.0} s of full load; {} requests; {} divergences",
        begin.elapsed().as_secs_f64(),
        runs * REQUESTS,
        diverged.len()
    );
    lines.iter().for_each(|line| println!("  {line}"));
    assert!(elections == 0 && diverged.is_empty(), "there was no fault");
    cluster.stop();
}
