//! A load generator for memcached: one thread per connection, nine fetches to one store, like a cache in use.

use std::thread;
use std::time::{Duration, Instant};

use brolga_tests::memcache::Memcache;
use brolga_tests::stats::Times;

use crate::load::Outcome;

const KEYS: u64 = 10_000;
const VALUE: [u8; 32] = [b'v'; 32];
const FETCHES_PER_STORE: u64 = 9;

/// Runs it for a time.
pub fn run(port: u16, connections: usize, time: Duration) -> Outcome {
    let begin = Instant::now();
    let end = begin + time;
    let clients: Vec<_> =
        (0..connections).map(|own| thread::spawn(move || client(port, own as u64, end))).collect();
    let times: Vec<Duration> =
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    let elapsed = begin.elapsed().as_secs_f64();
    let times = Times::new(times);
    let milliseconds = |percent| times.percentile(percent).as_secs_f64() * 1000.0;
    Outcome {
        rate: times.count() as f64 / elapsed,
        p50: milliseconds(50),
        p99: milliseconds(99),
        requests: times.count() as u64,
    }
}

fn client(port: u16, own: u64, end: Instant) -> Vec<Duration> {
    let mut memcache = Memcache::connect(port).expect("connect to memcached");
    let mut times = Vec::new();
    let mut begin = Instant::now();
    for number in own * 7919.. {
        let key = format!("key{}", number % KEYS);
        if number % (FETCHES_PER_STORE + 1) == 0 {
            memcache.set(&key, &VALUE).expect("store");
        } else {
            memcache.get(&key).expect("fetch");
        }
        let now = Instant::now();
        times.push(now - begin);
        if now >= end {
            break;
        }
        begin = now;
    }
    times
}
