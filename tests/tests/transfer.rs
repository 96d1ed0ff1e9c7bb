//! The log is cut, and a replica that needs what was cut off comes back with a checkpoint of another one.

use std::path::PathBuf;

use brolga_tests::checkpoints::{await_fetched, cut_logs, lose_state, of as checkpoints};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::process;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::checkpoint::criu::find;

/// Bytes of a value: some thousands of them fill several files of a log.
const VALUE_BYTES: usize = 8 << 10;
/// Keys; what is written to them goes round.
const KEYS: usize = 500;
/// Values that are written at a time.
const ROUND: usize = 1000;

/// Replicas that keep checkpoints when one is asked for them.
fn plain_redis() -> Plan {
    // Its file is in the upper layer. It is not written anew: that would make it small.
    let command = ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes"];
    let command = [&command[..], &["--auto-aof-rewrite-percentage", "0", "--protected-mode", "no"]].concat();
    Plan::new(&command).port(6379)
}

/// Entries of the log that have a replica's checkpoint each in turn.
const STRETCH: u64 = 100;

fn redis() -> Plan {
    plain_redis().options(&["--checkpoint-every", &STRETCH.to_string()])
}

/// The same without a file: its checkpoints stay small, however much is written.
fn small_redis() -> Plan {
    let command = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
    Plan::new(&command).port(6379).options(&["--checkpoint-every", &STRETCH.to_string()])
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
    lose_state(&mut cluster, victim);
    let first = await_fetched(&mut cluster, victim);
    assert!(first >= cut, "its log begins at {first}, those of the others at {cut}");
    client(&cluster).must(&["SET", "last", "word"]);
    cluster.await_level();
    assert!(cluster.logged("DIVERGED").is_empty());
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// Bytes of a large value, and how many of them there are: a checkpoint has each twice, in memory and in the file.
const LARGE_BYTES: usize = 64 << 10;
const LARGE_KEYS: usize = 900;

fn fill_large(redis: &mut Redis) {
    let value = "v".repeat(LARGE_BYTES);
    for number in 0..LARGE_KEYS {
        redis.must(&["SET", &format!("large{number}"), &value]);
    }
}

/// Fills the server, and cuts the logs behind that; returns the followers, which have it in their checkpoints.
fn cut_behind_much(cluster: &mut Cluster, redis: &mut Redis) -> Vec<u8> {
    cut_logs(cluster, |_, round| {
        if round == 0 {
            fill_large(redis);
        }
        redis.must(&["SET", "round", &round.to_string()]);
    })
}

/// Bytes of a checkpoint that have come to a replica and are not all of it.
fn incoming_bytes(cluster: &Cluster, replica: u8) -> u64 {
    fn bytes(directory: PathBuf) -> u64 {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let each = entries.map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes(entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        });
        each.sum()
    }
    let directory = cluster.state().join(format!("replica-{replica}/checkpoints"));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let incoming = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("incoming-"));
    incoming.map(|entry| bytes(entry.path())).sum()
}

/// `kill -9` of these replicas at once, when so many megabytes of a checkpoint have come to `receiver`.
fn kill_at(cluster: &Cluster, receiver: u8, megabytes: u64, replicas: &[u8]) {
    // Who they are is found out before: that takes longer than some megabytes.
    let pids = until("they run", PATIENCE, || {
        let status = cluster.status()?;
        let found: Option<Vec<[i32; 2]>> =
            replicas.iter().map(|&id| status.replica(id).map(|r| [r.pid, r.container_pid])).collect();
        let pids: Vec<i32> = found?.concat().into_iter().filter(|&pid| pid > 1).collect();
        pids.iter().all(|&pid| process::alive(pid)).then_some(pids)
    });
    until(&format!("{megabytes} MB have come"), PATIENCE, || {
        (incoming_bytes(cluster, receiver) >= megabytes << 20).then_some(())
    });
    pids.iter().for_each(|&pid| process::signal(pid, libc::SIGKILL));
    assert!(incoming_bytes(cluster, receiver) > 0, "it was not on the way any more");
    until("the killed processes are gone", PATIENCE, || {
        (!pids.iter().any(|&pid| process::alive(pid))).then_some(())
    });
}

