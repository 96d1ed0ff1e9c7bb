//! A Rust server on tokio: four workers that steal from each other, timers, and the pool for blocking calls.

use brolga_tests::{ledger, serial};

#[test]
fn a_tokio_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("tokio", &[], |_| [env!("CARGO_BIN_EXE_tokio-ledger"), "PORT"].map(str::to_owned).into());
}
