//! Restored servers that fork, and whose processes look at what the kernel says of them and of their container, which is another one
//! than that of the checkpoint.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use brolga_tests::checkpoints::{checkpoint, of as checkpoints};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Files of which the kernel tells what it measures and numbers.
const LOOKED_AT: &[&str] = &[
    "/",
    "/proc",
    "/sys",
    "/dev/shm",
    "/etc/passwd",
    "/proc/self/maps",
    "/proc/self/smaps",
    "/proc/self/smaps_rollup",
    "/proc/self/stat",
    "/proc/self/statm",
    "/proc/self/status",
    "/proc/self/mountinfo",
    "/proc/self/mounts",
    "/proc/self/limits",
    "/proc/self/fdinfo/3",
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/proc/self/auxv",
    "/proc/self/cgroup",
    "/proc/self/io",
    "/proc/self/personality",
    "/proc/self/coredump_filter",
    "/proc/self/timens_offsets",
    "/proc/self/net/tcp",
    "/proc/self/net/unix",
    "/proc/meminfo",
];

/// File systems that have taken the device numbers which the killed replica's had: so a new container has others.
struct Occupied(Child);

impl Occupied {
    fn new(directory: &std::path::Path) -> Self {
        let script = "for i in 1 2 3 4 5 6 7 8 9; do mount -t tmpfs brolga-occupied \"$0\" || exit 1; done; echo done; exec cat";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(directory);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run unshare");
        let mut line = String::new();
        let output = child.stdout.take().expect("it was piped");
        BufReader::new(output).read_line(&mut line).expect("read what it says");
        assert_eq!(line, "done\n", "cannot mount: are you root?");
        Self(child)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        // The end of its input ends it, and with it its mounts.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Kills a replica, which comes back in a container with other device numbers from its checkpoint at `entry`.
fn restore_elsewhere(cluster: &mut Cluster, replica: u8, entry: u64) {
    let id = replica.to_string();
    assert!(cluster.call(&["kill", "--replica", &id]).status.success());
    until("it has ended", PATIENCE, || cluster.status()?.replica(replica).is_none().then_some(()));
    let occupied = Occupied::new(&cluster.data());
    assert!(cluster.call(&["start", "--replica", &id]).status.success());
    cluster.await_complete();
    let restored = cluster.await_status("a server of the replica runs again", |status| {
        let replica = status.replica(replica)?;
        (replica.container_pid != 0).then(|| replica.checkpoints.clone())
    });
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    drop(occupied);
}

fn assert_still_restored(cluster: &mut Cluster, replica: u8, entry: u64) {
    let status = cluster.await_level();
    assert!(cluster.logged("DIVERGED").is_empty(), "{:?}", cluster.logged("DIVERGED"));
    assert_eq!(checkpoints(&status, replica).restored_from, Some(entry), "it is the restored server");
}

#[test]
fn a_restored_server_sees_the_files_and_devices_that_it_saw() {
    let _turn = serial::turn();
    let scratch = Scratch::new("checkpoint-looks");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/looking.py");
    let mut cluster = Plan::new(&["python3", script, "7000"]).port(7000).start_in(scratch);
    cluster.await_complete();
    let look = |cluster: &Cluster| {
        let stream = TcpStream::connect(("127.0.0.1", cluster.port())).expect("connect");
        let mut answers = BufReader::new(stream.try_clone().expect("the same connection"));
        let mut stream = stream;
        for who in ["", "worker "] {
            for path in LOOKED_AT {
                writeln!(stream, "{who}{path}").expect("send");
                let mut answer = String::new();
                answers.read_line(&mut answer).expect("an answer");
                assert!(answer.starts_with(&format!("{who}{path}: device ")), "{answer}");
            }
        }
    };
    look(&cluster);
    let victim = cluster.follower();
    let entry = checkpoint(&cluster, victim);
    look(&cluster);
    restore_elsewhere(&mut cluster, victim, entry);
    // The followers' answers are compared with the leader's by their digests.
    look(&cluster);
    assert_still_restored(&mut cluster, victim, entry);
    cluster.stop();
}

fn redis_client(cluster: &Cluster) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

/// Keys that are there when redis forks, and what is written while its child works.
const KEYS: usize = 4000;

fn fill(redis: &mut Redis, from: usize, keys: usize) {
    for number in from..from + keys {
        redis.send(&["SET", &format!("k{}", number % KEYS), &number.to_string()]).expect("send");
    }
    for _ in 0..keys {
        assert_eq!(redis.receive().expect("an answer"), Reply::Simple("OK".into()));
    }
}

fn await_children(redis: &mut Redis) {
    until("no child works any more", PATIENCE, || {
        let info = redis.must(&["INFO", "persistence"]).bytes();
        let info = String::from_utf8_lossy(&info).into_owned();
        let works = ["rdb_bgsave_in_progress:1", "aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"];
        (!works.iter().any(|field| info.contains(field))).then(|| {
            assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
            assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
        })
    });
}

/// Its children look how much memory they have, and tell it the parent.
#[test]
fn redis_forks_before_and_after_a_restore() {
    let _turn = serial::turn();
    let command =
        ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(6379).start("checkpoint-forks");
    cluster.await_complete();
    let mut redis = redis_client(&cluster);
    fill(&mut redis, 0, KEYS);
    let victim = cluster.follower();
    for (number, other) in [("BGSAVE", "BGREWRITEAOF"), ("BGREWRITEAOF", "BGSAVE")].into_iter().enumerate() {
        // The child pauses after each key, so that it works while the checkpoint is taken.
        redis.must(&["CONFIG", "SET", "rdb-key-save-delay", "500"]);
        redis.must(&[other.0]);
        let entry = checkpoint(&cluster, victim);
        redis.must(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
        fill(&mut redis, number, KEYS / 2);
        restore_elsewhere(&mut cluster, victim, entry);
        fill(&mut redis, number, KEYS / 2);
        await_children(&mut redis);
        redis.must(&[other.1]);
        fill(&mut redis, number, KEYS / 2);
        await_children(&mut redis);
        assert_still_restored(&mut cluster, victim, entry);
    }
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// CRIU would leave the daemon out, and the server that comes back would diverge.
#[test]
fn a_server_with_a_daemon_gets_no_checkpoint() {
    let _turn = serial::turn();
    let command = ["sh", "-c", "(sleep 1000000 &); exec redis-server --port 6379 --save ''"];
    let mut cluster = Plan::new(&command).port(6379).start("daemon");
    cluster.await_complete();
    until("the checkpoint is refused for the daemon", PATIENCE, || {
        let follower = cluster.follower().to_string();
        let output = cluster.call(&["checkpoint", "--replica", &follower]);
        assert!(!output.status.success(), "a checkpoint without the daemon was taken");
        String::from_utf8_lossy(&output.stderr).contains("(sleep) of the server is no child").then_some(())
    });
    cluster.await_level();
    assert_eq!(cluster.logged("diverged"), Vec::<String>::new());
    cluster.stop();
    cluster.assert_nothing_left();
}
