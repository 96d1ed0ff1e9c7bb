//! Servers of many threads and processes that come back by a checkpoint of another replica, with clients at work.

use brolga_tests::checkpoints::{PAGE_BYTES, await_fetched, cut_logs, lose_state, web_clients};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::memcache::Memcache;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::web_servers;

/// Bytes of requests before a checkpoint: two segments of the log and more.
const LOAD_BYTES: usize = 20 << 20;

/// Requests in bytes when a replica comes back.
const LITTLE_BYTES: usize = 100 << 10;

/// A follower loses its state and has that of the other; then it leads. `load` is given how many bytes of requests it is to send.
fn come_back(mut cluster: Cluster, mut load: impl FnMut(&Cluster, usize)) {
    cluster.await_complete();
    let bytes = [LOAD_BYTES, LITTLE_BYTES];
    let followers = cut_logs(&mut cluster, |cluster, round| load(cluster, bytes[round]));
    let victim = followers[0];
    lose_state(&mut cluster, victim);
    load(&cluster, LITTLE_BYTES);
    await_fetched(&mut cluster, victim);
    load(&cluster, LITTLE_BYTES);
    cluster.await_complete();
    cluster.await_level();
    cluster.make_leader(victim);
    load(&cluster, LITTLE_BYTES);
    cluster.await_level();
    assert!(cluster.logged("DIVERGED").is_empty());
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// Bytes of a value.
const VALUE_BYTES: usize = 100 << 10;

#[test]
fn memcached_has_its_state_from_another() {
    let _turn = serial::turn();
    let command = ["memcached", "-t", "4", "-p", "11211", "-u", "nobody"];
    let cluster = Plan::new(&command).port(11211).start("transfer-memcached");
    let value = vec![b'v'; VALUE_BYTES];
    come_back(cluster, |cluster, bytes| {
        let mut memcache = until("memcached answers", PATIENCE, || {
            let mut memcache = Memcache::connect(cluster.port()).ok()?;
            memcache.get("nothing").ok().map(|_| memcache)
        });
        for number in 0..bytes.div_ceil(VALUE_BYTES) {
            let key = (number % 20).to_string();
            memcache.set(&key, &value).expect("it is stored");
            assert_eq!(memcache.get(&key).expect("an answer"), Some(value.clone()));
        }
    });
}

/// Bytes of a request for a page: the servers take 8 KB in a line.
const REQUEST_BYTES: usize = 7 << 10;

fn load_web_server(cluster: &Cluster, page: &str, bytes: usize) {
    let mut clients = web_clients(cluster, page);
    let path = format!("{page}?{}", "q".repeat(REQUEST_BYTES));
    for number in 0..bytes.div_ceil(REQUEST_BYTES) {
        let next = number % clients.len();
        assert_eq!(clients[next].get(&path).expect("an answer").body.len(), PAGE_BYTES);
    }
}

/// A master and two workers.
#[test]
fn nginx_has_its_state_from_another() {
    let _turn = serial::turn();
    come_back(web_servers::nginx("transfer-nginx"), |cluster, bytes| {
        load_web_server(cluster, "/page", bytes)
    });
}

/// Three processes of many threads.
#[test]
fn apache_has_its_state_from_another() {
    let _turn = serial::turn();
    come_back(web_servers::apache("transfer-apache"), |cluster, bytes| load_web_server(cluster, "/", bytes));
}
