//! Programs with a web server built in, in the manner of Mongoose: one around civetweb, one around libmicrohttpd.

use brolga_tests::{ledger, serial};

fn run(name: &str, library: &str) {
    let _turn = serial::turn();
    ledger::run(name, &[], |scratch| {
        let binary = scratch.join(name);
        ledger::compile_c(&format!("{name}.c"), &binary, &[library]);
        vec![binary.to_str().expect("a plain path").to_owned(), "PORT".to_owned()]
    });
}

#[test]
fn civetweb_goes_on_while_replicas_die() {
    run("civetweb", "-lcivetweb");
}

#[test]
fn libmicrohttpd_goes_on_while_replicas_die() {
    run("microhttpd", "-lmicrohttpd");
}
