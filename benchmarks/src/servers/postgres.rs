//! PostgreSQL, and pgbench.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use brolga_tests::scratch::Scratch;
use brolga_tests::stats::Times;

use crate::load::{Load, Outcome};
use crate::server::{Server, output};

const CLIENTS: u32 = 8;
const SCALE: u32 = 5;
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// It refuses to run as root.
const AS_POSTGRES: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];

/// See the module.
#[derive(Debug)]
pub struct Postgres;

impl Server for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn usual_port(&self) -> u16 {
        5432
    }

    fn command(&self, data: &Path, port: u16) -> Vec<String> {
        let own = data.join("postgres");
        std::fs::create_dir_all(&own).expect("make the data directory");
        let id = |option: &str| {
            output(Command::new("id").args([option, "postgres"])).trim().parse().expect("a number")
        };
        chown(&own, Some(id("-u")), Some(id("-g"))).expect("give the data directory away");
        for above in own.ancestors().skip(1).take(2) {
            std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755))
                .expect("open the way to it");
        }
        let own = own.display().to_string();
        let mut initdb = Command::new(AS_POSTGRES[0]);
        initdb
            .args(&AS_POSTGRES[1..])
            .arg(format!("{PROGRAMS}/initdb"))
            .args(["-D", &own, "-A", "trust", "-N"]);
        output(initdb.current_dir("/"));
        let mut words: Vec<String> = AS_POSTGRES.map(str::to_owned).to_vec();
        let port = port.to_string();
        words.extend(
            [&format!("{PROGRAMS}/postgres"), "-D", &own, "-p", &port, "-k", &own].map(str::to_owned),
        );
        words
    }

    fn answers(&self, port: u16) -> bool {
        psql(port, "SELECT 1").output().is_ok_and(|output| output.status.success())
    }

    fn fill(&self, port: u16) {
        output(pgbench(port).args(["-i", "-q", "-s", &SCALE.to_string(), "postgres"]));
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        let load = |name: &str, script| {
            Load::new(format!("postgres {name} c={CLIENTS}"), move |port| run(port, script, time))
        };
        vec![load("TPC-B", "tpcb-like"), load("select", "select-only")]
    }
}

fn psql(port: u16, statement: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["-h", "127.0.0.1", "-U", "postgres", "-X", "-c", statement, "-p", &port.to_string()]);
    psql
}

fn pgbench(port: u16) -> Command {
    let mut pgbench = Command::new("pgbench");
    pgbench.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
    pgbench
}

fn run(port: u16, script: &str, time: Duration) -> Outcome {
    let log = Scratch::new("pgbench");
    let seconds = time.as_secs().max(1);
    let mut pgbench = pgbench(port);
    pgbench.args(["-n", "-l", "-j", "1", "-c", &CLIENTS.to_string(), "-T", &seconds.to_string()]);
    output(pgbench.args(["-b", script, "postgres"]).current_dir(log.path()));
    let file =
        std::fs::read_dir(log.path()).expect("pgbench's log").flatten().next().expect("one file").path();
    let text = std::fs::read_to_string(file).expect("read pgbench's log");
    Outcome::of(&Times::new(text.lines().filter_map(time_of).collect()), seconds as f64)
}

/// The third word of a line of pgbench's log is the transaction's time, microseconds.
fn time_of(line: &str) -> Option<Duration> {
    line.split(' ').nth(2)?.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pgbench_logs() {
        assert_eq!(time_of("0 199 2241 0 1175850568 995598"), Some(Duration::from_micros(2241)));
    }
}
