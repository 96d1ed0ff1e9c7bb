//! Go's `net/http`: goroutines on stacks of their own, and system calls that only the filter sees. Builds without libc are refused.

use std::process::Command;

use brolga_tests::cluster;
use brolga_tests::ledger::{self, Server};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;

#[test]
fn an_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    ledger::run("go", &[], |scratch| Server::Go.command(scratch));
}

#[test]
fn a_build_without_libc_is_refused() {
    let _turn = serial::turn();
    let scratch = Scratch::new("go-static");
    let source = scratch.path().join("main.go");
    std::fs::write(&source, "package main\nfunc main() { select {} }\n").expect("write a program");
    let binary = scratch.path().join("static");
    ledger::compile_go(&source, &binary, false);
    let mut run = Command::new(cluster::brolga());
    run.args(["run", "-n", "1", "--name", scratch.name(), "--state"]).arg(scratch.path().join("state"));
    let output = run.arg("--").arg(&binary).output().expect("run brolga");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was started");
    assert!(error.contains("statically linked") && error.contains("CGO_ENABLED=1"), "{error}");
}
