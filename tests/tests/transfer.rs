//! The log is cut, and a replica that needs what was cut off comes back with a checkpoint of another one.

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Bytes of a value: some thousands of them fill several files of a log.
const VALUE_BYTES: usize = 8 << 10;
/// Keys; what is written to them goes round.
const KEYS: usize = 500;
/// Values that are written at a time.
const ROUND: usize = 1000;

fn redis() -> Plan {
    // Its file is in the upper layer. It is not written anew: that forks.
    let command = ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes"];
    let command = [&command[..], &["--auto-aof-rewrite-percentage", "0", "--protected-mode", "no"]].concat();
    Plan::new(&command).port(6379).options(&["--checkpoint-every", "100"])
}

fn client(cluster: &Cluster) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

fn fill(redis: &mut Redis, value: &str) {
    for number in 0..ROUND {
        redis.send(&["SET", &format!("k{}", number % KEYS), value]).expect("send");
    }
    for _ in 0..ROUND {
        assert_eq!(redis.receive().expect("an answer"), Reply::Simple("OK".into()));
    }
}

/// Writes until the logs of these replicas begin behind entry `first`; returns where the latest begins.
fn fill_until_cut(cluster: &mut Cluster, replicas: &[u8], first: u64) -> u64 {
    let mut redis = client(cluster);
    until("the logs are cut", 4 * PATIENCE, || {
        fill(&mut redis, &"v".repeat(VALUE_BYTES));
        let status = cluster.status()?;
        let begin: Option<Vec<u64>> =
            replicas.iter().map(|&id| status.replica(id).map(|replica| replica.first_entry)).collect();
        begin.filter(|begin| begin.iter().all(|begin| *begin > first))?.into_iter().max()
    })
}

#[test]
fn a_replica_without_log_and_checkpoints_comes_back_by_those_of_another() {
    let _turn = serial::turn();
    let mut cluster = redis().start("transfer");
    cluster.await_complete();
    let cut = fill_until_cut(&mut cluster, &[1, 2, 3], 0);
    let victim = cluster.follower();
    // It is down while its state goes away, as with a disk that was replaced by one with a damaged log.
    let stopped = cluster.call(&["kill", "--replica", &victim.to_string()]);
    assert!(stopped.status.success());
    let own = cluster.state().join(format!("replica-{victim}"));
    until("it has ended", PATIENCE, || cluster.status()?.replica(victim).is_none().then_some(()));
    std::fs::remove_dir_all(own.join("checkpoints")).expect("remove its checkpoints");
    for segment in cluster.log_segments(victim) {
        let mut bytes = std::fs::read(&segment).expect("a segment");
        bytes[100] ^= 1;
        std::fs::write(&segment, bytes).expect("flip a bit");
    }
    assert!(cluster.call(&["start", "--replica", &victim.to_string()]).status.success());
    let first = cluster.await_status("it came back with a checkpoint of another", |status| {
        let replica = status.replica(victim)?;
        replica
            .checkpoints
            .restored_from
            .filter(|_| replica.damaged_log.is_none())
            .map(|_| replica.first_entry)
    });
    assert!(first >= cut, "its log begins at {first}, those of the others at {cut}");
    assert!(!cluster.logged("has the checkpoint at entry").is_empty(), "it was fetched");
    client(&cluster).must(&["SET", "last", "word"]);
    cluster.await_level();
    assert!(cluster.logged("DIVERGED").is_empty());
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}
