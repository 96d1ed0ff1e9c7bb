//! Java's `com.sun.net.httpserver` on HotSpot, with a pool of threads and the serial collector.

use brolga_tests::ledger::{self, Server};
use brolga_tests::serial;

#[test]
fn an_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("java", &[], |scratch| Server::Java.command(scratch));
}
