//! What an entry costs in the steady state of three replicas, without sockets and disks: `cargo bench -p coordinator`.
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::sync::Arc;
use std::time::Instant;

use coordinator::paxos::{Config, Input, Output, Paxos, Recovered, ReplicaId, wire};

const ENTRIES: u64 = 400_000;

/// The three replicas, and the scratch space of their messages.
struct Cluster {
    replicas: Vec<Paxos>,
    frame: Vec<u8>,
    /// Messages pass through their wire format.
    wire_too: bool,
}

impl Cluster {
    fn new(wire_too: bool) -> Self {
        let config = |id| Config::new(id, vec![1, 2, 3], u64::from(id));
        let replicas = (1..=3).map(|id| Paxos::new(config(id), Recovered::default(), 0)).collect();
        Self { replicas, frame: Vec::new(), wire_too }
    }

    /// Gives `out` of a replica to the log, which is quick, and to its peers, and so on until all is quiet.
    fn exchange(&mut self, at: usize, out: &mut Vec<Output>) {
        let persisted = out.iter().filter_map(|output| match output {
            Output::Persist { sequence, .. } => Some(*sequence),
            _ => None,
        });
        if let Some(last) = persisted.max() {
            self.replicas[at].step(0, Input::Persisted(last), out);
        }
        let from = ReplicaId::try_from(at + 1).expect("a small number");
        for output in std::mem::take(out) {
            let Output::Send { to, mut message } = output else { continue };
            if self.wire_too {
                self.frame.clear();
                wire::encode(&message, &mut self.frame).expect("a Vec takes all");
                message = wire::decode(&self.frame).expect("it was just encoded");
            }
            let peer = usize::from(to) - 1;
            let mut answers = Vec::new();
            self.replicas[peer].step(0, Input::Message { from, message }, &mut answers);
            self.exchange(peer, &mut answers);
        }
    }
}

fn main() {
    for (batch, wire_too) in [(1, false), (1, true), (16, false), (16, true)] {
        let mut cluster = Cluster::new(wire_too);
        let mut out = Vec::new();
        for id in [2, 3] {
            cluster.replicas[0].step(0, Input::PeerConnected(id), &mut out);
        }
        let now = cluster.replicas[0].deadline();
        cluster.replicas[0].step(now, Input::Tick, &mut out);
        cluster.exchange(0, &mut out);
        assert!(cluster.replicas[0].is_leader());
        let value: Arc<[u8]> = Arc::from([7; 100]);
        let start = Instant::now();
        for index in 0..ENTRIES {
            cluster.replicas[0].propose(index, value.clone()).expect("it leads");
            if index % batch == batch - 1 {
                cluster.replicas[0].flush(0, &mut out);
                cluster.exchange(0, &mut out);
            }
        }
        assert_eq!(cluster.replicas[0].commit(), ENTRIES);
        let each = start.elapsed().as_nanos() as f64 / ENTRIES as f64;
        println!(
            "batches of {batch:2}, wire format {wire_too:5}: {each:5.0} ns an entry, all three replicas together"
        );
    }
}
