//! Python's `ThreadingHTTPServer`: a thread for each connection, the interpreter's lock, `http.client` and others as clients.

use brolga_tests::ledger::{self, Server};
use brolga_tests::serial;

#[test]
fn a_threading_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("python", &[], |scratch| Server::Python.command(scratch));
}
