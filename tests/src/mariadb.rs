//! MariaDB's own programs, and clients that keep a journal of their transactions, as a test drives them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process;
use crate::wait::PATIENCE;
use crate::workload::{self, Workload};

/// Makes a data directory of a server's own, with a root user without a password.
pub fn install(data: &Path, user: &str) {
    let data = format!("--datadir={}", data.display());
    let user = format!("--user={user}");
    let arguments = ["--no-defaults", &user, &data, "--auth-root-authentication-method=normal"];
    let made = Command::new("mariadb-install-db").args(arguments).output().expect("run mariadb-install-db");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Carries out statements by the `mariadb` command line; what it printed, or its complaint.
pub fn sql(port: u16, statements: &str) -> Result<String, String> {
    run(client("mariadb").args(access(port)).args(["--skip-column-names", "--execute", statements]))
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
    ["--no-defaults".into(), "--host=127.0.0.1".into(), format!("--port={port}"), "--user=root".into()]
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

/// What became of the transactions of [`Transfers`], when nothing was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, all there exactly once.
    pub acknowledged: u64,
    /// Without an answer, but they had happened.
    pub unknown_done: u64,
    /// Without an answer, and they had not happened.
    pub unknown_lost: u64,
}

/// Running clients that move money between accounts; see `clients/transfers.py`.
#[derive(Debug)]
pub struct Transfers {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Transfers {
    /// Starts them.
    pub fn start(port: u16, clients: u32) -> Self {
        Self::run("pymysql", port, clients)
    }

    /// The same of psycopg, for PostgreSQL.
    pub fn of_postgres(port: u16, clients: u32) -> Self {
        Self::run("psycopg", port, clients)
    }

    fn run(driver: &str, port: u16, clients: u32) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/transfers.py");
        let mut command = Command::new("python3");
        command.arg(script).args([driver, &port.to_string(), &clients.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run python3");
        let commands = child.stdin.take().expect("it was piped");
        let answers = BufReader::new(child.stdout.take().expect("it was piped"));
        Self { child, commands, answers }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("the clients take commands");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the clients answer");
        answer.trim_end().to_owned()
    }

    fn number(&mut self, command: &str) -> u64 {
        let answer = self.ask(command);
        answer.parse().unwrap_or_else(|_| panic!("the clients answered {command} by {answer:?}"))
    }

    /// Acknowledged transactions so far.
    pub fn acknowledged(&mut self) -> u64 {
        self.number("count")
    }

    /// A few transactions a second from now on, or again as many as the server takes. A replica that comes back replays the
    /// whole log; beside a leader at full speed, on the same few CPUs, it may never get to its end.
    pub fn rest(&mut self, rests: bool) {
        self.number(if rests { "rest" } else { "go" });
    }

    /// Stops the clients and holds the tables against their notes.
    pub fn finish(mut self) -> Verdict {
        let answer = self.ask("finish");
        let numbers: Vec<u64> = answer.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
        match (answer.split(' ').next(), &numbers[..]) {
            (Some("ok"), &[acknowledged, unknown_done, unknown_lost]) => {
                Verdict { acknowledged, unknown_done, unknown_lost }
            }
            _ => panic!("the clients found: {answer}"),
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            process::signal(pid, libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Workload for Transfers {
    fn acknowledged(&mut self) -> u64 {
        Self::acknowledged(self)
    }

    fn rest(&mut self, rests: bool) {
        Self::rest(self, rests);
    }

    fn finish(self: Box<Self>, _failures: &[Instant]) -> Result<(workload::Verdict, Vec<Duration>), String> {
        let Verdict { acknowledged, unknown_done, unknown_lost } = Self::finish(*self);
        let [acknowledged, unknown_done, unknown_lost] = [acknowledged, unknown_done, unknown_lost]
            .map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        Ok((workload::Verdict { acknowledged, unknown_done, unknown_lost }, Vec::new()))
    }
}
