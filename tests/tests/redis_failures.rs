//! Three replicas of an unmodified redis-server, killed at moments of their own: while followers relay clients, and while a child of the
//! server writes a snapshot.

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Writing clients of each port.
const CLIENTS: usize = 4;
/// Acknowledged writes of each port before a failure, and after it.
const WRITES_BETWEEN: u64 = 500;
/// Keys of a snapshot, and how long its child sleeps after each: seconds in all, longer than it takes to kill a leader.
const SNAPSHOT_KEYS: usize = 400;
const KEY_DELAY_US: &str = "15000";

fn redis() -> Plan {
    let options = ["--save", "", "--appendonly", "yes", "--protected-mode", "no"];
    Plan::new(&[&["redis-server", "--port", "6379"][..], &options].concat()).port(6379)
}

/// Waits until the clients of each writer have had so many more answers.
fn progress(writers: &[Writer], more: u64) {
    let goals: Vec<_> = writers.iter().map(|writer| writer.acknowledged() + more).collect();
    until("writes are acknowledged", PATIENCE, || {
        let done = writers.iter().zip(&goals).all(|(writer, goal)| writer.acknowledged() >= *goal);
        done.then_some(())
    });
}

/// Lets a replica that was killed come back, with little load.
fn rejoin(cluster: &mut Cluster, writers: &[Writer]) {
    writers.iter().for_each(|writer| writer.rest(true));
    cluster.await_complete();
    writers.iter().for_each(|writer| writer.rest(false));
}

/// Holds the store against what the clients noted.
fn compare(cluster: &Cluster, writers: Vec<Writer>) {
    let mut redis = Redis::when_ready(cluster.port());
    for writer in writers {
        let verdict = writer.finish().compare(&mut redis).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{verdict:?}");
    }
}

fn own_port(cluster: &mut Cluster, id: u8) -> u16 {
    cluster.await_status("a replica has its own address", |status| status.own_port(id))
}

#[test]
fn every_replica_serves_at_its_own_address() {
    let _turn = serial::turn();
    let mut cluster = redis().start("redis-relay");
    cluster.await_complete();
    drop(Redis::when_ready(cluster.port()));
    for id in 1..=3 {
        let port = cluster.await_status("a replica has its own address", |status| status.own_port(id));
        let mut own = Redis::connect(port).expect("connect to a replica");
        assert_eq!(own.must(&["INCR", "relayed"]), Reply::Integer(i64::from(id)));
        let big = "x".repeat(8 << 20);
        own.must(&["SET", "big", &big]);
        assert!(own.must(&["GET", "big"]).bytes() == big.as_bytes(), "a relayed value came changed");
    }
    cluster.await_level();
    cluster.stop();
}

#[test]
fn clients_of_followers_lose_nothing_when_the_leader_or_their_follower_is_killed() {
    let _turn = serial::turn();
    let mut cluster = redis().start("redis-relay-kill");
    cluster.await_complete();
    drop(Redis::when_ready(cluster.port()));
    let leader = cluster.leader();
    let relays: Vec<u8> = (1..=cluster.replicas()).filter(|id| *id != leader).collect();
    let start = |(number, id): (usize, &u8)| {
        let port = own_port(&mut cluster, *id);
        Writer::start_numbered(port, number * CLIENTS..(number + 1) * CLIENTS)
    };
    let writers: Vec<_> = relays.iter().enumerate().map(start).collect();
    progress(&writers, WRITES_BETWEEN);
    // One of the two leads afterwards and the other one relays to it.
    cluster.kill_replica(leader);
    progress(&writers, WRITES_BETWEEN);
    rejoin(&mut cluster, &writers);
    progress(&writers, WRITES_BETWEEN);

    let leader = cluster.leader();
    let victim = *relays.iter().find(|id| **id != leader).expect("one of the two does not lead");
    let before = own_port(&mut cluster, victim);
    cluster.kill_replica(victim);
    // Its clients have other addresses to go to meanwhile, and find it where it was when it is back.
    assert_eq!(Redis::when_ready(cluster.port()).must(&["INCR", "elsewhere"]), Reply::Integer(1));
    rejoin(&mut cluster, &writers);
    assert_eq!(own_port(&mut cluster, victim), before);
    progress(&writers, WRITES_BETWEEN);
    compare(&cluster, writers);
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

fn persistence(redis: &mut Redis) -> String {
    String::from_utf8_lossy(&redis.must(&["INFO", "persistence"]).bytes()).into_owned()
}

#[test]
fn children_that_write_snapshots_go_on_when_the_leader_is_killed() {
    let _turn = serial::turn();
    let mut cluster = redis().start("redis-snapshot-kill");
    cluster.await_complete();
    let mut redis = Redis::when_ready(cluster.port());
    for number in 0..SNAPSHOT_KEYS {
        redis.must(&["SET", &format!("k{number}"), "v"]);
    }
    redis.must(&["CONFIG", "SET", "rdb-key-save-delay", KEY_DELAY_US]);
    let writers = [Writer::start(cluster.port(), CLIENTS)];
    for (command, under_way, well) in [
        ("BGSAVE", "rdb_bgsave_in_progress:1", "rdb_last_bgsave_status:ok"),
        ("BGREWRITEAOF", "aof_rewrite_in_progress:1", "aof_last_bgrewrite_status:ok"),
    ] {
        let mut redis = Redis::when_ready(cluster.port());
        redis.must(&[command]);
        progress(&writers, WRITES_BETWEEN);
        let leader = cluster.leader();
        let before = persistence(&mut redis);
        cluster.kill_replica(leader);
        let mut redis = Redis::when_ready(cluster.port());
        let after = persistence(&mut redis);
        assert!(
            before.contains(under_way) && after.contains(under_way),
            "{command} was not under way across the kill:\n{before}\n{after}"
        );
        progress(&writers, WRITES_BETWEEN);
        writers.iter().for_each(|writer| writer.rest(true));
        let ended = until("the child ends", PATIENCE, || {
            let now = persistence(&mut Redis::when_ready(cluster.port()));
            (!now.contains(under_way)).then_some(now)
        });
        assert!(ended.contains(well), "{command}:\n{ended}");
        rejoin(&mut cluster, &writers);
    }
    compare(&cluster, writers.into());
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    let dumps: Vec<_> =
        layers::of_state(&cluster.state()).iter().map(|l| layers::files_named(l, "dump.rdb")).collect();
    assert!(dumps.iter().all(|dump| dump.len() == 1 && *dump == dumps[0]), "dump.rdb differs or is missing");
    cluster.stop();
}
