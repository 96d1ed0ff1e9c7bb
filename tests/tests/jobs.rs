//! A server that `brolga signal STOP` stopped is stopped on all replicas, whoever leads, dies and comes back meanwhile, until
//! `brolga signal CONT`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use brolga_tests::checkpoints::{checkpoint, kill};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// How long a server must keep silent to count as stopped.
const SILENCE: Duration = Duration::from_millis(300);

fn client(cluster: &Cluster) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

fn signal(cluster: &Cluster, name: &str) {
    let output = cluster.call(&["signal", name]);
    assert!(output.status.success(), "{output:?}");
}

/// A client whose question is not answered for now.
fn assert_silent(cluster: &Cluster) -> Redis {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
    let mut redis = Redis::connect_to(address, PATIENCE, SILENCE).expect("connect");
    redis.send(&["INCR", "counter"]).expect("send");
    assert!(redis.receive().is_err(), "a stopped server answered");
    redis
}

#[test]
fn a_stopped_server_stays_so_across_deaths_and_a_checkpoint() {
    let _turn = serial::turn();
    let command =
        ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(6379).start("jobs");
    cluster.await_complete();
    assert_eq!(client(&cluster).must(&["INCR", "counter"]).number(), 1);
    signal(&cluster, "STOP");
    let _asked = assert_silent(&cluster);
    let victim = cluster.follower();
    let entry = checkpoint(&cluster, victim);
    let restored = kill(&mut cluster, victim);
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    let leader = cluster.leader();
    cluster.kill_replica(leader);
    cluster.await_complete();
    let mut asked = assert_silent(&cluster);
    signal(&cluster, "CONT");
    // The first question went down with its leader's connections, after it had come into the log.
    assert_eq!(asked.receive().expect("an answer").number(), 3);
    assert_eq!(client(&cluster).must(&["INCR", "counter"]).number(), 4);
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}
