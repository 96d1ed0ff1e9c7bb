//! Three replicas of an unmodified, multi-threaded memcached.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::memcache::Memcache;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

const CLIENTS: usize = 8;
const OPERATIONS_BETWEEN: u64 = 3000;

fn client(port: u16) -> Memcache {
    until("memcached answers", PATIENCE, || {
        let mut memcache = Memcache::connect(port).ok()?;
        memcache.get("nothing").ok().map(|_| memcache)
    })
}

/// Asks for a value, again if the leader changes meanwhile, which resets its clients.
fn fetch(port: u16, memcache: &mut Memcache, key: &str) -> Option<Vec<u8>> {
    until("a value is there to compare", PATIENCE, || match memcache.get(key) {
        Ok(value) => Some(value),
        Err(_) => {
            *memcache = client(port);
            None
        }
    })
}

/// Writes `key CLIENT-N` = N until told to stop; returns the numbers whose write was acknowledged.
fn write(port: u16, own: usize, stop: &AtomicBool, done: &AtomicU64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let mut connection = None;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let memcache = connection.get_or_insert_with(|| client(port));
        let key = format!("{own}-{number}");
        let stored = memcache.set(&key, number.to_string().as_bytes());
        if stored
            .and_then(|()| memcache.get(&key))
            .is_ok_and(|value| value == Some(number.to_string().into_bytes()))
        {
            acknowledged.push(number);
            done.fetch_add(1, Ordering::Relaxed);
        } else {
            connection = None;
        }
    }
    acknowledged
}

fn load_and_kill(cluster: &mut Cluster) -> Vec<Vec<u64>> {
    let port = cluster.port();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|own| (own, &stop, &done))
            .map(|(own, s, d)| scope.spawn(move || write(port, own, s, d)))
            .collect();
        let progress = || {
            let goal = done.load(Ordering::Relaxed) + OPERATIONS_BETWEEN;
            brolga_tests::wait::poll(PATIENCE, || (done.load(Ordering::Relaxed) >= goal).then_some(()))
                .is_some()
        };
        let mut went_on = progress();
        for leader in [true, false] {
            let victim = if leader { cluster.leader() } else { cluster.follower() };
            cluster.kill_replica(victim);
            went_on &= progress();
            cluster.await_complete();
        }
        stop.store(true, Ordering::Relaxed);
        let acknowledged =
            clients.into_iter().map(|client| client.join().expect("a client failed")).collect();
        assert!(went_on, "writes did not go on after a failure");
        acknowledged
    })
}

#[test]
fn any_replica_may_be_killed_under_load() {
    let _turn = serial::turn();
    let command = ["memcached", "-t", "4", "-p", "11211", "-u", "root", "-m", "256"];
    let mut cluster = Plan::new(&command).port(11211).start("memcached");
    cluster.await_complete();
    let mut memcache = client(cluster.port());
    memcache.set("counter", b"0").expect("store");
    for expected in 1..=100 {
        assert_eq!(memcache.increment("counter").expect("increment"), expected);
    }
    let acknowledged = load_and_kill(&mut cluster);
    let mut memcache = client(cluster.port());
    for (own, numbers) in acknowledged.iter().enumerate() {
        for number in numbers {
            let value = fetch(cluster.port(), &mut memcache, &format!("{own}-{number}"));
            assert_eq!(value, Some(number.to_string().into_bytes()), "client {own}, write {number}");
        }
    }
    assert_eq!(fetch(cluster.port(), &mut memcache, "counter"), Some(b"100".to_vec()));
    let status = cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    let total: usize = acknowledged.iter().map(Vec::len).sum();
    println!("{total} acknowledged writes, all there; entries {}", status.replicas[0].committed);
    cluster.stop();
}
