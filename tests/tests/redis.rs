//! Three replicas of an unmodified redis-server: everything that it does keeps working, and any replica may be killed.

use std::time::Duration;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::process;
use brolga_tests::redis_benchmark;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::Failure;
use coordinator::replay::recording::Recording;

/// Writing clients.
const CLIENTS: usize = 8;
/// Acknowledged writes between two failures.
const WRITES_BETWEEN: u64 = 3000;
/// What a test on a loaded machine may see; the figure to reach is 200 ms, the benchmark measures it.
const GAP_LIMIT: Duration = Duration::from_secs(5);
/// With threads that spin: a new leader cuts a spin loop in the bubble that it inherits only after a second of CPU time, which
/// is many seconds where the machine has other work.
const SPIN_GAP_LIMIT: Duration = PATIENCE;

fn redis(io_threads: &str) -> Plan {
    Plan::new(&[
        "redis-server",
        "--port",
        "6379",
        "--io-threads",
        io_threads,
        "--save",
        "",
        "--appendonly",
        "yes",
        "--protected-mode",
        "no",
    ])
    .port(6379)
}

/// A client as soon as the server answers.
fn client(cluster: &Cluster) -> Redis {
    Redis::when_ready(cluster.port())
}

#[test]
fn commands_of_every_kind_work_and_replicas_stay_identical() {
    commands_of_every_kind("1");
}

#[test]
fn commands_of_every_kind_work_and_replicas_stay_identical_with_io_threads() {
    commands_of_every_kind("4");
}

fn commands_of_every_kind(io_threads: &str) {
    let _turn = serial::turn();
    let mut cluster = redis(io_threads).start(&format!("redis-commands-{io_threads}"));
    cluster.await_complete();
    let mut a = client(&cluster);
    let mut b = client(&cluster);
    pipeline(&mut a);
    transaction(&mut a);
    scripts(&mut a);
    blocking_list(&mut a, &mut b);
    publish(&mut a, &mut b);
    expiry(&mut a);
    background_save(&mut a);
    a.must(&["SAVE"]);
    let status = cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}

fn pipeline(redis: &mut Redis) {
    for number in 0..500 {
        redis.send(&["SET", &format!("p{number}"), &"v".repeat(number)]).expect("send");
    }
    for _ in 0..500 {
        assert_eq!(redis.receive().expect("an answer"), Reply::Simple("OK".into()));
    }
    assert_eq!(redis.must(&["GET", "p499"]).bytes(), "v".repeat(499).into_bytes());
}

fn transaction(redis: &mut Redis) {
    redis.must(&["MULTI"]);
    redis.must(&["INCR", "t"]);
    redis.must(&["INCRBY", "t", "41"]);
    let answers = redis.must(&["EXEC"]).items();
    assert_eq!(answers, [Reply::Integer(1), Reply::Integer(42)]);
}

fn scripts(redis: &mut Redis) {
    let script = "local s = 0; for i = 1, ARGV[1] do s = s + i end; redis.call('SET', KEYS[1], s); return s";
    assert_eq!(redis.must(&["EVAL", script, "1", "sum", "1000"]), Reply::Integer(500_500));
    assert_eq!(redis.must(&["GET", "sum"]).bytes(), b"500500");
    // Time and randomness come from the log, so that replicas agree on them.
    redis.must(&["EVAL", "return redis.call('SET', KEYS[1], redis.call('TIME')[2])", "1", "now"]);
    redis.must(&["SADD", "set", "a", "b", "c", "d"]);
    let random = redis.must(&["SRANDMEMBER", "set"]).bytes();
    redis.must(&["SET", "random", &String::from_utf8_lossy(&random)]);
}

