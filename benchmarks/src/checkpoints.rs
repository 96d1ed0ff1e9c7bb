//! What checkpoints cost: how long a follower stands still, what clients notice, and how soon a replica is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use brolga_tests::checkpoints::{checkpoint, of};
use brolga_tests::cluster::Cluster;
use brolga_tests::http::Http;
use brolga_tests::resp;
use brolga_tests::stats::Times;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::checkpoint::Phases;

use crate::server::Server;
use crate::servers::apache::Apache;
use crate::servers::redis::Redis;
use crate::subject::{Running, Subject};

/// Keys of redis, and bytes of each value.
const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 700;
/// Clients with one request at a time each.
const CLIENTS: usize = 8;
/// Checkpoints of a round that are taken with clients at work, and as many without.
const CHECKPOINTS: usize = 4;
/// Between two: longer than ext4 passes over the numbers of removed files, which makes new ones slow, and so are clients' requests then.
const BETWEEN: Duration = Duration::from_secs(6);
/// Requests count as undisturbed from then on after a checkpoint: its replica has caught up.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Load behind the last checkpoint, to be replayed.
const TAIL: Duration = Duration::from_secs(2);

/// A checkpoint: bytes, how long the server stood still, and what took how long.
pub type Taken = (u64, Duration, Phases);

/// Of one server.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Which.
    pub server: &'static str,
    /// Checkpoints, with clients at work: bytes, time without work, and what took how long.
    pub taken: Vec<Taken>,
    /// Those while no client wanted anything.
    pub idle: Vec<Taken>,
    /// Clients' 99th percentile in the same seconds, without a checkpoint and while they are taken.
    pub p99: (Duration, Duration),
    /// From the command that restores a replica until it is level with the others and its digest is the leader's, with nothing
    /// to replay.
    pub restored: Duration,
    /// Entries a second: as the log was written, and as they were replayed.
    pub rates: (f64, f64),
}

/// Measures it.
pub fn costs() -> Vec<Cost> {
    let set = |port, stop: &AtomicBool| {
        let mut redis = resp::Redis::connect(port).expect("connect to redis");
        let value = "v".repeat(VALUE_BYTES);
        timed(stop, |number| _ = redis.must(&["SET", &format!("key{}", number * 7919 % KEYS), &value]))
    };
    let get = |port, stop: &AtomicBool| {
        let mut http = Http::connect(port).expect("connect to Apache");
        timed(stop, |_| assert_eq!(http.get("/index.html").expect("an answer").code, 200))
    };
    let mut costs =
        vec![cost(&Redis, "redis, 100,000 keys", fill, set), cost(&Apache, "apache event", |_| (), get)];
    costs.iter_mut().for_each(|cost| println!("{cost:?}"));
    costs
}

fn fill(port: u16) {
    let mut redis = resp::Redis::connect(port).expect("connect to redis");
    let value = "v".repeat(VALUE_BYTES);
    for part in 0..KEYS / 1000 {
        let keys = part * 1000..(part + 1) * 1000;
        keys.for_each(|key| redis.send(&["SET", &format!("key{key}"), &value]).expect("send"));
        (0..1000).for_each(|_| _ = redis.receive().expect("an answer"));
    }
}

/// Does one request after the other, and takes the time of each with the moment at which it ended.
fn timed(stop: &AtomicBool, mut request: impl FnMut(usize)) -> Vec<(Instant, Duration)> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        request(times.len());
        times.push((Instant::now(), begun.elapsed()));
    }
    times
}

type Load = dyn Fn(u16, &AtomicBool) -> Vec<(Instant, Duration)> + Sync;

/// Lets clients work while `act` runs; their requests, and what came of `act`.
fn under_load<T>(port: u16, load: &Load, act: impl FnOnce() -> T) -> (Vec<(Instant, Duration)>, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| load(port, &stop))).collect();
        let came = act();
        stop.store(true, Ordering::Relaxed);
        let times = clients.into_iter().flat_map(|client| client.join().expect("a client failed"));
        (times.collect(), came)
    })
}

fn cost(
    server: &dyn Server,
    name: &'static str,
    fill: impl FnOnce(u16),
    load: impl Fn(u16, &AtomicBool) -> Vec<(Instant, Duration)> + Sync + 'static,
) -> Cost {
    let Running::Brolga { mut cluster, .. } = Running::start(server, Subject::THREE) else {
        unreachable!("three replicas are Brolga's")
    };
    let port = cluster.port();
    fill(port);
    let victim = cluster.follower();
    let (idle, _) = take(&cluster, victim);
    let (times, (taken, spans)) = under_load(port, &load, || take(&cluster, victim));
    let p99 = percentiles(&times, &spans);
    cluster.await_level();
    checkpoint(&cluster, victim);
    let restored = restore(&cluster, victim).1;
    let before = cluster.await_level().leader().map_or(0, |leader| leader.committed);
    checkpoint(&cluster, victim);
    let (_, ()) = under_load(port, &load, || std::thread::sleep(TAIL));
    let written = cluster.await_level().leader().map_or(0, |leader| leader.committed) - before;
    let (replayed, took) = restore(&cluster, victim);
    let replay = took.saturating_sub(restored).max(Duration::from_millis(1));
    cluster.stop();
    let rates = (written as f64 / TAIL.as_secs_f64(), replayed as f64 / replay.as_secs_f64());
    Cost { server: name, taken, idle, p99, restored, rates }
}

type Spans = Vec<(Instant, Instant)>;

/// The 99th percentile of requests that ended when no checkpoint was being taken, and of the others.
fn percentiles(times: &[(Instant, Duration)], spans: &Spans) -> (Duration, Duration) {
    let of = |wanted: &dyn Fn(&Instant) -> bool| {
        let chosen = times.iter().filter(|(at, _)| wanted(at)).map(|(_, time)| *time);
        Times::new(chosen.collect()).percentile(99)
    };
    let during = |at: &Instant| spans.iter().any(|(from, to)| from <= at && at <= to);
    let disturbed = |at: &Instant| spans.iter().any(|(from, to)| from <= at && *at <= *to + AFTERWARDS);
    (of(&|at| !disturbed(at)), of(&during))
}

/// Takes checkpoints one after the other; also returns when each was being taken.
fn take(cluster: &Cluster, victim: u8) -> (Vec<Taken>, Spans) {
    let one = |_| {
        std::thread::sleep(BETWEEN);
        let begun = Instant::now();
        let entry = checkpoint(cluster, victim);
        let status = of(&cluster.status().expect("a status"), victim);
        let bytes = status.kept.iter().find(|kept| kept.entry == entry).map_or(0, |kept| kept.bytes);
        ((bytes, Duration::from_millis(status.pause_ms), status.phases), (begun, Instant::now()))
    };
    (0..CHECKPOINTS).map(one).unzip()
}

/// Restores the newest checkpoint; entries that were replayed, and the time until the replica was healthy.
fn restore(cluster: &Cluster, victim: u8) -> (u64, Duration) {
    let output = cluster.call(&["restore", "--replica", &victim.to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let number = |word: &str| {
        let before = text.split(word).next()?;
        before.rsplit([' ', ',']).find_map(|part| part.parse::<u64>().ok())
    };
    let (entries, took) = (number(" entries replayed").unwrap_or(0), number(" ms;").unwrap_or(0));
    until("the replica follows", PATIENCE, || cluster.status().filter(|status| status.complete(3)));
    (entries, Duration::from_millis(took))
}