/// The receiver, then the sender, then both.
#[test]
fn a_transfer_goes_on_after_kill_9_of_those_who_take_part() {
    let _turn = serial::turn();
    let mut cluster = plain_redis().start("transfer-killed");
    cluster.await_complete();
    let mut redis = client(&cluster);
    let followers = cut_behind_much(&mut cluster, &mut redis);
    let (receiver, sender) = (followers[0], followers[1]);
    lose_state(&mut cluster, receiver);
    let resumed = |cluster: &Cluster| cluster.logged("of it are here already: goes on behind them").len();
    for (megabytes, killed) in [(8, vec![receiver]), (40, vec![sender]), (80, vec![receiver, sender])] {
        let before = resumed(&cluster);
        kill_at(&cluster, receiver, megabytes, &killed);
        until("it goes on with what is there", PATIENCE, || (resumed(&cluster) > before).then_some(()));
    }
    await_fetched(&mut cluster, receiver);
    cluster.await_complete();
    let mut redis = client(&cluster);
    assert_eq!(redis.must(&["DBSIZE"]).number(), LARGE_KEYS as i64 + 1);
    redis.must(&["SET", "last", "word"]);
    cluster.await_level();
    assert!(cluster.logged("DIVERGED").is_empty());
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// The one follower that is left takes checkpoints, and the leader has copies of them.
#[test]
fn logs_are_cut_while_one_of_three_replicas_is_down() {
    let _turn = serial::turn();
    let mut cluster = small_redis().start("transfer-two");
    cluster.await_complete();
    let leader = cluster.leader();
    let down = cluster.follower();
    assert!(cluster.call(&["kill", "--replica", &down.to_string()]).status.success());
    until("it has ended", PATIENCE, || cluster.status()?.replica(down).is_none().then_some(()));
    let both: Vec<u8> = (1..=3).filter(|&id| id != down).collect();
    let mut first = 0;
    for _ in 0..2 {
        first = fill_until_cut(&mut cluster, &both, first);
    }
    let status = cluster.status().expect("a status");
    let own = checkpoints(&status, leader);
    assert_eq!((own.taken, own.kept.len()), (0, 2), "a leader has copies");
    // Both come back by what they have: the one that was down needs a checkpoint of another, the leader a copy.
    assert!(cluster.call(&["start", "--replica", &down.to_string()]).status.success());
    cluster.await_complete();
    cluster.await_level();
    cluster.kill_replica(leader);
    cluster.await_complete();
    client(&cluster).must(&["SET", "last", "word"]);
    let status = cluster.await_level();
    for id in [leader, down] {
        assert!(checkpoints(&status, id).restored_from.is_some(), "replica {id} replayed no whole log");
    }
    assert!(cluster.logged("DIVERGED").is_empty());
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// As long as it cannot restore anything it tries all that there is, with longer and longer pauses, and says so.
#[test]
fn a_replica_that_can_restore_nothing_tries_again_and_says_so() {
    let _turn = serial::turn();
    let scratch = Scratch::new("transfer-retries");
    let (criu, hidden) = (scratch.path().join("criu"), scratch.path().join("hidden"));
    std::os::unix::fs::symlink(find().expect("there is a CRIU"), &criu).expect("make a link");
    let mut cluster = plain_redis().criu(&criu).start_in(scratch);
    cluster.await_complete();
    let mut redis = client(&cluster);
    let followers = cut_behind_much(&mut cluster, &mut redis);
    std::fs::rename(&criu, &hidden).expect("hide CRIU");
    let victim = followers[0];
    cluster.kill_replica(victim);
    let told = cluster.await_status("the failures are counted", |status| {
        let replica = status.replica(victim)?;
        replica.checkpoints.restore_error.clone().filter(|told| told.contains("failure 3 in a row"))
    });
    assert!(told.contains("there is no CRIU") && told.contains("the next try follows in 4 s"), "{told}");
    let text = cluster.call(&["status"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("failure 3 in a row"));
    assert!(!cluster.logged("has the checkpoint at entry").is_empty(), "others' checkpoints were tried, too");
    redis.must(&["SET", "round", "without it"]);
    std::fs::rename(&hidden, &criu).expect("show CRIU again");
    cluster.await_complete();
    let status = cluster.await_level();
    let restored = checkpoints(&status, victim);
    assert!(restored.restored_from.is_some() && restored.restore_error.is_none(), "{restored:?}");
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}
