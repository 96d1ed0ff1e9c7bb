//! Kills random replicas of redis under load, round after round, and checks the journal and the digests after each.
//! Usage: `soak [MINUTES] [SEED]`.

use std::time::{Duration, Instant};

use brolga_tests::cluster::Plan;
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::resp::Redis;
use brolga_tests::wait::{PATIENCE, until};

const CLIENTS: usize = 8;
const KILLS_IN_A_ROUND: usize = 5;
const MOST_WRITES_BETWEEN: u64 = 5000;

/// A small generator: the choices of a soak run can be repeated with its seed.
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn main() {
    let number =
        |index, usual| std::env::args().nth(index).map_or(usual, |text| text.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(60 * number(1, 10));
    let seed = number(2, u64::from(std::process::id()));
    println!("seed {seed}");
    let mut choice = Choice(seed);
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        play(round, &mut choice);
    }
    println!("{round} rounds without a fault");
}

fn play(round: u64, choice: &mut Choice) {
    let io_threads = if choice.below(4) == 0 { "4" } else { "1" };
    let durability = if choice.below(3) == 0 { "disk" } else { "memory" };
    let command =
        ["redis-server", "--port", "7000", "--save", "", "--io-threads", io_threads, "--appendonly", "yes"];
    let mut cluster = Plan::new(&command).port(7000).options(&["--durability", durability]).start("soak");
    cluster.await_complete();
    let writer = Writer::start(cluster.port(), CLIENTS);
    for _ in 0..KILLS_IN_A_ROUND {
        let goal = writer.acknowledged() + 1 + choice.below(MOST_WRITES_BETWEEN);
        until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
        let victim = u8::try_from(1 + choice.below(3)).expect("a small number");
        cluster.kill_replica(victim);
        let goal = writer.acknowledged() + choice.below(MOST_WRITES_BETWEEN);
        until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
        writer.rest(true);
        cluster.await_complete();
        writer.rest(false);
    }
    let journal = writer.finish();
    let mut redis = Redis::connect(cluster.port()).expect("connect");
    let verdict = journal.compare(&mut redis).unwrap_or_else(|wrong| panic!("round {round}: {wrong}"));
    let status = cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    let entries = status.replicas[0].committed;
    println!("round {round}: io-threads {io_threads}, {durability}: {verdict:?}, entries {entries}");
    cluster.stop();
}
