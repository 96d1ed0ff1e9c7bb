//! Rounds of the campaign on one machine: `brolga run`, whose processes, logs, checkpoints and disk fail.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use brolga_tests::campaign::place::Place;
use brolga_tests::campaign::recorder::Recorder;
use brolga_tests::campaign::redis::Keys;
use brolga_tests::campaign::sql::{TABLES, Tables};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::scratch::Scratch;
use brolga_tests::small_disk::SmallDisk;
use brolga_tests::wait::{PATIENCE, poll, until};
use brolga_tests::workload::{Failure, Workload};
use brolga_tests::{layers, mariadb, process};

use super::{FAULTS_IN_A_ROUND, LONGEST, MOST_BETWEEN, REDIS, Report, Round, Server, flip};
use crate::{Choice, DIVERGED, Directory, await_load, mark};

/// A checkpoint takes about as long, milliseconds.
const LONGEST_CHECKPOINT_MS: u64 = 400;
/// Room for the logs of three replicas during a round.
const STATE_SIZE: &str = "3g";

/// What is done to a cluster.
#[derive(Clone, Copy, Debug)]
enum Fault {
    LeaderDies,
    FollowerDies,
    MajorityDies,
    AllDie,
    LeaderStops,
    FollowerStops,
    DiskFull,
    LogDamaged,
    /// A follower takes a checkpoint and dies.
    DiesAfterCheckpoint,
    /// A follower dies somewhere in the middle of a checkpoint.
    DiesInCheckpoint,
    /// A follower's newest checkpoint is damaged, and it dies.
    CheckpointDamaged,
}

/// All of them.
const FAULTS: [Fault; 11] = [
    Fault::LeaderDies,
    Fault::FollowerDies,
    Fault::MajorityDies,
    Fault::AllDie,
    Fault::LeaderStops,
    Fault::FollowerStops,
    Fault::DiskFull,
    Fault::LogDamaged,
    Fault::DiesAfterCheckpoint,
    Fault::DiesInCheckpoint,
    Fault::CheckpointDamaged,
];

/// Plays a round.
pub(super) fn play(server: Server, choice: &mut Choice, report: &mut Report, directory: &Directory) {
    let begin = Instant::now();
    let scratch = Scratch::new("faults");
    let disk = SmallDisk::mount(&scratch.path().join("state"), STATE_SIZE);
    let mut cluster = start(server, scratch);
    mark(directory, &cluster);
    let seed = choice.below(1 << 31);
    let place = Place::here(cluster.port());
    let mut load: Box<dyn Workload> = match server {
        Server::Redis => Box::new(Recorder::<Keys>::start(place, seed)),
        Server::MariaDb => Box::new(Recorder::<Tables>::start(place, seed)),
    };
    let mut faults = Vec::new();
    for _ in 0..FAULTS_IN_A_ROUND {
        await_load(load.as_mut(), 1 + choice.below(MOST_BETWEEN));
        let fault = FAULTS[choice.below(FAULTS.len() as u64) as usize];
        let at = inflict(fault, &mut cluster, load.as_mut(), &disk, choice);
        await_load(load.as_mut(), 1);
        faults.push((format!("{fault:?}"), Failure::since(at)));
    }
    let failures: Vec<_> = faults.iter().map(|(_, failure)| *failure).collect();
    let (verdict, gaps) = load.finish(&failures).unwrap_or_else(|wrong| panic!("ANOMALY: {wrong}"));
    cluster.await_level();
    let diverged = cluster.logged(DIVERGED);
    assert!(diverged.is_empty(), "{}", diverged.join("\n"));
    let printed = cluster.printed();
    let unwanted: Vec<_> =
        printed.lines().filter(|line| line.contains(" died (") && !line.contains("SIGKILL")).collect();
    assert!(unwanted.is_empty(), "replicas died that nobody killed: {unwanted:?}");
    let rebuilds = cluster.logged(crate::REBUILDS).len();
    let files = end(server, &mut cluster);
    drop(disk);
    report.note(Round {
        place: "one machine",
        faults,
        gaps,
        verdict,
        rebuilds,
        files,
        took: begin.elapsed(),
    });
}

fn start(server: Server, scratch: Scratch) -> Cluster {
    match server {
        Server::Redis => {
            let mut cluster = Plan::new(&REDIS).port(6379).start_in(scratch);
            cluster.await_complete();
            cluster
        }
        Server::MariaDb => {
            let cluster = mariadb::start_in(scratch, "root");
            mariadb::sql(cluster.port(), TABLES).expect("make the tables");
            cluster
        }
    }
}

fn end(server: Server, cluster: &mut Cluster) -> usize {
    match server {
        Server::Redis => {
            let (files, _) = layers::assert_identical(&cluster.state(), cluster.replicas());
            cluster.stop();
            files
        }
        Server::MariaDb => {
            mariadb::shut_down(cluster);
            layers::assert_identical(&cluster.state(), cluster.replicas()).0
        }
    }
}

