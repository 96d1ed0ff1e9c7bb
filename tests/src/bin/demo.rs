//! The demonstration: three replicas of redis under load, killed one after the other, and the proof that nothing was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::journal::{Journal, Writer};
use brolga_tests::layers;
use brolga_tests::redis_benchmark::{self, Load, Outcome};
use brolga_tests::resp::Redis;
use brolga_tests::status::Status;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::{Failure, Verdict};

const CLIENTS: usize = 8;
/// Acknowledged writes before a failure, and after it: a second or two.
const CALM_WRITES: u64 = 5000;

struct Kill {
    role: &'static str,
    gap: Duration,
}

fn step(text: &str) {
    println!("\n\x1b[1m==> {text}\x1b[0m");
}

fn main() {
    let begin = Instant::now();
    step("Three replicas of redis-server, as Debian ships it, on this machine");
    let mut cluster = Plan::new(&["redis-server", "--port", "7000", "--save", ""]).port(7000).start("demo");
    println!(
        "    $ brolga run -n 3 --publish 127.0.0.1:{}:7000 -- redis-server --port 7000 --save ''",
        cluster.port()
    );
    cluster.await_complete();
    show(&mut cluster);

    step("redis-benchmark, 50 connections, no failure: what the service gives in peace");
    let peace = benchmark(cluster.port());

    step("Load for the failures");
    println!(
        "    redis-benchmark runs again and again: it gives up when a connection breaks, so it is started anew."
    );
    println!(
        "    {CLIENTS} writers send INCR, RPUSH and APPEND, note every acknowledged write, and connect again"
    );
    println!("    to the same address when a connection breaks.");
    let (journal, kills) = fail(&mut cluster);

    step("The journal against the store: is an acknowledged write missing, or is one there twice?");
    let mut redis = Redis::connect(cluster.port()).expect("connect");
    let verdict = journal.compare(&mut redis).unwrap_or_else(|wrong| {
        println!("    LOST OR DOUBLED: {wrong}");
        std::process::exit(1);
    });
    println!("    {} acknowledged writes: none missing, none doubled.", verdict.acknowledged);
    println!(
        "    Of the writes whose answer was cut off, {} had happened and {} had not; both are right.",
        verdict.unknown_done, verdict.unknown_lost
    );

    step("SAVE through the service; each replica's redis writes dump.rdb into its own file system");
    redis.must(&["SAVE"]);
    let status = cluster.await_level();
    compare_dumps(&cluster);
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("    All files that the three servers wrote ({files}, {bytes} bytes) are byte-identical.");

    table(&peace, &journal, verdict, &kills, &status);
    step("Ctrl-C stops all of it");
    cluster.stop();
    println!(
        "    No process, no mount and no shared memory is left. {:.0} s in all.",
        begin.elapsed().as_secs_f64()
    );
}

fn show(cluster: &mut Cluster) {
    let status = cluster.call(&["status"]);
    for line in String::from_utf8_lossy(&status.stdout).lines() {
        println!("    {line}");
    }
}

fn benchmark(port: u16) -> [Outcome; 2] {
    ["SET", "GET"].map(|command| {
        let load = Load { command, clients: 50, pipeline: 1, requests: 50_000 };
        let outcome = redis_benchmark::run(port, load).unwrap_or_else(|error| panic!("{error}"));
        println!("    {command}: {:.0}/s, p50 {} ms, p99 {} ms", outcome.rate, outcome.p50, outcome.p99);
        outcome
    })
}

