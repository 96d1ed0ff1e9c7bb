//! MariaDB, and sysbench.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::load::{Load, Outcome};
use crate::server::{Server, output, write};

const THREADS: u32 = 8;
const TABLES: u32 = 4;
const ROWS: u32 = 10_000;
const LOADS: [&str; 2] = ["oltp_read_write", "oltp_point_select"];

/// See the module.
#[derive(Debug)]
pub struct MariaDb;

impl Server for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn usual_port(&self) -> u16 {
        3306
    }

    fn command(&self, data: &Path, port: u16) -> Vec<String> {
        let own = data.join("mariadb");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--user=root", "--skip-test-db"]);
        output(
            install
                .arg("--auth-root-authentication-method=normal")
                .arg(format!("--datadir={}", own.display())),
        );
        let users = data.join("users.sql");
        write(
            &users,
            // Each statement has a line of its own.
            "CREATE DATABASE IF NOT EXISTS sbtest;\n\
             CREATE USER IF NOT EXISTS bench@'127.0.0.1' IDENTIFIED BY 'bench';\n\
             GRANT ALL ON sbtest.* TO bench@'127.0.0.1';\n",
        );
        let option = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        vec![
            "mariadbd".into(),
            "--no-defaults".into(),
            "--skip-name-resolve".into(),
            option("user", &"root"),
            option("datadir", &own.display()),
            option("port", &port),
            option("bind-address", &"127.0.0.1"),
            option("socket", &own.join("mariadb.sock").display()),
            option("pid-file", &own.join("mariadb.pid").display()),
            option("init-file", &users.display()),
        ]
    }

    fn answers(&self, port: u16) -> bool {
        let mut ask = Command::new("mariadb");
        ask.args(["--no-defaults", "-h127.0.0.1", "-ubench", "-pbench", "-e", "SELECT 1"]);
        ask.arg(format!("-P{port}")).output().is_ok_and(|output| output.status.success())
    }

    fn fill(&self, port: u16) {
        output(sysbench(port, LOADS[0]).arg("prepare"));
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        let load =
            |script| Load::new(format!("mariadb {script} c={THREADS}"), move |port| run(port, script, time));
        LOADS.map(load).into()
    }
}

fn sysbench(port: u16, script: &str) -> Command {
    let mut sysbench = Command::new("sysbench");
    sysbench.args([script, "--db-driver=mysql", "--mysql-host=127.0.0.1", "--mysql-user=bench"]);
    sysbench.args(["--mysql-password=bench", "--mysql-db=sbtest", "--histogram=on"]);
    sysbench.arg(format!("--mysql-port={port}")).arg(format!("--threads={THREADS}"));
    sysbench.arg(format!("--tables={TABLES}")).arg(format!("--table-size={ROWS}"));
    sysbench
}

fn run(port: u16, script: &str, time: Duration) -> Outcome {
    let seconds = time.as_secs().max(1);
    let text = output(sysbench(port, script).arg(format!("--time={seconds}")).arg("run"));
    parse(&text).unwrap_or_else(|| panic!("sysbench: {text}"))
}

/// Reads `transactions: 1234 (246.71 per sec.)` and the histogram's lines, `2.810 |***  57`.
fn parse(text: &str) -> Option<Outcome> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("transactions:"))?;
    let (count, rate) = line.split_once('(')?;
    let bins: Vec<(f64, u64)> = text
        .lines()
        .filter_map(|line| {
            let (milliseconds, rest) = line.split_once('|')?;
            Some((milliseconds.trim().parse().ok()?, rest.split_whitespace().last()?.parse().ok()?))
        })
        .collect();
    let all: u64 = bins.iter().map(|(_, count)| count).sum();
    let percentile = |percent: u64| {
        let mut below = 0;
        bins.iter().find(|(_, count)| {
            below += count;
            below * 100 >= all * percent
        })
    };
    Some(Outcome {
        rate: rate.split_whitespace().next()?.parse().ok()?,
        p50: percentile(50)?.0,
        p99: percentile(99)?.0,
        requests: count.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_sysbench_prints() {
        let text = "Latency histogram (values are in milliseconds)\n       value  ------------- distribution ------------- count\n\
                    \x20      2.810 |***                                      30\n       2.861 |****************************************  69\n\
                    \x20      9.999 |                                         1\n \n\
                    SQL statistics:\n    transactions:                        100    (49.71 per sec.)\n";
        let outcome = parse(text).unwrap();
        assert_eq!((outcome.requests, outcome.rate), (100, 49.71));
        assert_eq!((outcome.p50, outcome.p99), (2.861, 2.861));
    }
}
