//! ClamAV's daemon with signatures of our own: what its client asks for, by file and by stream, reloads, and dead replicas.

use std::fs;
use std::process::Command;

use brolga_tests::clamd::{self, ask, eicar, instream};
use brolga_tests::cluster::Cluster;
use brolga_tests::layers;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// How long any client may take.
const CLIENT_LIMIT: &str = "30";

fn start(replicas: u8) -> Cluster {
    let cluster = clamd::start("clamd", replicas);
    let client = format!("TCPSocket {}\nTCPAddr 127.0.0.1\n", cluster.port());
    fs::write(cluster.directory().join("client.conf"), client).expect("write the client's configuration");
    cluster
}

/// clamdscan with these words; its exit code and what it said.
fn clamdscan(cluster: &Cluster, words: &[&str]) -> (Option<i32>, String) {
    let mut client = Command::new("timeout");
    client
        .args([CLIENT_LIMIT, "clamdscan", "--no-summary", "-c"])
        .arg(cluster.directory().join("client.conf"));
    let output = client.args(words).current_dir(cluster.data()).output().expect("run clamdscan");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

/// clamdscan's exit code if it found something.
const FOUND: Option<i32> = Some(1);

fn assert_finds_both(cluster: &Cluster, mode: &[&str]) {
    let directory = cluster.data().join("files");
    let (code, said) = clamdscan(cluster, &[mode, &[directory.to_str().expect("a plain path")]].concat());
    assert_eq!(code, FOUND, "{mode:?}: {said}");
    for (file, name) in [("eicar", "Own.Eicar"), ("marked", "Own.Marker")] {
        let found = said.lines().any(|l| l.contains(&format!("/{file}: {name}.UNOFFICIAL FOUND")));
        assert!(found, "{mode:?} did not find {name} in {file}:\n{said}");
    }
    assert_eq!(said.matches(" FOUND").count(), 2, "{said}");
}

fn serve(cluster: &Cluster) {
    until("clamd answers PING", PATIENCE, || {
        (ask(cluster.port(), "PING", &[]).ok()? == "PONG").then_some(())
    });
}

fn exercise(cluster: &Cluster) {
    serve(cluster);
    for mode in [&[][..], &["--multiscan"], &["--stream"]] {
        assert_finds_both(cluster, mode);
    }
    assert_eq!(instream(cluster.port(), "nothing bad").expect("an answer"), "stream: OK");
    let found = instream(cluster.port(), &format!("before {} behind", eicar())).expect("an answer");
    assert_eq!(found, "stream: Own.Eicar.UNOFFICIAL FOUND");
    let (code, said) = clamdscan(cluster, &["--reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(ask(cluster.port(), "VERSION", &[]).expect("an answer").starts_with("ClamAV"));
    assert!(ask(cluster.port(), "STATS", &[]).expect("an answer").contains("THREADS"));
}

/// How often the thread of init that takes deleted files has slept.
fn sleeps_of_freeing_thread(cluster: &Cluster) -> u64 {
    let status = cluster.status().expect("the cluster's status");
    let init = status.replica(1).expect("replica 1").container_pid;
    let tasks = fs::read_dir(format!("/proc/{init}/task")).expect("list init's threads");
    let all: Vec<_> = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter(|status| status.starts_with("Name:\tbrolga-freed\n"))
        .flat_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.and_then(|count| count.trim().parse().ok())
        })
        .collect();
    assert_eq!(all.len(), 1, "one thread of init");
    all[0]
}

/// clamd removes a directory of each scan while it has it open.
fn init_frees_what_is_deleted(cluster: &Cluster) {
    let before = sleeps_of_freeing_thread(cluster);
    until("init takes what clamd deletes", PATIENCE, || {
        assert_eq!(instream(cluster.port(), "nothing bad").expect("an answer"), "stream: OK");
        (sleeps_of_freeing_thread(cluster) > before + 2).then_some(())
    });
}

#[test]
fn scans_streams_and_reloads_work_and_any_replica_may_be_killed() {
    let _turn = serial::turn();
    let mut alone = start(1);
    exercise(&alone);
    init_frees_what_is_deleted(&alone);
    alone.stop();

    let mut cluster = start(3);
    exercise(&cluster);
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        exercise(&cluster);
        cluster.await_complete();
    }
    exercise(&cluster);
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "rebuilt: {}", status.raw);
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}
