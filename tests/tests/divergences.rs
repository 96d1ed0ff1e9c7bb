//! A replica whose server went another way: noticed, told, rebuilt.

use std::fs;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::replica::status::DigestState;

const REDIS: [&str; 7] = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

#[test]
fn a_replica_that_diverges_is_reported_and_rebuilt() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("diverge");
    cluster.await_complete();
    let victim = cluster.follower();
    // A follower may not have a server yet, which alone could be told.
    cluster.await_status("its server runs", |status| {
        status.replica(victim).is_some_and(|replica| replica.container_pid != 0).then_some(())
    });
    let output = cluster.call(&["inject", "--replica", &victim.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut client = redis(&cluster);
    // One byte of what the victim's redis reads is another one, so its answer or its data differ.
    for number in 0..100 {
        client.must(&["SET", &format!("key{number}"), "value"]);
    }
    cluster.await_status("the divergence is noticed", |status| {
        // The victim may hear of it only now, and then it takes one more event.
        client.must(&["SET", "one-more", "value"]);
        let replica = status.replica(victim)?;
        (matches!(replica.digests, DigestState::Diverged { .. }) || replica.rebuilds > 0).then_some(())
    });
    let status = cluster.await_level();
    let replica = status.replica(victim).expect("the replica");
    assert!(replica.rebuilds > 0, "the replica was not rebuilt");
    // Where it happened is known after the rebuild, too: to `status`, in both forms, and to the log.
    let last = replica.last_divergence.clone().expect("what is known of its divergence");
    let (entry, tick) = (last.entry, last.tick);
    assert!(last.count > 0 && tick > 0 && entry < replica.applied, "{last:?}");
    let text = cluster.call(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let told = format!("replica {victim} diverged at entry {entry}, tick {tick}, and was rebuilt");
    assert!(text.lines().any(|line| line.starts_with(&told)), "no «{told}»:\n{text}");
    println!("{text}");
    let told = format!("DIVERGED at entry {entry}, logical time {tick}: ");
    let log = cluster.state().join(format!("replica-{victim}/coordinator.log"));
    let log = fs::read_to_string(log).expect("read the coordinator's log");
    assert!(log.contains(&told), "no «{told}»:\n{log}");
    let told = format!("replica {victim} DIVERGED at entry {entry}, tick {tick}: ");
    let printed = cluster.printed();
    assert!(printed.contains(&told), "no «{told}»:\n{printed}");
    for number in 0..100 {
        assert_eq!(client.must(&["GET", &format!("key{number}")]).bytes(), b"value");
    }
    // And to those who come later: another coordinator, which has nothing new to tell, and another supervisor.
    cluster.kill_replica(victim);
    cluster.await_complete();
    let status = cluster.await_level();
    let kept = status.replica(victim).and_then(|replica| replica.last_divergence.clone());
    assert!(kept.is_some_and(|kept| (kept.entry, kept.tick, &kept.reason) == (entry, tick, &last.reason)));
    cluster.stop();
    let before = cluster.printed().len();
    cluster.run();
    cluster.await_complete();
    let status = cluster.await_level();
    assert!(status.replica(victim).is_some_and(|replica| replica.last_divergence.is_some()));
    assert!(!cluster.printed()[before..].contains("DIVERGED"), "{}", cluster.printed());
    cluster.stop();
}

/// Files in a replica's upper layer that take well over a second to remove.
const MANY_FILES: u32 = 100_000;
/// No turn of a replica's loop may take longer: half of the shortest election time-out, microseconds.
const LONGEST_TURN_US: u64 = 250_000;

#[test]
fn a_rebuild_that_wipes_a_large_layer_does_not_keep_the_replica_from_voting() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("wipe");
    cluster.await_complete();
    let victim = cluster.follower();
    let many = cluster.state().join(format!("replica-{victim}/layers/upper/var/many"));
    fs::create_dir_all(&many).expect("make a directory in the upper layer");
    for number in 0..MANY_FILES {
        fs::write(many.join(number.to_string()), "").expect("make a file in the upper layer");
    }
    let ballot = cluster.await_status("a replica leads", |status| Some(status.leader()?.ballot));
    let before =
        cluster.await_status("the victim tells", |status| Some(status.replica(victim)?.longest_turn_us));
    let output = cluster.call(&["inject", "--replica", &victim.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut client = redis(&cluster);
    for number in 0..100 {
        client.must(&["SET", &format!("key{number}"), "value"]);
    }
    cluster.await_status("the replica is rebuilt", |status| {
        status.replica(victim).is_some_and(|replica| replica.rebuilds > 0).then_some(())
    });
    let status = cluster.await_level();
    assert!(!many.exists(), "the layer was not wiped");
    let turn = status.replica(victim).map(|replica| replica.longest_turn_us).unwrap_or_default();
    println!("longest turn of the rebuilt replica: {turn} us ({before} us before)");
    assert!(turn < LONGEST_TURN_US, "the loop was held up for {turn} us");
    assert_eq!(status.leader().map(|leader| leader.ballot), Some(ballot), "the leader was not left alone");
    cluster.stop();
}
