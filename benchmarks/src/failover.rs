//! How long clients wait when the leader's whole replica is killed.

use std::time::Duration;

use brolga_tests::journal::Writer;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::Failure;

use crate::servers::redis::Redis;
use crate::subject::{Running, Subject};

const CLIENTS: usize = 8;
const KILLS_IN_A_ROUND: usize = 3;
/// Acknowledged writes before each kill.
const WRITES_BEFORE: u64 = 3000;

/// Kills the leader of a loaded redis several times; returns what the clients noticed.
pub fn gaps(rounds: usize) -> Vec<Duration> {
    (0..rounds).flat_map(|_| round()).collect()
}

fn round() -> Vec<Duration> {
    let Running::Brolga { mut cluster, .. } = Running::start(&Redis, Subject::THREE) else {
        return Vec::new();
    };
    let writer = Writer::start(cluster.port(), CLIENTS);
    let mut failures = Vec::new();
    for _ in 0..KILLS_IN_A_ROUND {
        let goal = writer.acknowledged() + WRITES_BEFORE;
        until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
        let leader = cluster.leader();
        let killed = cluster.kill_replica(leader);
        let goal = writer.acknowledged() + WRITES_BEFORE;
        until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
        failures.push(Failure::since(killed));
        writer.rest(true);
        cluster.await_complete();
        writer.rest(false);
    }
    let goal = writer.acknowledged() + WRITES_BEFORE;
    until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
    let journal = writer.finish();
    cluster.stop();
    let gaps = journal.gaps(&failures);
    println!("failover: {gaps:.0?}");
    gaps
}
