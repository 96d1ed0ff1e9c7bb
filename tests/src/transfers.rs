//! Clients that move money between accounts of a database and keep a journal of their transactions.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use crate::process;
use crate::python;
use crate::workload::{Failure, Verdict, Workload};

/// Clients at once.
const CLIENTS: u32 = 8;

/// Whose clients.
#[derive(Clone, Copy, Debug)]
pub enum Database {
    /// pymysql's.
    MariaDb,
    /// psycopg's.
    Postgres,
    /// redis-py's.
    Redis,
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
    pub fn start(database: Database, port: u16) -> Self {
        let driver = match database {
            Database::MariaDb => "pymysql",
            Database::Postgres => "psycopg",
            Database::Redis => "redis",
        };
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/transfers.py");
        let mut command = python::with(driver);
        command.arg(script).args([driver, &port.to_string(), &CLIENTS.to_string()]);
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
        self.number("count")
    }

    fn rest(&mut self, rests: bool) {
        self.number(if rests { "rest" } else { "go" });
    }

    fn finish(mut self: Box<Self>, _failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String> {
        let answer = self.ask("finish");
        let numbers: Vec<usize> = answer.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
        match (answer.split(' ').next(), &numbers[..]) {
            (Some("ok"), &[acknowledged, unknown_done, unknown_lost]) => {
                Ok((Verdict { acknowledged, unknown_done, unknown_lost, undecided: 0 }, Vec::new()))
            }
            _ => Err(format!("the clients found: {answer}")),
        }
    }
}