fn fail(cluster: &mut Cluster) -> (Journal, Vec<Kill>) {
    let port = cluster.port();
    let [stop, rests] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (stop_benchmark, rests_benchmark) = (Arc::clone(&stop), Arc::clone(&rests));
    let benchmark = thread::spawn(move || {
        while !stop_benchmark.load(Ordering::Relaxed) {
            if rests_benchmark.load(Ordering::Relaxed) {
                thread::park();
            } else {
                let _ = redis_benchmark::run(
                    port,
                    Load { command: "SET", clients: 20, pipeline: 1, requests: 5000 },
                );
            }
        }
    });
    let writer = Writer::start(port, CLIENTS);
    let turn_down = |down| {
        rests.store(down, Ordering::Relaxed);
        benchmark.thread().unpark();
        writer.rest(down);
    };
    calm(&writer);
    let mut failures = Vec::new();
    for leader in [true, false, true] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        let role = if leader { "leader" } else { "follower" };
        let before = writer.acknowledged();
        step(&format!(
            "kill -9 of the whole replica {victim}, the {role}, after {before} acknowledged writes"
        ));
        let killed = cluster.kill_replica(victim);
        until("writes are acknowledged again", PATIENCE, || {
            (writer.acknowledged() > before + 100).then_some(())
        });
        println!("    Writes are acknowledged again.");
        calm(&writer);
        println!(
            "    The killed replica was started anew and replays the log; the load is turned down until it is level,"
        );
        println!("    because all three replicas and the load share this machine's CPUs.");
        failures.push((role, Failure::since(killed)));
        turn_down(true);
        cluster.await_complete();
        turn_down(false);
        show(cluster);
        calm(&writer);
    }
    stop.store(true, Ordering::Relaxed);
    benchmark.thread().unpark();
    let journal = writer.finish();
    benchmark.join().expect("the benchmark's thread");
    let gaps = journal.gaps(&failures.iter().map(|(_, failure)| *failure).collect::<Vec<_>>());
    let kills = failures.into_iter().zip(gaps).map(|((role, _), gap)| Kill { role, gap }).collect();
    (journal, kills)
}

/// Load without a failure.
fn calm(writer: &Writer) {
    let goal = writer.acknowledged() + CALM_WRITES;
    until("writes go on", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
}

fn compare_dumps(cluster: &Cluster) {
    // A status is up to a second old, so it may say that all are level from before the SAVE. Redis renames its dump to this
    // name when it is complete.
    let mut dumps = until("each replica has one dump.rdb", PATIENCE, || {
        let layers = layers::of_state(&cluster.state());
        let dumps: Vec<_> = layers.iter().flat_map(|layer| layers::files_named(layer, "dump.rdb")).collect();
        (dumps.len() == 3).then_some(dumps)
    });
    let bytes = dumps[0].len();
    dumps.dedup();
    assert_eq!(dumps.len(), 1, "the dumps differ");
    println!("    Three dump.rdb of {bytes} bytes: byte-identical.");
}

fn table(peace: &[Outcome; 2], journal: &Journal, verdict: Verdict, kills: &[Kill], status: &Status) {
    step("In short");
    let times = journal.times();
    let leader = status.leader().expect("a leader");
    let row = |name: &str, value: String| println!("    {name:<44} {value}");
    row(
        "SET, 50 connections, in peace",
        format!("{:.0}/s, p50 {} ms, p99 {} ms", peace[0].rate, peace[0].p50, peace[0].p99),
    );
    row(
        "GET, 50 connections, in peace",
        format!("{:.0}/s, p50 {} ms, p99 {} ms", peace[1].rate, peace[1].p50, peace[1].p99),
    );
    row("journalled writes beside redis-benchmark", format!("{:.0}/s", journal.rate()));
    row("  of these p50, p99", format!("{:.2?}, {:.2?}", times.percentile(50), times.percentile(99)));
    for kill in kills {
        row(&format!("gap when the {} was killed", kill.role), format!("{:.0?}", kill.gap));
    }
    row("acknowledged writes missing or doubled", format!("0 of {}", verdict.acknowledged));
    row("log entries", leader.committed.to_string());
    row("  of these pure bubbles, this leader's", format!("{} of {}", leader.bubbles, leader.entries));
    row("digests of the three replicas", "equal".to_owned());
}
