//! Three replicas of an unmodified MariaDB: no acknowledged transaction is lost or doubled, whoever is killed, and after an
//! orderly end the data directories are the same, byte by byte.

use std::path::Path;
use std::process::{Command, Stdio};

use brolga_tests::cluster::brolga;
use brolga_tests::database::{self, TRANSACTIONS_BETWEEN};
use brolga_tests::mariadb::{dump, load, shut_down, sql, start, sysbench};
use brolga_tests::serial;
use brolga_tests::transfers::{Database, Transfers};

#[test]
fn any_replica_may_be_killed_and_no_transaction_is_lost_or_doubled() {
    let _turn = serial::turn();
    let mut cluster = start("mariadb", "root");
    let mut transfers = Transfers::start(Database::MariaDb, cluster.port());
    database::kill_replicas(&mut cluster, &mut transfers);
    database::check(transfers, 5 * TRANSACTIONS_BETWEEN);
    database::end(&mut cluster, shut_down);
}

/// How long each load of sysbench is: `BROLGA_SYSBENCH_SECONDS=60` for a long look.
fn seconds() -> u32 {
    std::env::var("BROLGA_SYSBENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn sysbench_runs_without_errors_and_a_dump_is_a_true_copy() {
    let _turn = serial::turn();
    let mut cluster = start("mariadb-load", "mysql");
    let port = cluster.port();
    sql(port, "CREATE DATABASE sbtest; CREATE DATABASE copy").expect("make databases");
    sysbench(port, "oltp_read_write", 1, 1, "prepare").expect("make sysbench's tables");
    let (seconds, runs) = (seconds(), ["oltp_read_write", "oltp_point_select"]);
    for (script, threads) in runs.into_iter().flat_map(|script| [(script, 8), (script, 16)]) {
        let report = sysbench(port, script, threads, seconds, "run").expect("a run of sysbench");
        let wanted = ["transactions:", "ignored errors:", "95th percentile"];
        report.lines().filter(|l| wanted.iter().any(|w| l.contains(w))).for_each(|l| println!("{l}"));
    }
    let text = dump(port, "sbtest").expect("a dump");
    assert!(text.contains("-- Dump completed"), "the dump has no end");
    load(port, "copy", &text).expect("load the dump");
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "rebuilt: {}", status.raw);
    for table in 1..=4 {
        let sums = sql(port, &format!("CHECKSUM TABLE sbtest.sbtest{table}, copy.sbtest{table}"));
        let sums = sums.expect("checksums");
        let values: Vec<_> = sums.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert!(values.len() == 2 && values[0] == values[1], "the copy differs: {sums}");
    }
    database::end(&mut cluster, shut_down);
}

/// Short tests of MariaDB's own suite, of many kinds of statements.
const SUITE: &str =
    "^(bigint|bool|compare|count_distinct|distinct|having|insert_select|limit|olap|select_found|truncate)$";
/// At least so many of them pass against a native server that the suite did not start itself.
const SUITE_LEAST: usize = 5;

#[test]
fn tests_of_its_own_suite_that_pass_natively_pass_replicated() {
    let _turn = serial::turn();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/mtr");
    let mut mtr = Command::new("timeout");
    mtr.arg("300").arg(script).arg(SUITE).env("BROLGA", brolga()).stdin(Stdio::null());
    let output = mtr.output().expect("run scripts/mtr");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|line| line.strip_prefix("replicated: ")).expect("a number");
    let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1] && numbers[0] >= SUITE_LEAST, "{said}");
    println!("{line}");
}
