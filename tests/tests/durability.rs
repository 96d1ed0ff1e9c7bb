//! What was acknowledged in disk durability is there after all replicas were killed at once, and after a power cut.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::journal::{Journal, Writer};
use brolga_tests::power::{self, Disk};
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Redis without files of its own: what comes back comes from the log alone.
const REDIS: [&str; 7] = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
const CLIENTS: usize = 4;
/// Acknowledged writes before each end.
const WRITES: u64 = 400;

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

/// Starts writers, waits until they are well under way, and ends everything of the cluster in the midst of it.
fn end_under_load(cluster: &mut Cluster, end: impl FnOnce()) -> Journal {
    cluster.await_complete();
    drop(redis(cluster));
    let writer = Writer::start(cluster.port(), CLIENTS);
    until("writes are acknowledged", PATIENCE, || (writer.acknowledged() >= WRITES).then_some(()));
    end();
    cluster.kill_all();
    writer.finish()
}

fn assert_all_there(cluster: &mut Cluster, journal: &Journal, what: &str) {
    cluster.run();
    cluster.await_complete();
    let verdict = journal.compare(&mut redis(cluster)).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    cluster.await_level();
    println!("{what}: {verdict:?}");
    redis(cluster).must(&["FLUSHALL"]);
}

#[test]
fn killing_everything_at_once_loses_nothing_acknowledged() {
    let _turn = serial::turn();
    for durability in ["disk", "memory"] {
        let mut cluster =
            Plan::new(&REDIS).port(6379).options(&["--durability", durability]).start("killall");
        let journal = end_under_load(&mut cluster, || ());
        assert_all_there(&mut cluster, &journal, durability);
        cluster.stop();
    }
}

#[test]
fn the_disk_of_the_next_test_forgets_what_was_not_flushed_and_only_that() {
    let _turn = serial::turn();
    let scratch = Scratch::new("forgets");
    let (directory, spare) = (scratch.path().join("disk"), |n| scratch.path().join(format!("device-{n}")));
    let mut disk = Disk::make(&directory, &spare(0));
    let write = |name: &str| {
        let mut file = File::create(directory.join(name)).expect("make a file");
        file.write_all(name.as_bytes()).expect("write it");
        file
    };
    let synced = write("synced");
    synced.sync_all().expect("sync it");
    drop((synced, write("forgotten")));
    let (left, unflushed) = disk.cut(|| false);
    println!("{unflushed} sectors were not flushed");
    disk.restart(left, &spare(1));
    assert_eq!(fs::read(directory.join("synced")).expect("the file that was synced"), b"synced");
    assert!(!directory.join("forgotten").exists(), "a file that nobody synced is there after the cut");
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let _turn = serial::turn();
    let scratch = Scratch::new("power");
    let (directory, devices) = (scratch.path().join("state"), scratch.path().to_owned());
    let spare = |cut: u64| devices.join(format!("device-{cut}"));
    let mut disk = Disk::make(&directory, &spare(0));
    let mut cluster = Plan::new(&REDIS).port(6379).options(&["--durability", "disk"]).start_in(scratch);
    // All that was not flushed is lost, then half of it; and each time in the midst of another write.
    for (cut, odds, writes) in [(1, u64::MAX, 100), (2, 2, 131)] {
        let mut left = None;
        let journal = end_under_load(&mut cluster, || {
            disk.fail_at(writes);
            left = Some(disk.cut(power::coin(cut, odds)));
        });
        let (left, unflushed) = left.expect("the power was cut");
        disk.restart(left, &spare(cut));
        assert_all_there(&mut cluster, &journal, &format!("cut {cut}, {unflushed} sectors not flushed"));
    }
    let pids = process::tree(cluster.pid());
    assert!(pids.len() > 3, "it runs on the disk that was cut");
    cluster.stop();
    drop(disk);
}

/// Rounds of the program that waits for the disk in all ways, and ways that need the disk in each.
const ROUNDS: u64 = 50;
const WAYS: u64 = 5;
/// What Brolga and the file system themselves write in a short run.
const OWN_FLUSHES: u64 = 60;

/// Flushes that reached the disk, and how long the whole run took.
fn flushes_of(program: &Path, elide: bool) -> (u64, Duration) {
    let scratch = Scratch::new("flushes");
    let (directory, device) = (scratch.path().join("state"), scratch.path().join("device"));
    let disk = Disk::make(&directory, &device);
    let option = format!("--elide-fsync={elide}");
    let words = [program.to_str().expect("a plain path"), &ROUNDS.to_string()];
    let (before, begun) = (disk.flushes(), Instant::now());
    let mut cluster = Plan::new(&words).replicas(1).options(&[&option]).start_in(scratch);
    let ended = cluster.await_end();
    let (flushes, took) = (disk.flushes() - before, begun.elapsed());
    let said = fs::read_to_string(cluster.state().join("replica-1/output/stdout")).unwrap_or_default();
    assert!(ended.success() && said.contains("wrong 0"), "{ended}: {said}");
    // Before the directory in which it is mounted is removed.
    drop(disk);
    (flushes, took)
}

#[test]
fn the_servers_own_waiting_for_the_disk_reaches_it_only_if_asked_for() {
    let _turn = serial::turn();
    let scratch = Scratch::new("syncs");
    let program = scratch.path().join("syncs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/syncs.c");
    let built = Command::new("cc").args(["-std=gnu2x", "-O1"]).arg(source).arg("-o").arg(&program).status();
    assert!(built.expect("run cc").success());
    let (with, fast) = flushes_of(&program, true);
    let (without, slow) = flushes_of(&program, false);
    println!(
        "{ROUNDS} rounds: {with} flushes of the disk in {fast:?}; with --elide-fsync=false {without} in {slow:?}"
    );
    assert!(with < OWN_FLUSHES, "{with} flushes reached the disk");
    assert!(without >= ROUNDS * WAYS, "only {without} flushes reached the disk");
}
