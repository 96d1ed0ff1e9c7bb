//! Much data in and out, past clients that do not read: the coordinators' memory stays within its bounds.
//!
//! `BROLGA_VOLUME_MB` sets how much is uploaded (default 1024); a slow reader reads some of it back.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::container::ARENA_FILE;
use coordinator::log::SEGMENT_BYTES;
use coordinator::paxos::TAIL_BYTES;
use coordinator::replica::SEND_QUEUE_BYTES;
use dmt::bounds::{ENTRIES_RING_BYTES, PENDING_RING_BYTES, POOL_BLOCK_BYTES, POOL_BLOCKS, UPCALL_RING_BYTES};

const REDIS: [&str; 9] =
    ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no", "--appendonly", "no"];
const DEFAULT_VOLUME_MB: usize = 1024;
/// What is read back, of a MB each.
const SLOW_VALUES: usize = 100;
const VALUE_BYTES: usize = 1 << 20;
/// A coordinator's resident memory at the most, beside the in-memory tail of its log and the arena that it shares with its server:
/// what may wait for its two peers, and the file of its log that it writes and the next one, which are mapped.
const COORDINATOR_BYTES: u64 = 2 * (SEND_QUEUE_BYTES as u64 + SEGMENT_BYTES);
/// Rings and pool: what the coordinator touches of the arena is part of these.
const SHARED_BYTES: u64 =
    (POOL_BLOCKS * POOL_BLOCK_BYTES + PENDING_RING_BYTES + ENTRIES_RING_BYTES + UPCALL_RING_BYTES) as u64;
/// Commands sent ahead of their answers.
const PIPELINE: usize = 16;
/// How long the slow reader looks away after each answer.
const PAUSE: Duration = Duration::from_millis(20);

/// The most that was seen of each kind of memory in any coordinator, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// All of it.
    resident: u64,
    /// All of it but the arena.
    without_arena: u64,
    anonymous: u64,
    /// Mapped files of the log.
    log: u64,
    arena: u64,
}

impl Memory {
    fn max(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            without_arena: self.without_arena.max(other.without_arena),
            anonymous: self.anonymous.max(other.anonymous),
            log: self.log.max(other.log),
            arena: self.arena.max(other.arena),
        }
    }

    /// What a process has now, mapping by mapping.
    fn of(pid: i32) -> Self {
        let (mut memory, mut path) = (Self::default(), String::new());
        for line in fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default().lines() {
            let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) else {
                // Addresses, rights, offset, device, inode, and the file if there is one.
                path = line.split_whitespace().nth(5).unwrap_or_default().to_owned();
                continue;
            };
            let number =
                || value.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |number| number << 10);
            match name {
                "Rss" => memory.count(&path, number()),
                "Anonymous" => memory.anonymous += number(),
                _ => {}
            }
        }
        memory.without_arena = memory.resident - memory.arena;
        memory
    }

    fn count(&mut self, path: &str, bytes: u64) {
        self.resident += bytes;
        match path.rsplit('/').next() {
            Some(ARENA_FILE) => self.arena += bytes,
            Some(name) if name.ends_with(".log") || name.ends_with(".tmp") => self.log += bytes,
            _ => {}
        }
    }
}

/// Looks at the coordinators until `done`.
fn watch(cluster: &Cluster, done: &Arc<AtomicBool>) -> std::thread::JoinHandle<Memory> {
    let status = cluster.status().expect("a status");
    let pids: Vec<i32> = status.replicas.iter().map(|replica| replica.pid).collect();
    assert!(pids.iter().all(|&pid| process::alive(pid)));
    let done = done.clone();
    std::thread::spawn(move || {
        let mut most = Memory::default();
        while !done.load(Ordering::SeqCst) {
            most = pids.iter().map(|&pid| Memory::of(pid)).fold(most, Memory::max);
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
    read_slowly(&mut redis(&cluster), SLOW_VALUES);
    let status = cluster.await_level();
    done.store(true, Ordering::SeqCst);
    let most = watcher.join().expect("the watcher");
    let turn = status.replicas.iter().map(|replica| replica.longest_turn_us).max().unwrap_or(0);
    println!(
        "{volume} MB up in {up:?}; a coordinator had at the most {} KB resident, {} KB of it without the arena, {} KB anonymous, \
         {} KB of mapped log, {} KB of arena; longest turn of a loop {turn} us",
        most.resident >> 10,
        most.without_arena >> 10,
        most.anonymous >> 10,
        most.log >> 10,
        most.arena >> 10,
    );
    assert!(most.anonymous > 0 && most.log > 0 && most.arena > 0, "nothing was measured: {most:?}");
    let bound = COORDINATOR_BYTES + TAIL_BYTES as u64;
    assert!(
        most.without_arena <= bound,
        "a coordinator held {most:?}, {bound} are allowed without the arena"
    );
    assert!(
        most.arena <= SHARED_BYTES,
        "a coordinator touched {most:?}, {SHARED_BYTES} of the arena are its"
    );
    cluster.stop();
}
