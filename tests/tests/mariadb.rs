//! Three replicas of an unmodified MariaDB: no acknowledged transaction is lost or doubled, whoever is killed, and after an
//! orderly end the data directories are the same, byte by byte.

use std::os::unix::fs::chown;
use std::path::Path;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::mariadb::{Transfers, dump, install, load, sql, sysbench};
use brolga_tests::scratch::Scratch;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::{layers, serial};

/// Clients that move money.
const CLIENTS: u32 = 8;
/// Acknowledged transactions between two failures.
const TRANSACTIONS_BETWEEN: u64 = 300;

fn start(label: &str, user: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    let tables = data.join("tables");
    std::fs::create_dir_all(&tables).expect("make the data directory");
    give_to(&tables, user);
    install(&tables, user);
    let [user, directory, socket] = [
        format!("--user={user}"),
        format!("--datadir={}", tables.display()),
        format!("--socket={}", tables.join("server.sock").display()),
    ];
    let command = [
        "mariadbd",
        "--no-defaults",
        &user,
        &directory,
        &socket,
        "--bind-address=0.0.0.0",
        "--port=3306",
        "--skip-name-resolve",
        "--innodb-use-native-aio=0",
        "--innodb-buffer-pool-size=64M",
    ];
    let mut cluster = Plan::new(&command).port(3306).start_in(scratch);
    cluster.await_complete();
    until("MariaDB answers", PATIENCE, || sql(cluster.port(), "SELECT 1").ok());
    cluster
}

fn give_to(directory: &Path, user: &str) {
    // SAFETY: a C string; the entry is read before anybody else could ask for another.
    let entry = unsafe {
        let name = std::ffi::CString::new(user).expect("a user's name");
        libc::getpwnam(name.as_ptr()).as_ref().map(|entry| (entry.pw_uid, entry.pw_gid))
    };
    let (user, group) = entry.unwrap_or_else(|| panic!("there is no user {user}"));
    chown(directory, Some(user), Some(group)).expect("give the data directory away");
}

/// Ends the server in order, and compares what the replicas leave behind.
fn shut_down(cluster: &mut Cluster) {
    cluster.await_level();
    sql(cluster.port(), "SHUTDOWN").expect("shut the server down");
    let ended = cluster.await_end();
    assert!(ended.success(), "brolga run ended with {ended}:\n{}", cluster.printed());
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    assert!(files > 20, "only {files} files were compared");
    println!("files {files}, bytes {bytes}");
}

fn more(transfers: &mut Transfers, what: &str) {
    let enough = transfers.acknowledged() + TRANSACTIONS_BETWEEN;
    until(what, PATIENCE, || (transfers.acknowledged() >= enough).then_some(()));
}

#[test]
fn any_replica_may_be_killed_and_no_transaction_is_lost_or_doubled() {
    let _turn = serial::turn();
    let mut cluster = start("mariadb", "root");
    let mut transfers = Transfers::start(cluster.port(), CLIENTS);
    more(&mut transfers, "transactions");
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        more(&mut transfers, "transactions after a failure");
        transfers.rest(true);
        cluster.await_complete();
        transfers.rest(false);
        more(&mut transfers, "transactions with all replicas");
    }
    let verdict = transfers.finish();
    println!("{verdict:?}");
    assert!(verdict.acknowledged >= 5 * TRANSACTIONS_BETWEEN);
    shut_down(&mut cluster);
}

#[test]
fn sysbench_runs_without_errors_and_a_dump_is_a_true_copy() {
    let _turn = serial::turn();
    let mut cluster = start("mariadb-load", "mysql");
    let port = cluster.port();
    sql(port, "CREATE DATABASE sbtest; CREATE DATABASE copy").expect("make databases");
    sysbench(port, "oltp_read_write", 1, 1, "prepare").expect("make sysbench's tables");
    for (script, threads) in [("oltp_read_write", 8), ("oltp_point_select", 16)] {
        let report = sysbench(port, script, threads, 2, "run").expect("a run of sysbench");
        let wanted = ["transactions:", "ignored errors:", "95th percentile"];
        report.lines().filter(|l| wanted.iter().any(|w| l.contains(w))).for_each(|l| println!("{l}"));
    }
    let text = dump(port, "sbtest").expect("a dump");
    assert!(text.contains("-- Dump completed"), "the dump has no end");
    load(port, "copy", &text).expect("load the dump");
    for table in 1..=4 {
        let sums = sql(port, &format!("CHECKSUM TABLE sbtest.sbtest{table}, copy.sbtest{table}"));
        let sums = sums.expect("checksums");
        let values: Vec<_> = sums.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert!(values.len() == 2 && values[0] == values[1], "the copy differs: {sums}");
    }
    shut_down(&mut cluster);
}