fn blocking_list(a: &mut Redis, b: &mut Redis) {
    a.send(&["BLPOP", "queue", "20"]).expect("send");
    b.must(&["RPUSH", "queue", "item"]);
    let popped = a.receive().expect("an answer").items();
    assert_eq!(popped, [Reply::Bulk(Some(b"queue".to_vec())), Reply::Bulk(Some(b"item".to_vec()))]);
    // And its time-out, which only the virtual clock can bring.
    assert_eq!(a.must(&["BLPOP", "queue", "0.2"]), Reply::Array(None));
}

fn publish(a: &mut Redis, b: &mut Redis) {
    a.must(&["SUBSCRIBE", "news"]);
    assert_eq!(b.must(&["PUBLISH", "news", "hello"]), Reply::Integer(1));
    let message = a.receive().expect("the message").items();
    assert_eq!(message[2], Reply::Bulk(Some(b"hello".to_vec())));
    a.must(&["UNSUBSCRIBE", "news"]);
}

fn expiry(redis: &mut Redis) {
    redis.must(&["SET", "brief", "x", "PX", "100"]);
    until("a key expires", PATIENCE, || (redis.must(&["EXISTS", "brief"]).number() == 0).then_some(()));
}

fn background_save(redis: &mut Redis) {
    redis.must(&["BGSAVE"]);
    until("BGSAVE ends", PATIENCE, || {
        let info = String::from_utf8_lossy(&redis.must(&["INFO", "persistence"]).bytes()).into_owned();
        assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
        info.contains("rdb_bgsave_in_progress:0").then_some(())
    });
}

/// Stops of a cluster under load.
const STOPS: u64 = 2;
/// Acknowledged writes before each.
const WRITES_BEFORE_STOP: u64 = 100;
/// Entries at the end of the logs that are compared.
const LAST_ENTRIES: u64 = 50;

#[test]
fn an_orderly_stop_leaves_every_replica_the_whole_log() {
    let _turn = serial::turn();
    let mut cluster = redis("1").start("redis-stop");
    cluster.await_complete();
    drop(client(&cluster));
    for stop in 1..=STOPS {
        // A client alone: its entries come one at a time, and one replica gets each a little later than the others.
        let writer = Writer::start(cluster.port(), 1);
        until("writes are acknowledged", PATIENCE, || {
            (writer.acknowledged() >= WRITES_BEFORE_STOP).then_some(())
        });
        cluster.stop();
        writer.finish();
        let open = |id| Recording::open(&cluster.state(), id).expect("open a replica's log");
        let logs = [1, 2, 3].map(open);
        let lengths = logs.each_ref().map(Recording::len);
        assert!(lengths[0] > WRITES_BEFORE_STOP && lengths == [lengths[0]; 3], "lengths {lengths:?}");
        let last =
            logs.each_ref().map(|log| log.read(lengths[0] - LAST_ENTRIES, lengths[0]).expect("entries"));
        assert!(last[0].len() as u64 == LAST_ENTRIES && last[1] == last[0] && last[2] == last[0]);
        println!("stop {stop}: {} entries", lengths[0]);
        drop(logs);
        cluster.run();
        cluster.await_complete();
    }
    cluster.stop();
}

#[test]
fn any_replica_may_be_killed_under_load() {
    kill_each_role("1");
}

#[test]
fn any_replica_may_be_killed_under_load_with_io_threads() {
    kill_each_role("4");
}

