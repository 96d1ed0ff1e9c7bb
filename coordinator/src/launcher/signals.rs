//! Signals for the server that are not decided yet, and who waits for that.
//!
//! A signal goes to the replica that leads, and again with each of its words until one of the replicas reports that it is
//! decided: it may have been lost with a leader, or have found no room. Its id makes it take effect once all the same.

use std::time::{SystemTime, UNIX_EPOCH};

use super::control::{Reply, answer};
use crate::channel::Channel;
use crate::replica::config::ToReplica;

/// Signals that may wait at the same time. The server remembers more ids than this.
const MAX_WAITING: usize = 64;
const _: () = assert!(MAX_WAITING < dmt::bounds::RECENT_OUTSIDE_SIGNALS);

#[derive(Debug)]
struct Waiting {
    id: u64,
    signal: i32,
    /// Who asked.
    client: Channel,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Signals {
    waiting: Vec<Waiting>,
    last_id: u64,
}

impl Signals {
    /// Takes a signal, and sends it to the leader if there is one.
    pub fn add(&mut self, signal: i32, client: Channel, leader: Option<&Channel>) {
        if self.waiting.len() == MAX_WAITING {
            let refusal = format!(
                "{MAX_WAITING} signals wait for a leader already; `brolga status` shows what is wrong"
            );
            answer(&client, &Reply::Refused(refusal));
            return;
        }
        let id = self.new_id();
        self.waiting.push(Waiting { id, signal, client });
        self.send(leader);
    }

    /// A number that no other signal of the log has: the time, because supervisors of before, and of other machines, have made
    /// some, too.
    fn new_id(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.last_id = now.max(self.last_id + 1);
        self.last_id
    }

    /// Sends all that wait to the leader.
    pub fn send(&self, leader: Option<&Channel>) {
        for Waiting { id, signal, .. } in &self.waiting {
            // One that is gone is noticed by the end of its channel.
            let _ = leader.map(|channel| channel.send(&ToReplica::Signal { id: *id, signal: *signal }));
        }
    }

    /// A signal is decided.
    pub fn decided(&mut self, id: u64) {
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.id == id) {
            answer(&self.waiting.remove(index).client, &Reply::Done);
        }
    }

    /// The server ended, perhaps by one of them.
    pub fn server_ended(&mut self) {
        for waiting in self.waiting.drain(..) {
            answer(&waiting.client, &Reply::Done);
        }
    }
}
