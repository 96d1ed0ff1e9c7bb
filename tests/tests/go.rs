//! Go's `net/http`: goroutines on stacks of their own, and system calls that only the filter sees. Builds without libc are refused.

use std::path::Path;
use std::process::Command;

use brolga_tests::cluster;
use brolga_tests::scratch::Scratch;
use brolga_tests::{ledger, serial};

/// Builds a program; `with_libc` is what `go build` does by itself where a C compiler is there.
fn build(source: &Path, binary: &Path, with_libc: bool) -> String {
    let mut go = Command::new("go");
    go.arg("build").arg("-o").arg(binary).arg(source).env("GO111MODULE", "off");
    go.env("CGO_ENABLED", if with_libc { "1" } else { "0" });
    // The compiler's cache outlives the test, for it takes long to fill.
    ledger::compile(go.env("GOCACHE", std::env::temp_dir().join("brolga-go-cache")));
    binary.to_str().expect("a plain path").to_owned()
}

#[test]
fn an_http_server_goes_on_while_replicas_die() {
    let _turn = serial::turn();
    let source = ledger::sources().join("ledger.go");
    ledger::run("go", &[], |scratch| vec![build(&source, &scratch.join("ledger"), true), "PORT".to_owned()]);
}

#[test]
fn a_build_without_libc_is_refused() {
    let _turn = serial::turn();
    let scratch = Scratch::new("go-static");
    let source = scratch.path().join("main.go");
    std::fs::write(&source, "package main\nfunc main() { select {} }\n").expect("write a program");
    let binary = build(&source, &scratch.path().join("static"), false);
    let mut run = Command::new(cluster::brolga());
    run.args(["run", "-n", "1", "--name", scratch.name(), "--state"]).arg(scratch.path().join("state"));
    let output = run.args(["--", &binary]).output().expect("run brolga");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it was started");
    assert!(error.contains("statically linked") && error.contains("CGO_ENABLED=1"), "{error}");
}
