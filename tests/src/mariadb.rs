//! MariaDB and its own programs, as a test drives them. Its clients that keep a journal are [`crate::transfers`].

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::{Cluster, Plan};
use crate::database;
use crate::scratch::Scratch;
use crate::wait::{PATIENCE, until};

/// Three replicas with a new data directory, run as `user`, which answer.
pub fn start(label: &str, user: &str) -> Cluster {
    start_in(Scratch::new(label), user)
}

/// The same in a given directory.
pub fn start_in(scratch: Scratch, user: &str) -> Cluster {
    let command = prepare(&scratch, user);
    let mut cluster = Plan::new(&command).port(3306).start_in(scratch);
    cluster.await_complete();
    until("MariaDB answers", PATIENCE, || sql(cluster.port(), "SELECT 1").ok());
    cluster
}

/// Makes a data directory; the command of a server on it, at port 3306.
pub fn prepare(scratch: &Scratch, user: &str) -> Vec<String> {
    let tables = database::tables(scratch, user);
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
    command.map(str::to_owned).to_vec()
}

/// Ends the server in order, and with it the cluster.
pub fn shut_down(cluster: &mut Cluster) {
    sql(cluster.port(), "SHUTDOWN").expect("shut the server down");
    let ended = cluster.await_end();
    assert!(ended.success(), "brolga run ended with {ended}:\n{}", cluster.printed());
}

/// Makes a data directory of a server's own, with a root user without a password.
fn install(data: &Path, user: &str) {
    let data = format!("--datadir={}", data.display());
    let user = format!("--user={user}");
    let arguments = ["--no-defaults", &user, &data, "--auth-root-authentication-method=normal"];
    let made = Command::new("mariadb-install-db").args(arguments).output().expect("run mariadb-install-db");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Carries out statements by the `mariadb` command line; what it printed, or its complaint.
pub fn sql(port: u16, statements: &str) -> Result<String, String> {
    sql_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), statements)
}

/// The same at any address.
pub fn sql_at(address: SocketAddr, statements: &str) -> Result<String, String> {
    run(client("mariadb").args(access_at(address)).args(["--skip-column-names", "--execute", statements]))
}

/// What `mariadb-dump` makes of a database.
pub fn dump(port: u16, database: &str) -> Result<String, String> {
    run(client("mariadb-dump").args(access(port)).args(["--single-transaction", database]))
}

/// Feeds a dump to the `mariadb` command line.
pub fn load(port: u16, database: &str, dump: &str) -> Result<(), String> {
    let mut command = client("mariadb");
    command.args(access(port)).arg(database).stdin(Stdio::piped());
    let mut client =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let mut input = client.stdin.take().expect("it was piped");
    let written = input.write_all(dump.as_bytes());
    drop(input);
    let output = client.wait_with_output().map_err(|e| e.to_string())?;
    written.map_err(|e| e.to_string())?;
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// One run of sysbench on the database `sbtest`; its report.
pub fn sysbench(
    port: u16,
    script: &str,
    threads: u32,
    seconds: u32,
    command: &str,
) -> Result<String, String> {
    let port = format!("--mysql-port={port}");
    let threads = format!("--threads={threads}");
    let seconds = format!("--time={seconds}");
    let fixed = ["--mysql-host=127.0.0.1", "--mysql-user=root", "--tables=4", "--table-size=2000"];
    run(client("sysbench").arg(script).args(fixed).args([&port, &threads, &seconds]).arg(command))
}

/// A program that is ended if the server does not answer it.
fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).arg(program);
    command
}

fn access(port: u16) -> [String; 4] {
    access_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn access_at(address: SocketAddr) -> [String; 4] {
    let (host, port) = (address.ip(), address.port());
    ["--no-defaults".into(), format!("--host={host}"), format!("--port={port}"), "--user=root".into()]
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}
