//! Java's `com.sun.net.httpserver` on HotSpot, with a pool of threads and the serial collector.

use std::process::Command;

use brolga_tests::{ledger, serial};

/// A method that is compiled, or a collection, computes for longer than a server's thread usually may; a preemption in the middle
/// of compiled code is not the same instruction everywhere.
const SPIN_LIMIT_US: &str = "2000000";

#[test]
fn an_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("java", &["--spin-limit", SPIN_LIMIT_US], |scratch| {
        let classes = scratch.join("classes");
        ledger::compile(
            Command::new("javac").arg("-d").arg(&classes).arg(ledger::sources().join("Ledger.java")),
        );
        let classes = classes.to_str().expect("a plain path");
        let command = ["java", "-XX:+UseSerialGC", "-Xmx64m", "-cp", classes, "Ledger", "PORT"];
        command.map(str::to_owned).into()
    });
}
