//! A server that is measured: how it is started, when it is ready, and its loads.

use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use brolga_tests::ledger::Server as Kind;

use crate::load::Load;
use crate::servers::{
    apache, clamd, gerbera, ledger::Ledger, mariadb, memcached, memcached_udp, nginx, postgres, redis,
};

/// How clients reach a server in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// By a free port of the host's.
    Tcp,
    /// By a free UDP port of the host's.
    Udp,
    /// It listens at an address of the host's, and is found there.
    AsItIs,
}

/// See the module. Each of the servers is what Debian ships.
pub trait Server: Debug {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Where it listens in a container.
    fn usual_port(&self) -> u16;

    /// How clients of a container reach that port.
    fn reached(&self) -> Reached {
        Reached::Tcp
    }

    /// Its command line; also writes what it needs into its directory.
    fn command(&self, data: &Path, port: u16) -> Vec<String>;

    /// True when a client gets an answer.
    fn answers(&self, port: u16) -> bool;

    /// Fills the running server with what its loads need.
    fn fill(&self, _port: u16) {}

    /// Its loads, each of about this length.
    fn loads(&self, time: Duration) -> Vec<Load>;
}

/// All of them.
pub const ALL: [&dyn Server; 16] = [
    &redis::Redis,
    &memcached::Memcached,
    &memcached_udp::MemcachedUdp,
    &nginx::Nginx { workers: 1 },
    &nginx::Nginx { workers: 2 },
    &apache::Apache,
    &clamd::Clamd,
    &mariadb::MariaDb,
    &postgres::Postgres,
    &gerbera::Gerbera,
    &Ledger(Kind::Python),
    &Ledger(Kind::Civetweb),
    &Ledger(Kind::Microhttpd),
    &Ledger(Kind::Tokio),
    &Ledger(Kind::Java),
    &Ledger(Kind::Go),
];

/// Writes a file that a server needs.
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Runs a program to its end and returns what it printed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
