//! Three replicas of an unmodified PostgreSQL: a process for each connection, shared memory, inline spin locks. No acknowledged
//! transaction is lost or doubled, whoever is killed, a crash of a server process is the same event everywhere, and after
//! an orderly end the data directories are the same, byte by byte.

use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::mariadb::Transfers;
use brolga_tests::scratch::Scratch;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::{layers, serial};

/// Where Debian keeps the programs, a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The server refuses to run as root.
const AS_USER: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
/// Clients that move money.
const CLIENTS: u32 = 8;
/// Acknowledged transactions between two failures.
const TRANSACTIONS_BETWEEN: u64 = 300;

fn run(program: &str, port: u16, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).arg(program);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]).args(arguments);
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stdout) + &text(&output.stderr)),
    }
}

/// The server's programs, which are in nobody's path.
fn program(name: &str) -> String {
    let versions = std::fs::read_dir(VERSIONS).expect("PostgreSQL is installed").flatten();
    let newest = versions.map(|version| version.path()).max().expect("PostgreSQL is installed");
    newest.join("bin").join(name).to_str().expect("a plain path").to_owned()
}

/// Carries out statements by `psql`; what it printed, or its complaint.
fn sql(port: u16, statements: &str) -> Result<String, String> {
    run("psql", port, &["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statements, "postgres"])
}

fn start(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    let tables = data.join("tables");
    std::fs::create_dir_all(&tables).expect("make the data directory");
    // SAFETY: a C string; the entry is read before anybody else could ask for another.
    let user = unsafe { libc::getpwnam(c"postgres".as_ptr()).as_ref().map(|u| (u.pw_uid, u.pw_gid)) };
    let (user, group) = user.expect("the package made a user postgres");
    chown(&tables, Some(user), Some(group)).expect("give the data directory away");
    let tables = tables.to_str().expect("a plain path");
    let made = Command::new(AS_USER[0])
        .args(&AS_USER[1..])
        .args([&program("initdb"), "-D", tables, "-N", "--auth=trust", "--wal-segsize=1"])
        .output()
        .expect("run initdb");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = program("postgres");
    let mut command = AS_USER.to_vec();
    command.extend([server.as_str(), "-D", tables, "-k", tables]);
    for setting in ["listen_addresses=127.0.0.1", "port=5432", "shared_buffers=32MB"] {
        command.extend(["-c", setting]);
    }
    let plan = Plan::new(&command).options(&["--spin-limit", "10000000"]).port(5432);
    let mut cluster = plan.start_in(scratch);
    cluster.await_complete();
    until("PostgreSQL answers", PATIENCE, || sql(cluster.port(), "SELECT 1").ok());
    cluster
}

/// Ends the server in order, and compares what the replicas leave behind.
fn shut_down(cluster: &mut Cluster) {
    cluster.await_level();
    sql(cluster.port(), "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; kill -INT 1000'").ok();
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
fn any_replica_or_process_may_be_killed_and_no_transaction_is_lost_or_doubled() {
    let _turn = serial::turn();
    let mut cluster = start("postgres");
    let mut transfers = Transfers::of_postgres(cluster.port(), CLIENTS);
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
    // A server process that crashes: the first one ends all others, recovers from its log, and begins anew.
    for signal in ["KILL", "SEGV"] {
        let crash = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; kill -{signal} $PPID'");
        sql(cluster.port(), &crash).expect_err("the process that would answer is dead");
        more(&mut transfers, "transactions after a crash");
    }
    let verdict = transfers.finish();
    println!("{verdict:?}");
    assert!(verdict.acknowledged >= 7 * TRANSACTIONS_BETWEEN);
    shut_down(&mut cluster);
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
    shut_down(&mut cluster);
}