/// Does it, and undoes what does not end by itself; returns when it began.
fn inflict(
    fault: Fault,
    cluster: &mut Cluster,
    load: &mut dyn Workload,
    disk: &SmallDisk,
    choice: &mut Choice,
) -> Instant {
    let leader = cluster.leader();
    let others: Vec<u8> = (1..=cluster.replicas()).filter(|id| *id != leader).collect();
    let follower = others[choice.below(others.len() as u64) as usize];
    let held = Duration::from_millis(100 + choice.below(LONGEST.as_millis() as u64 - 100));
    match fault {
        Fault::LeaderDies => cluster.kill_replica(leader),
        Fault::FollowerDies => cluster.kill_replica(follower),
        Fault::MajorityDies => {
            cluster.kill_replica(follower);
            cluster.kill_replica(leader)
        }
        Fault::AllDie => {
            let at = Instant::now();
            cluster.kill_launcher();
            cluster.run();
            at
        }
        Fault::LeaderStops => stop_for(cluster, leader, |cluster| {
            poll(held, || cluster.status()?.leader().filter(|other| other.id != leader).map(|_| ()));
        }),
        Fault::FollowerStops => {
            stop_for(cluster, follower, |_| await_load(load, 1 + choice.below(MOST_BETWEEN)))
        }
        Fault::DiskFull => {
            let at = Instant::now();
            disk.fill();
            // Nothing is acknowledged once a majority needs room for its log.
            let goal = load.acknowledged() + choice.below(MOST_BETWEEN);
            poll(held, || (load.acknowledged() >= goal).then_some(()));
            disk.make_room();
            at
        }
        Fault::LogDamaged => damage_log(cluster, follower, choice),
        Fault::DiesAfterCheckpoint => {
            checkpoint(cluster, follower);
            cluster.kill_replica(follower)
        }
        Fault::DiesInCheckpoint => {
            let id = follower.to_string();
            let mut asked = cluster.brolga(&["checkpoint", "--replica", &id]);
            let mut asked = asked.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run brolga");
            // Where in it the replica dies is the fault.
            let moment = Duration::from_millis(choice.below(LONGEST_CHECKPOINT_MS));
            poll(moment, || asked.try_wait().expect("look at brolga"));
            let at = cluster.kill_replica(follower);
            asked.wait().expect("wait for brolga");
            at
        }
        Fault::CheckpointDamaged => {
            checkpoint(cluster, follower);
            if let Some(newest) = checkpoints(cluster, follower).pop() {
                let images = newest.join("images");
                let mut files: Vec<_> = list(&images);
                files.sort();
                flip(&files[choice.below(files.len() as u64) as usize], choice, 1, 1);
            }
            cluster.kill_replica(follower)
        }
    }
}

/// Has a replica take a checkpoint. That it is dead yet of the fault before, does not come to rest, or is elected meanwhile, is no
/// fault.
fn checkpoint(cluster: &Cluster, id: u8) {
    let output = cluster.call(&["checkpoint", "--replica", &id.to_string()]);
    let error = String::from_utf8_lossy(&output.stderr);
    let refused = [
        "does not come to rest",
        "it leads",
        "was elected",
        "no leader is known",
        "no server now",
        "does not run",
        "died before it had taken a checkpoint",
    ];
    let fine = output.status.success() || refused.iter().any(|reason| error.contains(reason));
    assert!(fine, "no checkpoint was taken: {error}");
}

/// A replica's checkpoints, the oldest first.
fn checkpoints(cluster: &Cluster, id: u8) -> Vec<PathBuf> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    let mut found = list(&cluster.state().join(format!("replica-{id}/checkpoints")));
    found.retain(|path| number(path).is_some());
    found.sort_by_key(number);
    found
}

fn list(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Flips a bit in a replica's log while it is down, and waits until it has learned everything anew: without the others' whole logs
/// it could not, so there is no second fault meanwhile.
fn damage_log(cluster: &mut Cluster, id: u8, choice: &mut Choice) -> Instant {
    const MENDED: &str = "its log is whole again";
    let at = Instant::now();
    let command = |cluster: &Cluster, what| {
        let output = cluster.call(&[what, "--replica", &id.to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let mended = |cluster: &Cluster| cluster.printed().matches(MENDED).count();
    let before = mended(cluster);
    command(cluster, "kill");
    let segments = cluster.log_segments(id);
    // Not at its very end: what is torn there is cut.
    flip(&segments[choice.below(segments.len() as u64) as usize], choice, 7, 8);
    command(cluster, "start");
    until("the log is whole again", 2 * PATIENCE, || (mended(cluster) > before).then_some(()));
    at
}

/// Stops a replica's coordinator until `over` returns.
fn stop_for(cluster: &mut Cluster, id: u8, over: impl FnOnce(&mut Cluster)) -> Instant {
    let pid = cluster.await_status("the replica runs", |status| {
        status.replica(id).map(|replica| replica.pid).filter(|&pid| pid > 1)
    });
    let at = Instant::now();
    process::signal(pid, libc::SIGSTOP);
    over(cluster);
    process::signal(pid, libc::SIGCONT);
    at
}
