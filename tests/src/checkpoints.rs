//! What the tests of checkpoints share.

use coordinator::replica::checkpointing::CheckpointStatus;

use crate::cluster::Cluster;
use crate::status::Status;

/// Has a replica take a checkpoint; returns the entry at which it is.
pub fn checkpoint(cluster: &Cluster, replica: u8) -> u64 {
    let output = cluster.call(&["checkpoint", "--replica", &replica.to_string()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "no checkpoint was taken: {error}");
    println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
    let status = cluster.status().expect("a status");
    of(&status, replica).kept.first().expect("a checkpoint is kept").entry
}

/// What a replica tells of its checkpoints.
pub fn of(status: &Status, replica: u8) -> CheckpointStatus {
    status.replica(replica).map(|replica| replica.checkpoints.clone()).unwrap_or_default()
}

/// Kills a replica, whose supervisor starts it again, and waits until it follows; returns what became of its checkpoints.
pub fn kill(cluster: &mut Cluster, replica: u8) -> CheckpointStatus {
    let before = cluster.status().and_then(|s| s.replica(replica).map(|r| r.pid)).expect("it runs");
    cluster.kill_replica(replica);
    cluster.await_complete();
    cluster.await_status("a server of the replica runs again", |status| {
        let replica = status.replica(replica)?;
        (replica.pid != before && replica.container_pid != 0).then(|| replica.checkpoints.clone())
    })
}
