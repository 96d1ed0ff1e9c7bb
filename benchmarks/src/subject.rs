//! What is compared: the server alone, or under brolga with some number of replicas.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use brolga_tests::cluster::{Cluster, Plan, free_port};
use brolga_tests::process::{self, Process};
use brolga_tests::scratch::Scratch;
use brolga_tests::wait::{PATIENCE, until};

use crate::server::{Reached, Server};

/// A way to run a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its column in the tables.
    pub name: &'static str,
    /// Replicas; none is the server alone.
    pub replicas: u8,
    options: &'static [&'static str],
}

impl Subject {
    /// The server alone.
    pub const NATIVE: Self = Self { name: "native", replicas: 0, options: &[] };
    /// One replica: what determinism costs.
    pub const ONE: Self = Self { name: "brolga -n 1", replicas: 1, options: &[] };
    /// Three replicas, all on this machine.
    pub const THREE: Self = Self { name: "brolga -n 3", replicas: 3, options: &[] };
    /// Three replicas with the protocol that orders first and executes after.
    pub const CRANE: Self =
        Self { name: "brolga -n 3, crane", replicas: 3, options: &["--admission", "crane"] };
    /// Three replicas that wait for the disk.
    pub const DISK: Self =
        Self { name: "brolga -n 3, disk", replicas: 3, options: &["--durability", "disk"] };
}

/// A server that runs.
#[derive(Debug)]
pub enum Running {
    /// Alone.
    Native {
        /// The server's first process.
        child: Child,
        /// Where it listens.
        port: u16,
        /// Its directory.
        _scratch: Scratch,
    },
    /// Under brolga.
    Brolga {
        /// The replicas.
        cluster: Box<Cluster>,
        /// Where clients connect.
        port: u16,
    },
}

/// Counters of a running subject; two of them can be subtracted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// CPU time of all processes.
    pub cpu: Duration,
    /// Memory of the servers' own processes, bytes, all replicas together; shared pages count once.
    pub server_memory: u64,
    /// Resident memory of the largest coordinator, bytes, with its mapped log and arena.
    pub coordinator_memory: u64,
    /// Log entries.
    pub entries: u64,
    /// Of these without events.
    pub bubbles: u64,
    /// Bytes that replicas sent each other.
    pub wire: u64,
}

impl Running {
    /// Starts the server and waits until it answers.
    pub fn start(server: &dyn Server, subject: Subject) -> Self {
        let scratch = Scratch::new("bench");
        let data: PathBuf = scratch.path().join("data");
        std::fs::create_dir_all(&data).expect("make the server's directory");
        let port = if subject.replicas == 0 { free_port() } else { server.usual_port() };
        let command = server.command(&data, port);
        let running = if subject.replicas == 0 {
            let mut start = Command::new(&command[0]);
            start.args(&command[1..]).current_dir(&data).stdin(Stdio::null()).stdout(Stdio::null());
            let child =
                start.stderr(Stdio::null()).spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
            Self::Native { child, port, _scratch: scratch }
        } else {
            Self::under_brolga(server, subject, &command, scratch)
        };
        let port = running.port();
        until("the server answers", PATIENCE, || server.answers(port).then_some(()));
        server.fill(port);
        running
    }

    fn under_brolga(server: &dyn Server, subject: Subject, command: &[String], scratch: Scratch) -> Self {
        let (inner, outer) = (server.usual_port(), free_udp_port());
        let plan = Plan::new(command).replicas(subject.replicas).options(subject.options);
        let plan = match server.reached() {
            Reached::Tcp => plan.port(inner),
            Reached::Udp => plan.options(&["--publish", &format!("127.0.0.1:{outer}:{inner}/udp")]),
            Reached::AsItIs => plan,
        };
        let mut cluster = plan.start_in(scratch);
        cluster.await_complete();
        let port = match server.reached() {
            Reached::Tcp => cluster.port(),
            Reached::Udp => outer,
            Reached::AsItIs => inner,
        };
        Self::Brolga { cluster: Box::new(cluster), port }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        match self {
            Self::Native { port, .. } | Self::Brolga { port, .. } => *port,
        }
    }

    /// The counters now.
    pub fn counters(&mut self) -> Counters {
        match self {
            Self::Native { child, .. } => {
                let all = process::tree(i32::try_from(child.id()).expect("a process id"));
                Counters {
                    cpu: all.iter().map(|process| process.cpu).sum(),
                    server_memory: proportional(all.iter()),
                    ..Counters::default()
                }
            }
            Self::Brolga { cluster, .. } => of_cluster(cluster),
        }
    }

    /// Stops it and cleans up.
    pub fn stop(self) {
        match self {
            Self::Native { mut child, .. } => {
                process::signal(i32::try_from(child.id()).expect("a process id"), 15);
                child.wait().expect("wait for the server");
            }
            Self::Brolga { mut cluster, .. } => cluster.stop(),
        }
    }
}

/// A UDP port that was free just now.
fn free_udp_port() -> u16 {
    let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free port");
    probe.local_addr().expect("a bound socket has an address").port()
}

fn of_cluster(cluster: &mut Cluster) -> Counters {
    let status = cluster.await_status("a replica leads", |status| status.leader().map(|_| status.clone()));
    let all = process::tree(cluster.pid());
    let coordinators = status.replicas.iter().filter_map(|replica| process::look(replica.pid));
    // What is in a container and not its init. The supervisor and the starters of containers are neither.
    let contained = status.replicas.iter().filter(|replica| replica.container_pid > 1);
    let server_memory = contained.map(|replica| {
        let container = process::tree(replica.container_pid);
        proportional(container.iter().filter(|process| process.pid != replica.container_pid))
    });
    let leader = status.leader().expect("a leader, as awaited");
    Counters {
        cpu: all.iter().map(|process| process.cpu).sum(),
        server_memory: server_memory.sum(),
        coordinator_memory: coordinators.map(|process| process.resident).max().unwrap_or(0),
        entries: leader.entries,
        bubbles: leader.bubbles,
        wire: status.replicas.iter().map(|replica| replica.peer_bytes_out).sum(),
    }
}

fn proportional<'a>(processes: impl Iterator<Item = &'a Process>) -> u64 {
    processes.filter_map(|process| process::proportional(process.pid)).sum()
}
