//! Programs with a web server built in, in the manner of Mongoose: one around civetweb, one around libmicrohttpd.

use brolga_tests::ledger::{self, Server};
use brolga_tests::serial;

fn run(server: Server) {
    let _turn = serial::turn();
    ledger::run(server.name(), &[], |scratch| server.command(scratch));
}

#[test]
fn civetweb_goes_on_while_replicas_die() {
    run(Server::Civetweb);
}

#[test]
fn libmicrohttpd_goes_on_while_replicas_die() {
    run(Server::Microhttpd);
}
