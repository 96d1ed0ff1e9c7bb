//! Processes that die: of a fault of their own, which is the same event on all replicas, and by other hands, in one replica only,
//! which is a divergence.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::control_group::ControlGroup;
use brolga_tests::http::Http;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::{ledger, process, serial};

const WORKERS: usize = 3;

fn start(label: &str) -> Cluster {
    let script = ledger::sources().join("prefork.py");
    let command = ["python3", script.to_str().expect("a plain path"), "80"];
    let mut cluster = Plan::new(&command).port(80).start(label);
    cluster.await_complete();
    serve(&cluster);
    cluster
}

fn serve(cluster: &Cluster) {
    until("the server answers", PATIENCE, || Http::connect(cluster.port()).ok()?.get("/").ok());
}

fn output(cluster: &Cluster, replica: u8) -> String {
    let file = cluster.state().join(format!("replica-{replica}/output/stdout"));
    fs::read_to_string(file).unwrap_or_default()
}

fn log(cluster: &Cluster, replica: u8) -> String {
    let file: PathBuf = cluster.state().join(format!("replica-{replica}/coordinator.log"));
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn a_crash_is_the_same_event_everywhere() {
    let _turn = serial::turn();
    let mut cluster = start("crash");
    for (path, signal) in [("/crash", libc::SIGSEGV), ("/divide", libc::SIGFPE)] {
        let answer = Http::connect(cluster.port()).and_then(|mut http| http.get(path));
        assert!(answer.is_err(), "the worker that crashed answered");
        serve(&cluster);
        let said = format!("ended by signal {signal}\n");
        until("all masters have heard of the worker's death", PATIENCE, || {
            (1..=3).all(|id| output(&cluster, id).ends_with(&said)).then_some(())
        });
    }
    assert_eq!(output(&cluster, 1), output(&cluster, 2));
    assert_eq!(output(&cluster, 1), output(&cluster, 3));
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "{}", status.raw);
    // And the end of the whole server is the end of the cluster.
    let _ = Http::connect(cluster.port()).and_then(|mut http| http.get("/end"));
    let ended = cluster.await_end();
    assert_eq!(ended.code(), Some(128 + libc::SIGSEGV), "{}", cluster.printed());
    assert!(cluster.printed().contains("SIGSEGV"), "{}", cluster.printed());
    cluster.assert_nothing_left();
}

/// The processes of a replica's server: the master, then its workers.
fn server(cluster: &mut Cluster, replica: u8) -> Vec<i32> {
    cluster.await_status("the replica's server runs", |status| {
        let init = status.replica(replica)?.container_pid;
        let pids: Vec<i32> = process::tree(init).iter().map(|p| p.pid).filter(|&pid| pid != init).collect();
        (init > 1 && pids.len() == 1 + WORKERS).then_some(pids)
    })
}

#[test]
fn a_process_killed_in_one_replica_only_is_a_divergence() {
    let _turn = serial::turn();
    let mut cluster = start("killed");
    let victims = [
        (false, 1, libc::SIGKILL),
        (false, 0, libc::SIGSEGV),
        (true, 2, libc::SIGSEGV),
        (true, 0, libc::SIGKILL),
    ];
    for (leads, which, signal) in victims {
        let replica = if leads { cluster.leader() } else { cluster.follower() };
        let victim = server(&mut cluster, replica)[which];
        let before = log(&cluster, replica).len();
        process::signal(victim, signal);
        until("the divergence is reported", PATIENCE, || {
            let log = log(&cluster, replica);
            let line = log[before..].lines().find(|line| line.contains("DIVERGED"))?.to_owned();
            assert!(line.contains("log knows nothing") || line.contains("killed from outside"), "{line}");
            println!("{line}");
            Some(())
        });
        serve(&cluster);
        cluster.await_complete();
        server(&mut cluster, replica);
        let status = cluster.await_level();
        assert!(status.replica(replica).expect("the replica").rebuilds > 0, "{}", status.raw);
    }
    assert_eq!(output(&cluster, 1), output(&cluster, 2), "no master has heard of a death");
    cluster.stop();
}

/// A server that starts a thread or a process for each client, whatever that asks for, and says so.
const STARTER: &str = "
import os, socket, threading
server = socket.create_server(('', 7000))
while True:
    client, _ = server.accept()
    wanted = client.recv(1)
    try:
        if wanted == b't':
            thread = threading.Thread(target=client.sendall, args=(b'thread',))
            thread.start()
            thread.join()
        elif wanted == b'p':
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            client.sendall(b'process')
    except (RuntimeError, OSError) as error:
        client.sendall(str(error).encode())
    client.close()
";

#[test]
fn a_server_does_not_hear_that_its_machine_has_no_process_more_and_its_replica_says_so() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&["python3", "-c", STARTER]).port(7000).start("starter");
    cluster.await_complete();
    let ask = |cluster: &Cluster, wanted: &str| {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.port())).ok()?;
        client.write_all(&wanted.as_bytes()[..1]).ok()?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).ok().filter(|_| !answer.is_empty()).map(|_| answer)
    };
    for leads in [true, false] {
        let replica = if leads { cluster.leader() } else { cluster.follower() };
        let (group, before) = (ControlGroup::new("process"), log(&cluster, replica).len());
        let init = cluster.await_status("the replica runs", |status| {
            Some(status.replica(replica)?.container_pid).filter(|init| *init > 1)
        });
        process::tree(init).iter().filter(|found| found.pid != init).for_each(|found| group.take(found.pid));
        group.close();
        // A thread is none of the kernel's.
        assert_eq!(ask(&cluster, "thread").as_deref(), Some("thread"));
        cluster.await_level();
        assert!(!log(&cluster, replica)[before..].contains("gives this replica no"));
        let answer = until("the others' server answers", PATIENCE, || ask(&cluster, "process"));
        assert_eq!(answer, "process");
        until("the replica says what it lacks", PATIENCE, || {
            log(&cluster, replica)[before..].contains("gives this replica no process more").then_some(())
        });
        cluster.await_complete();
        cluster.await_level();
    }
    let fenced = cluster.logged("DIVERGED");
    assert!(fenced.iter().all(|line| line.contains("gives this replica no")), "{}", fenced.join("\n"));
    cluster.stop();
    cluster.assert_nothing_left();
}
