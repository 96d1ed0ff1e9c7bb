//! Signals for the server, and files that are replaced before them, that are not decided yet, and who waits for that.
//!
//! One thing is asked after the other: a signal only when the files are decided that come with it.
//!
//! A signal goes to the replica that leads, and again with each of its words until one of the replicas reports that it is
//! decided: it may have been lost with a leader, or have found no room. Its id makes it take effect once all the same.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use super::control::{Reply, answer};
use crate::channel::Channel;
use crate::replica::config::{NewFile, ToReplica};

/// Signals that may wait at the same time. The server remembers more ids than this.
const MAX_WAITING: usize = 64;
const _: () = assert!(MAX_WAITING < dmt::bounds::RECENT_OUTSIDE_SIGNALS);

#[derive(Debug)]
struct Waiting {
    /// What is not decided yet, with its id. The first is under way.
    steps: VecDeque<(u64, Step)>,
    /// Who asked.
    client: Channel,
}

#[derive(Debug)]
enum Step {
    Replace(NewFile),
    Signal(i32),
}

impl Step {
    fn message(&self, id: u64) -> ToReplica {
        match self {
            Self::Replace(file) => ToReplica::Replace { id, file: file.clone() },
            Self::Signal(signal) => ToReplica::Signal { id, signal: *signal },
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Signals {
    waiting: Vec<Waiting>,
    last_id: u64,
}

impl Signals {
    /// Takes a signal with the files before it, and sends the first of all to the leader if there is one.
    pub fn add(&mut self, signal: i32, files: &[NewFile], client: Channel, leader: Option<&Channel>) {
        if self.waiting.len() == MAX_WAITING {
            let refusal = format!(
                "{MAX_WAITING} signals wait for a leader already; `brolga status` shows what is wrong"
            );
            answer(&client, &Reply::Refused(refusal));
            return;
        }
        let steps = files.iter().cloned().map(Step::Replace).chain([Step::Signal(signal)]);
        let steps = steps.map(|step| (self.new_id(), step)).collect();
        self.waiting.push(Waiting { steps, client });
        self.send(leader);
    }

    /// A number that no other signal of the log has: the time, because supervisors of before, and of other machines, have made
    /// some, too.
    fn new_id(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.last_id = now.max(self.last_id + 1);
        self.last_id
    }

    /// Sends what is next of all that wait to the leader.
    pub fn send(&self, leader: Option<&Channel>) {
        for (id, step) in self.waiting.iter().filter_map(|waiting| waiting.steps.front()) {
            // One that is gone is noticed by the end of its channel.
            let _ = leader.map(|channel| channel.send(&step.message(*id)));
        }
    }

    /// A signal or file is decided; true if something else comes after it.
    pub fn decided(&mut self, id: u64) -> bool {
        let is_next = |waiting: &Waiting| waiting.steps.front().is_some_and(|step| step.0 == id);
        let Some(index) = self.waiting.iter().position(is_next) else { return false };
        self.waiting[index].steps.pop_front();
        if self.waiting[index].steps.is_empty() {
            answer(&self.waiting.remove(index).client, &Reply::Done);
            return false;
        }
        true
    }

    /// The server ended, perhaps by one of them.
    pub fn server_ended(&mut self) {
        for waiting in self.waiting.drain(..) {
            answer(&waiting.client, &Reply::Done);
        }
    }
}
