//! What an entry costs in the steady state, without sockets and disks: a measurement, run by hand with
//! `cargo test --release -p coordinator --lib speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

const ENTRIES: u64 = 400_000;

fn exchange(cluster: &mut [Paxos], at: usize, out: &mut Vec<Output>, wire_too: bool, frame: &mut Vec<u8>) {
    let from = at as ReplicaId + 1;
    let persisted = cluster[at].written;
    cluster[at].step(0, Input::Persisted(persisted), out);
    let mut sends = Vec::new();
    for output in out.drain(..) {
        if let Output::Send { to, message } = output {
            sends.push((to, message));
        }
    }
    for (to, mut message) in sends {
        if wire_too {
            frame.clear();
            wire::encode(&message, frame).expect("a Vec takes all");
            message = wire::decode(frame).expect("it was just encoded");
        }
        let peer = usize::from(to) - 1;
        let mut answers = Vec::new();
        cluster[peer].step(0, Input::Message { from, message }, &mut answers);
        exchange(cluster, peer, &mut answers, wire_too, frame);
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_the_steady_state() {
    for (batch, wire_too) in [(1, false), (1, true), (16, false), (16, true)] {
        let config = |id| Config::new(id, vec![1, 2, 3], u64::from(id));
        let mut cluster: Vec<_> = (1..=3).map(|id| Paxos::new(config(id), Recovered::default(), 0)).collect();
        let (mut out, mut frame) = (Vec::new(), Vec::new());
        for id in [2, 3] {
            cluster[0].step(0, Input::PeerConnected(id), &mut out);
        }
        let now = cluster[0].deadline();
        cluster[0].step(now, Input::Tick, &mut out);
        exchange(&mut cluster, 0, &mut out, wire_too, &mut frame);
        assert!(cluster[0].is_leader());
        let value: Arc<[u8]> = Arc::from([7; 100]);
        let start = Instant::now();
        for index in 0..ENTRIES {
            cluster[0].propose(index, value.clone()).expect("it leads");
            if index % batch == batch - 1 {
                cluster[0].flush(0, &mut out);
                exchange(&mut cluster, 0, &mut out, wire_too, &mut frame);
            }
        }
        assert_eq!(cluster[0].commit(), ENTRIES);
        let each = start.elapsed().as_nanos() as f64 / ENTRIES as f64;
        println!("batch {batch}, with wire {wire_too}: {each:.0} ns an entry, all three replicas together");
    }
}
