//! PostgreSQL and its own programs, as a test drives them. Its clients that keep a journal are [`crate::transfers`].

use std::process::{Command, Stdio};

use crate::cluster::{Cluster, Plan};
use crate::database;
use crate::scratch::Scratch;
use crate::wait::{PATIENCE, until};

/// Where Debian keeps the programs, a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The server refuses to run as root.
const AS_USER: [&str; 4] = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];

/// Runs a client's program to its end; what it printed, or its complaint.
pub fn run(program: &str, port: u16, arguments: &[&str]) -> Result<String, String> {
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

/// Carries out statements by `psql`; what it printed, or its complaint.
pub fn sql(port: u16, statements: &str) -> Result<String, String> {
    run("psql", port, &["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statements, "postgres"])
}

/// The server's programs, which are in nobody's path.
fn program(name: &str) -> String {
    let versions = std::fs::read_dir(VERSIONS).expect("PostgreSQL is installed").flatten();
    let newest = versions.map(|version| version.path()).max().expect("PostgreSQL is installed");
    newest.join("bin").join(name).to_str().expect("a plain path").to_owned()
}

/// Three replicas with a new data directory, which answer.
pub fn start(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let tables = database::tables(&scratch, "postgres");
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
    let plan = Plan::new(&command).port(5432);
    let mut cluster = plan.start_in(scratch);
    cluster.await_complete();
    until("PostgreSQL answers", PATIENCE, || sql(cluster.port(), "SELECT 1").ok());
    cluster
}

/// Ends the server in order, and with it the cluster.
pub fn shut_down(cluster: &mut Cluster) {
    // The first process of a replica has this number. The client may lose its connection before it has its answer.
    sql(cluster.port(), "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; kill -INT 1000'").ok();
    let ended = cluster.await_end();
    assert!(ended.success(), "brolga run ended with {ended}:\n{}", cluster.printed());
}