fn kill_each_role(io_threads: &str) {
    let _turn = serial::turn();
    let mut cluster = redis(io_threads).start(&format!("redis-kill-{io_threads}"));
    cluster.await_complete();
    drop(client(&cluster));
    let writer = Writer::start(cluster.port(), CLIENTS);
    let progress = |more: u64| {
        let goal = writer.acknowledged() + more;
        until("writes are acknowledged", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
    };
    progress(WRITES_BETWEEN);
    let mut kills = Vec::new();
    for leader in [true, false, true] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        let killed = cluster.kill_replica(victim);
        progress(WRITES_BETWEEN);
        kills.push((leader, Failure::since(killed)));
        writer.rest(true);
        cluster.await_complete();
        writer.rest(false);
    }
    let journal = writer.finish();
    let verdict = journal.compare(&mut client(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
    let times = journal.times();
    println!(
        "io-threads {io_threads}: {} writes, {:.0}/s, p50 {:?}, p99 {:?}; {verdict:?}",
        times.count(),
        journal.rate(),
        times.percentile(50),
        times.percentile(99)
    );
    let failures: Vec<_> = kills.iter().map(|(_, failure)| *failure).collect();
    for ((leader, _), gap) in kills.iter().zip(journal.gaps(&failures)) {
        println!("killed the {}: longest gap {gap:?}", if *leader { "leader" } else { "follower" });
        let limit = if io_threads == "1" { GAP_LIMIT } else { SPIN_GAP_LIMIT };
        assert!(gap < limit, "{gap:?} without an acknowledged write");
    }
    client(&cluster).must(&["SAVE"]);
    let status = cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    let dumps: Vec<_> =
        layers::of_state(&cluster.state()).iter().map(|l| layers::files_named(l, "dump.rdb")).collect();
    assert!(dumps.iter().all(|dump| dump.len() == 1 && *dump == dumps[0]), "dump.rdb differs or is missing");
    cluster.stop();
}

#[test]
fn a_stopped_cluster_goes_on_where_it_was() {
    let _turn = serial::turn();
    let mut cluster = redis("1").start("redis-again");
    cluster.await_complete();
    let mut redis = client(&cluster);
    for number in 0..100 {
        redis.must(&["SET", &format!("k{number}"), "v"]);
    }
    cluster.stop();
    cluster.run();
    cluster.await_complete();
    assert_eq!(client(&cluster).must(&["DBSIZE"]), Reply::Integer(100));
    cluster.await_level();
    cluster.stop();
}

#[test]
fn disk_durability_and_crane_admission_work() {
    let _turn = serial::turn();
    for options in [["--durability", "disk"], ["--admission", "crane"]] {
        let mut cluster = redis("1").options(&options).start("redis-options");
        cluster.await_complete();
        drop(client(&cluster));
        let writer = Writer::start(cluster.port(), 4);
        until("writes are acknowledged", PATIENCE, || (writer.acknowledged() >= 1000).then_some(()));
        let leader = cluster.leader();
        cluster.kill_replica(leader);
        let goal = writer.acknowledged() + 1000;
        until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
        writer.rest(true);
        cluster.await_complete();
        let journal = writer.finish();
        let verdict = journal.compare(&mut client(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!(
            "{options:?}: {:.0}/s, p50 {:?}; {verdict:?}",
            journal.rate(),
            journal.times().percentile(50)
        );
        cluster.await_level();
        cluster.stop();
    }
}

/// Where the first thread of a process may run, as the kernel writes it.
fn processors(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read a process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("the processors of a process").trim().to_owned()
}

#[test]
fn in_a_throng_server_and_coordinator_share_a_processor_until_it_ends() {
    let _turn = serial::turn();
    let mut cluster = redis("1").replicas(1).start("redis-throng");
    cluster.await_complete();
    drop(client(&cluster));
    let coordinator = cluster.await_status("its process", |status| Some(status.replica(1)?.pid));
    let server = process::tree(cluster.pid()).into_iter().find(|process| process.name == "redis-server");
    let both = [server.expect("the server's process").pid, coordinator];
    let before = both.map(processors);
    let port = cluster.port();
    let load = redis_benchmark::Load { command: "SET", clients: 50, pipeline: 1, requests: 100_000 };
    let load = std::thread::spawn(move || redis_benchmark::run(port, load));
    until("both are bound to one processor", PATIENCE, || {
        let now = both.map(processors);
        (now[0] == now[1] && now[0].parse::<u32>().is_ok()).then_some(())
    });
    load.join().expect("the load").unwrap_or_else(|error| panic!("{error}"));
    until("they are free again", PATIENCE, || (both.map(processors) == before).then_some(()));
    cluster.await_level();
    cluster.stop();
}
