//! Three replicas of an unmodified PostgreSQL: a process for each connection, shared memory, inline spin locks. No acknowledged
//! transaction is lost or doubled, whoever is killed, a crash of a server process is the same event everywhere, and after
//! an orderly end the data directories are the same, byte by byte.

use brolga_tests::database::{self, TRANSACTIONS_BETWEEN};
use brolga_tests::postgres::{run, shut_down, sql, start};
use brolga_tests::serial;
use brolga_tests::transfers::{Database, Transfers};

#[test]
fn any_replica_or_process_may_be_killed_and_no_transaction_is_lost_or_doubled() {
    let _turn = serial::turn();
    let mut cluster = start("postgres");
    let mut transfers = Transfers::start(Database::Postgres, cluster.port());
    database::kill_replicas(&mut cluster, &mut transfers);
    // A server process that crashes: the first one ends all others, recovers from its log, and begins anew.
    for signal in ["KILL", "SEGV"] {
        let crash = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; kill -{signal} $PPID'");
        sql(cluster.port(), &crash).expect_err("the process that would answer is dead");
        database::await_more(&mut transfers, "transactions after a crash");
    }
    database::check(transfers, 7 * TRANSACTIONS_BETWEEN);
    database::end(&mut cluster, shut_down);
}

#[test]
fn pgbench_runs_without_errors_and_a_dump_is_a_true_copy() {
    let _turn = serial::turn();
    let mut cluster = start("postgres-load");
    let port = cluster.port();
    run("pgbench", port, &["-q", "-i", "postgres"]).expect("make pgbench's tables");
    for script in ["tpcb-like", "simple-update", "select-only"] {
        let report = run("pgbench", port, &["-c", "8", "-j", "2", "-T", "2", "-b", script, "postgres"]);
        let report = report.expect("a run of pgbench");
        assert!(report.contains("failed transactions: 0 "), "{report}");
        report.lines().filter(|line| line.contains("tps")).for_each(|line| println!("{script}: {line}"));
    }
    let sums = "SELECT sum(abalance) FROM pgbench_accounts UNION ALL SELECT sum(bbalance) FROM pgbench_branches \
                UNION ALL SELECT sum(tbalance) FROM pgbench_tellers";
    let before = sql(port, sums).expect("sums");
    let values: Vec<_> = before.lines().collect();
    // The simple script changes accounts alone.
    assert!(values.len() == 3 && values[1] == values[2], "{before}");
    let file = cluster.directory().join("dump.sql");
    let file = file.to_str().expect("a plain path");
    run("pg_dump", port, &["--no-owner", "-f", file, "postgres"]).expect("a dump");
    sql(port, "CREATE DATABASE copy").expect("make a database");
    run("psql", port, &["-qX", "-v", "ON_ERROR_STOP=1", "-f", file, "copy"]).expect("load the dump");
    let copied = run("psql", port, &["-qAtX", "-c", sums, "copy"]).expect("sums of the copy");
    assert_eq!(copied, before, "the copy differs");
    database::end(&mut cluster, shut_down);
}
