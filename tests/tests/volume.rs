//! Much data in and out, past clients that do not read: the coordinators' memory stays within its bounds.
//!
//! `BROLGA_VOLUME_MB` sets how much is uploaded (default 200); half of it is read back by a slow reader.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::paxos::TAIL_BYTES;

const REDIS: [&str; 9] =
    ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no", "--appendonly", "no"];
const DEFAULT_VOLUME_MB: usize = 200;
const VALUE_BYTES: usize = 1 << 20;
/// A coordinator's own memory at the most, beside the in-memory tail of its log.
const COORDINATOR_BYTES: u64 = 64 << 20;
/// Commands sent ahead of their answers.
const PIPELINE: usize = 16;
/// How long the slow reader looks away after each answer.
const PAUSE: Duration = Duration::from_millis(20);

/// The most that was seen of each kind of memory in any coordinator, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    anonymous: u64,
    resident: u64,
    /// Pages of an arena that were touched.
    arena: u64,
}

impl Memory {
    fn max(self, other: Self) -> Self {
        Self {
            anonymous: self.anonymous.max(other.anonymous),
            resident: self.resident.max(other.resident),
            arena: self.arena.max(other.arena),
        }
    }
}

fn measure(pids: &[i32], arenas: &[std::path::PathBuf]) -> Memory {
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    };
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Memory {
            anonymous: field(&text, "RssAnon:").unwrap_or(0),
            resident: field(&text, "VmRSS:").unwrap_or(0),
            arena: 0,
        }
    };
    let arena =
        arenas.iter().filter_map(|path| fs::metadata(path).ok()).map(|data| data.blocks() * 512).max();
    let all = pids.iter().map(of).fold(Memory::default(), Memory::max);
    Memory { arena: arena.unwrap_or(0), ..all }
}

fn arenas(cluster: &Cluster) -> Vec<std::path::PathBuf> {
    let name = cluster.state();
    let name = name.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let entries = fs::read_dir("/dev/shm").expect("list /dev/shm").flatten();
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().contains(&name));
    own.map(|entry| entry.path().join("in/arena")).filter(|path| path.is_file()).collect()
}

/// Looks at the coordinators until `done`.
fn watch(cluster: &Cluster, done: &Arc<AtomicBool>) -> std::thread::JoinHandle<Memory> {
    let status = cluster.status().expect("a status");
    let pids: Vec<i32> = status.replicas.iter().map(|replica| replica.pid).collect();
    assert!(pids.iter().all(|&pid| process::alive(pid)));
    let (arenas, done) = (arenas(cluster), done.clone());
    std::thread::spawn(move || {
        let mut most = Memory::default();
        while !done.load(Ordering::SeqCst) {
            most = most.max(measure(&pids, &arenas));
            // A pace, not a wait: how often the highest value is looked for.
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    })
}

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

fn upload(client: &mut Redis, values: usize) {
    let value = vec![b'x'; VALUE_BYTES];
    for number in 0..values + PIPELINE {
        if number < values {
            client.send(&[b"SET", &b"big"[..], &value]).expect("send a value");
        }
        if number >= PIPELINE {
            assert_eq!(client.receive().expect("an answer").bytes(), b"OK");
        }
    }
}

fn read_slowly(client: &mut Redis, values: usize) {
    for _ in 0..values {
        client.send(&["GET", "big"]).expect("ask for a value");
    }
    for number in 0..values {
        let value = client.receive().expect("a value").bytes();
        assert!(
            value.len() == VALUE_BYTES && value.iter().all(|&byte| byte == b'x'),
            "value {number} is wrong"
        );
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn a_large_upload_and_a_slow_reader_stay_within_the_bounds_of_memory() {
    let _turn = serial::turn();
    let volume = std::env::var("BROLGA_VOLUME_MB").ok().and_then(|text| text.parse().ok());
    let volume: usize = volume.unwrap_or(DEFAULT_VOLUME_MB);
    let mut cluster = Plan::new(&REDIS).port(6379).start("volume");
    cluster.await_complete();
    let done = Arc::new(AtomicBool::new(false));
    let watcher = watch(&cluster, &done);
    let begun = Instant::now();
    upload(&mut redis(&cluster), volume);
    let up = begun.elapsed();
    read_slowly(&mut redis(&cluster), volume / 2);
    let status = cluster.await_level();
    done.store(true, Ordering::SeqCst);
    let most = watcher.join().expect("the watcher");
    let turn = status.replicas.iter().map(|replica| replica.longest_turn_us).max().unwrap_or(0);
    println!(
        "{volume} MB up in {up:?}; a coordinator held {} KB of its own and {} KB with its mapped log and arena, \
         an arena {} KB, longest turn of a loop {turn} us",
        most.anonymous >> 10,
        most.resident >> 10,
        most.arena >> 10,
    );
    assert!(most.anonymous > 0, "nothing was measured");
    let bound = COORDINATOR_BYTES + TAIL_BYTES as u64;
    assert!(most.anonymous <= bound, "a coordinator held {} bytes, {bound} are allowed", most.anonymous);
    cluster.stop();
}
