//! Servers that use what Brolga refuses, or more than there is: an errno as Linux would give it, and one line in the replica's
//! log that names the call, the caller and what to do.

use std::fs;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::scratch::Scratch;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::{ledger, serial};

fn start(name: &str) -> Cluster {
    let scratch = Scratch::new(name);
    let binary = scratch.path().join(name);
    ledger::compile_c(&format!("{name}.c"), &binary, &[]);
    let command = [binary.to_str().expect("a plain path")];
    let mut cluster = Plan::new(&command).start_in(scratch);
    cluster.await_complete();
    cluster
}

fn read(cluster: &Cluster, replica: u8, file: &str) -> String {
    fs::read_to_string(cluster.state().join(format!("replica-{replica}/{file}"))).unwrap_or_default()
}

/// What all replicas printed, up to a last line that starts with `last`.
fn printed(cluster: &Cluster, last: &str) -> String {
    let all = until("all replicas have printed everything", PATIENCE, || {
        let all: Vec<_> = (1..=3).map(|id| read(cluster, id, "output/stdout")).collect();
        let complete = |text: &String| text.lines().last().is_some_and(|line| line.starts_with(last));
        all.iter().all(complete).then_some(all)
    });
    assert!(all.iter().all(|one| *one == all[0]), "replicas printed different things: {all:?}");
    all[0].clone()
}

#[test]
fn refused_calls_fail_as_on_linux_and_are_named_once() {
    let _turn = serial::turn();
    let mut cluster = start("refused");
    let expected = "io_uring_setup ENOSYS\nio_uring_setup ENOSYS\nio_uring_setup ENOSYS\nio_setup ENOSYS\nptrace EPERM\n\
        perf_event_open EPERM\nuserfaultfd EPERM\nbpf EPERM\nraw socket EPERM\npacket socket EPERM\n\
        vsock EAFNOSUPPORT\nipx EAFNOSUPPORT\nunshare EPERM\nnamespace EPERM\nnamespace EPERM\nnamespace EPERM\n\
        child with a descriptor EINVAL\ncachestat ENOSYS\nnetlink question works\nnetlink change EPERM\nend works\n";
    assert_eq!(printed(&cluster, "end"), expected);
    let lines: [&[&str]; 14] = [
        &[
            "io_uring_setup (425)",
            "ENOSYS",
            "refused (process 1000, thread 1000)",
            "/refused+0x",
            "configuration",
        ],
        &["io_setup (206)", "ENOSYS", "/refused+0x", "configuration"],
        &["ptrace (101)", "EPERM", "libc.so.6+0x", "brolga exec"],
        &[
            "perf_event_open (298)",
            "EPERM",
            "monitor (process 1000, thread 4194304)",
            "switch this monitoring off",
        ],
        &["userfaultfd (323)", "EPERM", "without userfaultfd"],
        &["bpf (321)", "EPERM", "switch this monitoring off"],
        &["a raw socket", "EPERM", "process 1000", "packets"],
        &["family 40", "EAFNOSUPPORT", "process 1000", "TCP"],
        &["family 4,", "EAFNOSUPPORT", "process 1000", "TCP"],
        &["unshare (272)", "EPERM", "process 1000", "sandbox"],
        &["namespaces of its own", "EPERM", "process 1000", "sandbox"],
        &["keyctl (250)", "ENOSYS", "process 1001", "keep them in files"],
        &["cachestat (451)", "ENOSYS", "process 1000"],
        &["change of the network by netlink", "EPERM", "process 1000", "outside"],
    ];
    for replica in 1..=3 {
        let log = until("the log has all lines", PATIENCE, || {
            let log = read(&cluster, replica, "coordinator.log");
            log.contains("netlink").then_some(log)
        });
        for parts in lines {
            let named = log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
            assert_eq!(named, 1, "replica {replica}: lines with {parts:?} in\n{log}");
        }
        assert_eq!(
            log.matches("refused ").count(),
            lines.len() + log.matches("by refused ").count(),
            "{log}"
        );
    }
    cluster.await_level();
    cluster.stop();
}

#[test]
fn bombs_of_threads_and_processes_meet_a_bound() {
    let _turn = serial::turn();
    let mut cluster = start("bombs");
    let threads = dmt::bounds::MAX_THREADS - 1;
    let processes = dmt::bounds::MAX_PROCESSES - 1;
    let expected = format!("threads {threads} EAGAIN\nprocesses {processes} EAGAIN\nafter 7\n");
    assert_eq!(printed(&cluster, "after"), expected);
    for replica in 1..=3 {
        let log = read(&cluster, replica, "coordinator.log");
        for things in [format!("{} threads", threads + 1), format!("{} processes", processes + 1)] {
            let named = log.lines().filter(|line| line.contains(&things) && line.contains("EAGAIN")).count();
            assert_eq!(named, 1, "replica {replica}: lines about {things} in\n{log}");
        }
    }
    cluster.await_level();
    cluster.stop();
}
