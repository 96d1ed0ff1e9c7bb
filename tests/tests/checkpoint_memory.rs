//! Memory that is copied while the server runs again is that of the moment at which it stood still.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use brolga_tests::checkpoints::{checkpoint, kill, of as checkpoints};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Keys, and bytes of each value: copied in pieces, of which clients change most in the meantime.
const KEYS: usize = 20_000;
const VALUE_BYTES: usize = 2000;
/// Requests that are sent before their answers are read.
const PIPELINE: usize = 100;

fn client(cluster: &Cluster) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

/// Gives all keys the `round`'s value.
fn overwrite(redis: &mut Redis, round: usize) {
    let value = format!("{round:0>VALUE_BYTES$}");
    for part in 0..KEYS / PIPELINE {
        for key in 0..PIPELINE {
            redis.send(&["SET", &format!("k{}", part * PIPELINE + key), &value]).expect("send");
        }
        for _ in 0..PIPELINE {
            assert_eq!(redis.receive().expect("an answer"), Reply::Simple("OK".into()));
        }
    }
}

/// Processes of a replica's container, by their names.
fn processes(cluster: &Cluster, replica: u8) -> Vec<String> {
    let init = cluster.status().and_then(|s| s.replica(replica).map(|r| r.container_pid)).expect("it runs");
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own: PathBuf = namespace(&init.to_string()).expect("the namespace of init");
    let pids = std::fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = pids
        .filter(|pid| namespace(pid).as_ref() == Some(&own))
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .collect();
    names.sort();
    names
}

#[test]
fn a_server_whose_memory_changes_meanwhile_comes_back_as_it_was() {
    let _turn = serial::turn();
    let command = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(6379).start("checkpoint-memory");
    cluster.await_complete();
    overwrite(&mut client(&cluster), 0);
    let victim = cluster.follower();
    let before = processes(&cluster, victim);
    let stop = AtomicBool::new(false);
    let (entry, rounds) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut redis = client(&cluster);
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                overwrite(&mut redis, round);
            }
            round
        });
        let entry = checkpoint(&cluster, victim);
        stop.store(true, Ordering::Relaxed);
        (entry, load.join().expect("the load failed"))
    });
    println!("{:?}", checkpoints(&cluster.status().expect("a status"), victim).phases);
    until("nothing but the server is left in the container", PATIENCE, || {
        (processes(&cluster, victim) == before).then_some(())
    });
    let restored = kill(&mut cluster, victim);
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    cluster.await_level();
    cluster.make_leader(victim);
    let mut redis = client(&cluster);
    assert_eq!(redis.must(&["DBSIZE"]).number(), KEYS as i64);
    for key in ["k0", "k9999", "k19999"] {
        assert_eq!(redis.must(&["GET", key]).bytes(), format!("{rounds:0>VALUE_BYTES$}").into_bytes());
    }
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}
