//! A Rust server on tokio: four workers that steal from each other, timers, and the pool for blocking calls.

use brolga_tests::ledger::{self, Server};
use brolga_tests::serial;

#[test]
fn a_tokio_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("tokio", &[], |scratch| Server::Tokio.command(scratch));
}
