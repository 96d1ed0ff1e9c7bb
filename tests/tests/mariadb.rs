//! Three replicas of an unmodified MariaDB: no acknowledged transaction is lost or doubled, whoever is killed, and after an
//! orderly end the data directories are the same, byte by byte.

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
    database::end(&mut cluster, shut_down);
}
