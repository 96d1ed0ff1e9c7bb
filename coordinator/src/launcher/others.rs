//! Replicas on other machines, as this machine's replica hears of them.

use std::time::{Duration, Instant};

use super::control::{MemberStatus, ProcessState};
use super::replica_process::Rate;
use crate::replica::status::ReplicaStatus;

/// A replica that has said nothing for so long cannot be reached; it says something every second.
const SILENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Other {
    id: u8,
    status: Option<ReplicaStatus>,
    heard: Instant,
    rate: Rate,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Others {
    others: Vec<Other>,
}

impl Others {
    /// Those with these ids.
    pub fn new(ids: impl Iterator<Item = u8>) -> Self {
        let heard = Instant::now();
        let other = |id| Other { id, status: None, heard, rate: Rate::default() };
        Self { others: ids.map(other).collect() }
    }

    /// One more.
    pub fn add(&mut self, id: u8) {
        if !self.has(id) {
            self.others.push(Other { id, status: None, heard: Instant::now(), rate: Rate::default() });
        }
    }

    /// One is no member any more.
    pub fn remove(&mut self, id: u8) {
        self.others.retain(|other| other.id != id);
    }

    /// True if this replica is on another machine.
    pub fn has(&self, id: u8) -> bool {
        self.others.iter().any(|other| other.id == id)
    }

    /// Takes in what one of them said.
    pub fn note(&mut self, status: ReplicaStatus) {
        if let Some(other) = self.others.iter_mut().find(|other| other.id == status.id) {
            other.heard = Instant::now();
            other.rate.note(status.entries, other.heard);
            other.status = Some(status);
        }
    }

    /// False for a replica on another machine that cannot be reached.
    pub fn may_lead(&self, id: u8) -> bool {
        !self.has(id) || self.reachable().any(|other| other.id == id)
    }

    fn reachable(&self) -> impl Iterator<Item = &Other> {
        self.others.iter().filter(|other| other.status.is_some() && other.heard.elapsed() < SILENCE)
    }

    /// For `brolga status`.
    pub fn members(&self) -> impl Iterator<Item = MemberStatus> {
        self.others.iter().map(|other| {
            let reachable = self.reachable().any(|reachable| reachable.id == other.id);
            MemberStatus {
                id: other.id,
                process: if reachable { ProcessState::Elsewhere } else { ProcessState::Unreachable },
                restarts: 0,
                entries_per_second: if reachable { other.rate.per_second } else { 0 },
                status: other.status.clone().filter(|_| reachable),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Others;
    use crate::launcher::control::ProcessState;
    use crate::replica::status::{ReplicaStatus, Role};

    #[test]
    fn shows_those_that_were_heard() {
        let mut others = Others::new([1, 3].into_iter());
        assert!(others.has(3) && !others.has(2) && !others.may_lead(3) && others.may_lead(2));
        others.note(ReplicaStatus { id: 3, role: Role::Leader, ..ReplicaStatus::default() });
        others.note(ReplicaStatus { id: 2, ..ReplicaStatus::default() });
        assert!(others.may_lead(3) && !others.may_lead(1));
        let states: Vec<_> = others.members().map(|member| (member.id, member.process)).collect();
        assert_eq!(states, [(1, ProcessState::Unreachable), (3, ProcessState::Elsewhere)]);
    }
}
