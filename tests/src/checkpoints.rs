//! What the tests of checkpoints share.

use coordinator::replica::checkpoint_status::CheckpointStatus;

use crate::cluster::Cluster;
use crate::http::Http;
use crate::layers;
use crate::status::Status;
use crate::wait::{PATIENCE, until};

/// Has a replica take a checkpoint; returns the entry at which it is.
pub fn checkpoint(cluster: &Cluster, replica: u8) -> u64 {
    let output = cluster.call(&["checkpoint", "--replica", &replica.to_string()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "no checkpoint was taken: {error}");
    println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
    let status = cluster.status().expect("a status");
    of(&status, replica).kept.first().expect("a checkpoint is kept").entry
}

/// Has some follower take a checkpoint; returns the follower and the entry at which it is. On a busy machine leaders change.
pub fn checkpoint_of_follower(cluster: &mut Cluster) -> (u8, u64) {
    for _ in 0..MOST_LEADERS {
        let follower = cluster.follower();
        let output = cluster.call(&["checkpoint", "--replica", &follower.to_string()]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            let status = cluster.status().expect("a status");
            return (follower, of(&status, follower).kept.first().expect("a checkpoint is kept").entry);
        }
        assert!(is_of_role(&error), "no checkpoint was taken: {error}");
    }
    panic!("the leader changed {MOST_LEADERS} times");
}

/// Whether a checkpoint was not taken because the replica leads, or no leader is known to it, or that changed.
pub fn is_of_role(error: &str) -> bool {
    ["it leads", "no leader is known", "the replica's role changed"].iter().any(|text| error.contains(text))
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

/// A machine on which the leader changes more often than this is too slow for any test.
const MOST_LEADERS: usize = 10;
/// Bytes of the page that a web server has for [`restore_web_server`].
pub const PAGE_BYTES: usize = 5000;
const WEB_CLIENTS: usize = 8;
/// Requests before and after each step.
const WEB_REQUESTS: usize = 400;

/// Clients that have a page of a web server, and keep their connections.
pub fn web_clients(cluster: &Cluster, page: &str) -> Vec<Http> {
    let client = |_| {
        until("the server answers", PATIENCE, || {
            let mut http = Http::connect(cluster.port()).ok()?;
            http.get(page).is_ok_and(|answer| answer.code == 200).then_some(http)
        })
    };
    (0..WEB_CLIENTS).map(client).collect()
}

/// A web server of three replicas comes back from a checkpoint with kept connections open, on which it goes on to answer; stops it.
pub fn restore_web_server(mut cluster: Cluster, page: &str) {
    cluster.await_complete();
    let mut clients = web_clients(&cluster, page);
    let mut load = || {
        for number in 0..WEB_REQUESTS {
            let http = &mut clients[number % WEB_CLIENTS];
            assert_eq!(http.get(page).expect("an answer").body.len(), PAGE_BYTES);
        }
    };
    load();
    let victim = cluster.follower();
    let entry = checkpoint(&cluster, victim);
    load();
    assert_eq!(kill(&mut cluster, victim).restored_from, Some(entry));
    load();
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// Has both followers of three take checkpoints twice, and waits until all logs are cut. `load` comes before each round of checkpoints
/// (the number says which, from 0), and fills two segments before the first. Returns the followers.
pub fn cut_logs(cluster: &mut Cluster, mut load: impl FnMut(&Cluster, usize)) -> Vec<u8> {
    let leader = cluster.leader();
    let followers: Vec<u8> = (1..=3).filter(|&id| id != leader).collect();
    for round in 0..2 {
        load(cluster, round);
        followers.iter().for_each(|&id| _ = checkpoint(cluster, id));
    }
    cluster.await_status("all logs are cut", |status| {
        (1..=3).all(|id| status.replica(id).is_some_and(|replica| replica.first_entry > 0)).then_some(())
    });
    followers
}

/// A replica comes back without its checkpoints and with a damaged log, as after a disk was replaced.
pub fn lose_state(cluster: &mut Cluster, replica: u8) {
    let id = replica.to_string();
    assert!(cluster.call(&["kill", "--replica", &id]).status.success());
    until("it has ended", PATIENCE, || cluster.status()?.replica(replica).is_none().then_some(()));
    let own = cluster.state().join(format!("replica-{replica}"));
    std::fs::remove_dir_all(own.join("checkpoints")).expect("remove its checkpoints");
    for segment in cluster.log_segments(replica) {
        let mut bytes = std::fs::read(&segment).expect("a segment");
        bytes[100] ^= 1;
        std::fs::write(&segment, bytes).expect("flip a bit");
    }
    assert!(cluster.call(&["start", "--replica", &id]).status.success());
}

/// Waits until a replica that lost its state has it from another; returns where its log begins now.
pub fn await_fetched(cluster: &mut Cluster, replica: u8) -> u64 {
    let first = cluster.await_status("it came back with a checkpoint of another", |status| {
        let replica = status.replica(replica)?;
        let restored = replica.checkpoints.restored_from.filter(|_| replica.damaged_log.is_none());
        restored.map(|_| replica.first_entry)
    });
    assert!(!cluster.logged("has the checkpoint at entry").is_empty(), "it was fetched");
    first
}
