//! The objects in MariaDB, asked through `pymysql` (`clients/objects.py`), one process for each client.

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::objects::{ACCOUNTS, Answer, BALANCE, Request};
use super::place::{Addresses, Place};
use super::recorder::Store;
use crate::python;

/// A client.
#[derive(Debug)]
pub struct Tables {
    addresses: Addresses,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Makes the tables.
pub const TABLES: &str = "CREATE TABLE test.registers (id INT PRIMARY KEY, value INT); \
    CREATE TABLE test.counters (id INT PRIMARY KEY, value INT); \
    CREATE TABLE test.lists (id INT PRIMARY KEY, value LONGTEXT); \
    CREATE TABLE test.accounts (id INT, account INT, value INT, PRIMARY KEY (id, account));";

impl Tables {
    fn exchange(&mut self, line: &str) -> io::Result<String> {
        writeln!(self.requests, "{line}")?;
        let mut answer = String::new();
        match self.answers.read_line(&mut answer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.trim_end().to_owned()),
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Store for Tables {
    fn new(place: &Place, number: usize) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/objects.py");
        let mut command = python::with("pymysql");
        command.arg(script).args([ACCOUNTS.to_string(), BALANCE.to_string()]);
        command.args([place.connect, place.answer].map(|limit| limit.as_secs().max(1).to_string()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run python3");
        let requests = child.stdin.take().expect("it was piped");
        let answers = BufReader::new(child.stdout.take().expect("it was piped"));
        Self { addresses: Addresses::of(place, number), child, requests, answers }
    }

    fn connect(&mut self) -> io::Result<()> {
        let address = self.addresses.take();
        match self.exchange(&format!("connect {} {}", address.ip(), address.port()))?.as_str() {
            "connected" => {
                self.addresses.found();
                Ok(())
            }
            other => Err(io::Error::other(other.to_owned())),
        }
    }

    fn ask(&mut self, key: u32, request: &Request) -> io::Result<Option<Answer>> {
        let words = match request {
            Request::Write(value) => format!("write {key} {value}"),
            Request::Swap(value) => format!("swap {key} {value}"),
            Request::Exchange(old, new) => format!("exchange {key} {old} {new}"),
            Request::Read => format!("read {key}"),
            Request::Add(amount) => format!("add {key} {amount}"),
            Request::Count => format!("count {key}"),
            Request::Append(value) => format!("append {key} {value}"),
            Request::List => format!("list {key}"),
            Request::Transfer { from, to, amount } => format!("transfer {key} {from} {to} {amount}"),
            Request::Audit => format!("audit {key}"),
        };
        let line = self.exchange(&words)?;
        let (kind, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let wrong = || io::Error::other(format!("{words}: {line}"));
        let number = || rest.parse::<i64>().map_err(|_| wrong());
        Ok(Some(match kind {
            // Rolled back: a deadlock, or a wait for a lock that was too long.
            "not" => return Ok(None),
            "done" => Answer::Done,
            "value" => Answer::Value(rest.parse().ok()),
            "decided" => Answer::Decided(number()? == 1),
            "number" => Answer::Number(number()?),
            "values" => Answer::Values(rest.split(',').filter_map(|value| value.parse().ok()).collect()),
            "balances" => Answer::Balances(rest.split(',').filter_map(|value| value.parse().ok()).collect()),
            "lost" => return Err(wrong()),
            _ => panic!("{words}: {line}"),
        }))
    }
}
