//! What others wrote for redis, unmodified, against three replicas: the whole list of `redis-benchmark`, and redis-py.

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::database::{self, TRANSACTIONS_BETWEEN};
use brolga_tests::layers;
use brolga_tests::redis_benchmark;
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::transfers::{Database, Transfers};

/// The tests of redis-benchmark's list; later versions may have more.
const LIST: [&str; 19] = [
    "PING_INLINE",
    "PING_MBULK",
    "SET",
    "GET",
    "INCR",
    "LPUSH",
    "RPUSH",
    "LPOP",
    "RPOP",
    "SADD",
    "HSET",
    "SPOP",
    "ZADD",
    "ZPOPMIN",
    "LPUSH (needed to benchmark LRANGE)",
    "LRANGE_100 (first 100 elements)",
    "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)",
    "MSET (10 keys)",
];

fn start(label: &str) -> Cluster {
    let command = ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes"];
    let mut cluster = Plan::new(&command).port(6379).start(label);
    cluster.await_complete();
    drop(Redis::when_ready(cluster.port()));
    cluster
}

fn end(mut cluster: Cluster) {
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "rebuilt: {}", status.raw);
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}

#[test]
fn the_whole_list_of_redis_benchmark_runs() {
    let _turn = serial::turn();
    let mut cluster = start("redis-list");
    let port = cluster.port();
    // 50 connections are its default.
    for options in [&["-n", "1000"][..], &["-n", "5000", "-c", "50", "-P", "16", "-r", "1000"]] {
        let done = redis_benchmark::run_all(port, options).unwrap_or_else(|error| panic!("{error}"));
        for name in LIST {
            let rate = done.iter().find(|(done, _)| done == name).map(|(_, rate)| *rate);
            assert!(rate.is_some_and(|rate| rate > 0.0), "{name} with {options:?}: {done:?}");
        }
        // The wrong answer to a command of redis-benchmark's is an error of the server's, which counts them.
        let stats = Redis::when_ready(port).must(&["INFO", "errorstats"]).bytes();
        let stats = String::from_utf8_lossy(&stats);
        assert!(!stats.contains("errorstat_"), "{stats}");
    }
    let leader = cluster.leader();
    cluster.kill_replica(leader);
    drop(Redis::when_ready(port));
    cluster.await_complete();
    end(cluster);
}

#[test]
fn transactions_and_scripts_of_redis_py_are_done_once_whoever_is_killed() {
    let _turn = serial::turn();
    let mut cluster = start("redis-py");
    let mut transfers = Transfers::start(Database::Redis, cluster.port());
    database::kill_replicas(&mut cluster, &mut transfers);
    database::check(transfers, 5 * TRANSACTIONS_BETWEEN);
    end(cluster);
}
