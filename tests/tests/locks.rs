//! What a lock costs: as only one thread of a replica runs, one that nobody else wants is taken and given back without an
//! atomic instruction.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use object::{Object, ObjectSymbol};

use brolga_tests::cluster::Plan;
use brolga_tests::scratch::Scratch;
use brolga_tests::steps::Steps;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::{ledger, process, serial};

/// Pairs of lock and unlock that are looked at. Some end a bubble, which is told to the coordinator.
const PAIRS: usize = 100;
/// What the program prints before the first of them.
const BEGINS: &[u8] = b"begins\n";

/// Address of a symbol in a program that is not moved when it is loaded.
fn address(binary: &Path, symbol: &str) -> u64 {
    let bytes = std::fs::read(binary).expect("read the program");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let found = file.symbols().find(|s| s.name() == Ok(symbol));
    found.unwrap_or_else(|| panic!("no symbol {symbol} in {}", binary.display())).address()
}

/// The number of atomic instructions in each pair, in ascending order.
fn atomic_instructions(pid: i32, binary: &Path) -> Vec<usize> {
    let (first, last) = (address(binary, "pair_begins"), address(binary, "pair_ends"));
    let mut counts = Steps::of(pid).atomic_between(first, last, PAIRS);
    counts.sort_unstable();
    counts
}

/// Processes that stand still until this is dropped.
struct Still(Vec<i32>);

impl Still {
    fn stop(pids: Vec<i32>) -> Self {
        pids.iter().for_each(|&pid| process::signal(pid, libc::SIGSTOP));
        Self(pids)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.0.iter().for_each(|&pid| process::signal(pid, libc::SIGCONT));
    }
}

#[test]
fn an_uncontended_lock_and_unlock_have_no_atomic_instruction() {
    let _turn = serial::turn();
    let scratch = Scratch::new("pairs");
    let binary = scratch.path().join("pairs");
    ledger::compile_c("pairs.c", &binary, &["-no-pie"]);

    let mut native = Command::new(&binary);
    let mut native = native.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start the program");
    let mut said = native.stdout.take().expect("a pipe");
    said.read_exact(&mut [0; BEGINS.len()]).expect("the program begins");
    let natively = atomic_instructions(i32::try_from(native.id()).expect("a process id"), &binary);
    native.kill().expect("end the program");
    native.wait().expect("wait for the program");
    // One each in glibc's lock and unlock: the counter sees them.
    assert!(natively[0] >= 2, "natively {natively:?}");

    let command = [binary.to_str().expect("a plain path")];
    let mut cluster = Plan::new(&command).replicas(1).start_in(scratch);
    cluster.await_complete();
    let output = cluster.state().join("replica-1/output/stdout");
    until("the server begins", PATIENCE, || (std::fs::read(&output).ok()? == BEGINS).then_some(()));
    let processes = process::tree(cluster.pid());
    let server = processes.iter().find(|process| process.name == "pairs").expect("the server");
    // A server that goes step by step is slow, and the others would cut each bubble short.
    let others = processes.iter().map(|process| process.pid).filter(|&pid| pid != server.pid).collect();
    let still = Still::stop(others);
    let counts = atomic_instructions(server.pid, &binary);
    drop(still);
    assert_eq!(counts[0], 0, "each pair has atomic instructions, natively {natively:?}: {counts:?}");
    println!("{} of {PAIRS} pairs without", counts.iter().filter(|&&count| count == 0).count());
    cluster.stop();
}
