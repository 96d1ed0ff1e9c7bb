//! Python's `ThreadingHTTPServer`: a thread for each connection, the interpreter's lock, `http.client` and others as clients.

use brolga_tests::{ledger, serial};

#[test]
fn a_threading_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    let script = ledger::sources().join("ledger.py");
    ledger::run("python", &[], |_| {
        ["python3", script.to_str().expect("a plain path"), "PORT"].map(str::to_owned).into()
    });
}
