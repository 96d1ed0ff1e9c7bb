//! How a replica's log is opened, and what is told the checkers of it.

use coordinator::log::{Log, LogError, MemoryDisk, Options};
use coordinator::paxos::{Ballot, Config, Paxos};
use coordinator::replica::consensus::Consensus;
use coordinator::replica::membership::members_of;

use super::mail::Around;
use super::plan::{Broken, Plan};

/// Opens the log on `disk` for replica `id`.
pub(super) fn open(
    id: u8,
    disk: &MemoryDisk,
    around: &mut Around<'_>,
) -> Result<Consensus<MemoryDisk>, LogError> {
    let plan: &Plan = around.plan;
    let options = Options {
        cluster: [7; 16],
        durability: plan.durability,
        boot_id: "boot".to_owned(),
        segment_bytes: plan.segment_bytes,
        members_of,
    };
    let log = Log::open(disk.clone(), options)?;
    let replicas: Vec<u8> = (1..=plan.replicas as u8).collect();
    let mut config = Config::new(id, replicas, around.rng.word());
    config.members_of = members_of;
    (config.heartbeat, config.election) = (plan.heartbeat, plan.election);
    (config.tail_entries, config.tail_bytes) = (plan.tail_entries, 1 << 20);
    let everything = log.recovered(u64::MAX, usize::MAX)?;
    let values = everything.tail.iter().map(|entry| entry.value.clone());
    around.checker.quorums.recovered(id, log.first(), values.collect());
    let mut recovered = log.recovered(config.tail_entries as u64, config.tail_bytes)?;
    if plan.broken == Some(Broken::ForgetPromise) {
        recovered.promised = Ballot::ZERO;
    }
    Ok(Consensus::new(Paxos::new(config, recovered, around.now), log))
}
