//! The servers that keep a ledger over HTTP, in Python, Java and others: answers that are made of clocks and random numbers.

use std::path::Path;
use std::time::Duration;

use brolga_tests::http::Http;
use brolga_tests::ledger::Server as Kind;

use crate::load::Load;
use crate::server::Server;
use crate::wrk;

/// Connections at once: as many as the civetweb program has threads.
const CONNECTIONS: u32 = 8;

/// See the module.
#[derive(Debug)]
pub struct Ledger(pub Kind);

impl Server for Ledger {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn usual_port(&self) -> u16 {
        8080
    }

    fn command(&self, data: &Path, port: u16) -> Vec<String> {
        let mut command = self.0.command(data);
        command.iter_mut().filter(|word| *word == "PORT").for_each(|word| *word = port.to_string());
        command
    }

    fn answers(&self, port: u16) -> bool {
        Http::connect(port).and_then(|mut http| http.get("/chance")).is_ok_and(|answer| answer.code == 200)
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        let name = format!("{} c={CONNECTIONS}", self.name());
        vec![Load::new(name, move |port| wrk::run_anew(port, "chance", CONNECTIONS, time))]
    }
}
