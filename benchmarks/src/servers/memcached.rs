//! memcached with four threads, and a load generator: one thread per connection, nine fetches to one store, like a cache in
//! use.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use brolga_tests::memcache::Memcache;
use brolga_tests::stats::Times;

use crate::load::{Load, Outcome};
use crate::server::Server;

const CONNECTIONS: u64 = 32;
const KEYS: u64 = 10_000;
const VALUE: [u8; 32] = [b'v'; 32];
const FETCHES_PER_STORE: u64 = 9;

/// See the module.
#[derive(Debug)]
pub struct Memcached;

impl Server for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    fn usual_port(&self) -> u16 {
        11211
    }

    fn command(&self, _data: &Path, port: u16) -> Vec<String> {
        let port = port.to_string();
        ["memcached", "-t", "4", "-p", &port, "-u", "root", "-m", "256"].map(str::to_owned).to_vec()
    }

    fn answers(&self, port: u16) -> bool {
        Memcache::connect(port).and_then(|mut memcache| memcache.get("nothing")).is_ok()
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        vec![Load::new(format!("memcached get/set 9:1 c={CONNECTIONS}"), move |port| run(port, time))]
    }
}

fn run(port: u16, time: Duration) -> Outcome {
    let begin = Instant::now();
    let end = begin + time;
    let clients: Vec<_> = (0..CONNECTIONS).map(|own| thread::spawn(move || client(port, own, end))).collect();
    let times: Vec<Duration> =
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    Outcome::of(&Times::new(times), begin.elapsed().as_secs_f64())
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
