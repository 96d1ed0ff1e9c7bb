//! Java's `com.sun.net.httpserver` on HotSpot, with a pool of threads and the serial collector.

use std::process::Command;

use brolga_tests::{ledger, serial};

#[test]
fn an_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("java", &[], |scratch| {
        let classes = scratch.join("classes");
        ledger::compile(
            Command::new("javac").arg("-d").arg(&classes).arg(ledger::sources().join("Ledger.java")),
        );
        let classes = classes.to_str().expect("a plain path");
        // The JVM counts ticks of its clock in a shared file 20 times a second, for ever: followers, a moment behind, would
        // hardly ever have the same file as the leader.
        let no_counters = "-XX:+PerfDisableSharedMem";
        let command = ["java", "-XX:+UseSerialGC", "-Xmx64m", no_counters, "-cp", classes, "Ledger", "PORT"];
        command.map(str::to_owned).into()
    });
}
