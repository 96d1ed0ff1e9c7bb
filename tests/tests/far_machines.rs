//! Three machines that are far from each other: a write is acknowledged when it reached another one, nobody takes distance for
//! death, the cluster outlives its leader, and all of it ends when the server does.

use std::time::{Duration, Instant};

use brolga_tests::machines::enter_network;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::trio::Trio;
use brolga_tests::wait::{PATIENCE, until};

const REDIS: [&str; 7] = ["redis-server", "--port", "7000", "--save", "", "--protected-mode", "no"];
const PORT: u16 = 7000;
/// What a frame takes on one cable.
const CABLE: Duration = Duration::from_millis(10);
/// There and back between two machines, each of which has its cable.
const ROUND_TRIP: Duration = Duration::from_millis(4 * CABLE.as_millis() as u64);
const WRITES: i64 = 40;

/// Runs `work` on the clients' machine with a connection to the server at machine `id`'s address.
fn with_client<T: Send + 'static>(
    trio: &Trio,
    id: u8,
    work: impl FnOnce(&mut Redis) -> T + Send + 'static,
) -> T {
    let network = trio.machines.network(trio.machines.clients());
    let address = trio.machines.port(id, PORT);
    let there = move || {
        enter_network(&network).expect("enter the clients' network");
        let connect = || Redis::connect_to(address, PATIENCE, PATIENCE).ok();
        let mut redis = until("a client connects", PATIENCE, connect);
        work(&mut redis)
    };
    std::thread::spawn(there).join().expect("a client's work")
}

/// Counts up, and how long each took.
fn count_up(redis: &mut Redis) -> Vec<Duration> {
    let count = |number| {
        let begun = Instant::now();
        assert_eq!(redis.must(&["INCR", "count"]), Reply::Integer(number));
        begun.elapsed()
    };
    (1..=WRITES).map(count).collect()
}

#[test]
fn a_cluster_of_machines_far_apart_waits_for_them_and_outlives_its_leader() {
    let _turn = serial::turn();
    let mut trio = Trio::far_apart("far", &REDIS, CABLE);
    (1..=3).for_each(|id| trio.start(id));
    trio.await_status(2, "all replicas run and the server listens", |status| {
        (status.complete(3) && !status.leader()?.listeners.is_empty()).then_some(())
    });
    let leader = trio.leader(1);
    let elections = |trio: &Trio| trio.logged("leads under ballot").len();
    let before = elections(&trio);

    let mut times = with_client(&trio, leader, count_up);
    times.sort();
    println!("a write: {:?} at least, {:?} usually", times[0], times[times.len() / 2]);
    // To the leader and back, and from it to another machine and back.
    assert!(times[0] >= 2 * ROUND_TRIP, "acknowledged after {:?}, before any other machine had it", times[0]);
    let follower = if leader == 1 { 2 } else { 1 };
    let read = |redis: &mut Redis| redis.must(&["GET", "count"]);
    assert_eq!(with_client(&trio, follower, read), Reply::Bulk(Some(WRITES.to_string().into_bytes())));
    assert_eq!(elections(&trio), before, "nothing failed: {:?}", trio.logged("leads under ballot"));

    trio.kill(leader);
    assert_eq!(with_client(&trio, follower, read), Reply::Bulk(Some(WRITES.to_string().into_bytes())));
    trio.start(leader);
    (1..=3).for_each(|id| trio.await_level(id));
    trio.stop();
}

/// Each `brolga replica` ends when its server has, and the last one must not be left without a majority that could tell it how far
/// its server may run.
#[test]
fn a_server_that_ends_by_itself_ends_on_all_machines_far_apart() {
    let _turn = serial::turn();
    let mut trio = Trio::far_apart("far-end", &REDIS, CABLE);
    (1..=3).for_each(|id| trio.start(id));
    (1..=3).for_each(|id| trio.await_level(id));
    let leader = trio.leader(1);
    with_client(&trio, leader, |redis| redis.send(&["SHUTDOWN", "NOSAVE"]).expect("send"));
    trio.await_end();
    trio.stop();
}
