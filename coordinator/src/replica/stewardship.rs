//! Members of the cluster, as a replica's loop has to do with them: changes that are asked for become events, what was begun goes
//! on step by step, and whoever is no member any more is told so and ends.

use super::config::FromReplica;
use super::error::ReplicaError;
use super::frames::Control;
use super::membership::members_event;
use super::run::Replica;
use crate::paxos::{Change, ChangeError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stewardship {
    /// Epoch of the last decided configuration that was looked at.
    seen: u64,
    /// Leadership and epoch of the change that was made an event last: until that is an entry, none follows.
    made: (u64, u64),
    /// A member said that this replica is none since this epoch.
    told: Option<u64>,
}

impl Stewardship {
    /// See `told`.
    pub fn told_removed(&mut self, epoch: u64) {
        self.told = Some(epoch);
    }
}

impl Replica {
    /// The supervisor wants another configuration.
    pub(super) fn asked_to_change(&mut self, id: u64, change: Change) {
        if let Some(leader) = self.driver.other_leader().filter(|_| self.apart) {
            return self.peers.send_control(leader, &Control::Change { id, change });
        }
        let answer = self.change_members(&change);
        let _ = self.supervisor.send(&FromReplica::Changed { id, answer });
    }

    /// Makes an event of a change, if this replica leads and it may be made; returns the epoch that it leads to.
    pub(super) fn change_members(&mut self, change: &Change) -> Result<u64, ChangeError> {
        if !self.driver.serves() {
            return Err(ChangeError::NotLeader);
        }
        let paxos = self.driver.consensus.paxos();
        let next = paxos.prepare_change(change)?;
        let made = (paxos.ballot().0, next.epoch);
        if self.stewardship.made == made {
            return Err(ChangeError::Busy(next.epoch));
        }
        let (header, payload) = members_event(&next);
        let taken = self.intake().is_some_and(|(intake, ..)| intake.put(&header, &payload));
        if !taken {
            return Err(ChangeError::NewLeader);
        }
        self.stewardship.made = made;
        tracing::info!("the members change to epoch {}: {change:?}", next.epoch);
        Ok(next.epoch)
    }

    /// Goes on with what was asked for, and takes notice of what was decided.
    pub(super) fn tend_members(&mut self) -> Result<(), ReplicaError> {
        if self.driver.serves()
            && let Some(change) = self.driver.consensus.paxos().next_change()
        {
            // What cannot be made now is tried again with the next turn.
            let _ = self.change_members(&change);
        }
        let members = self.driver.consensus.paxos().decided_members().clone();
        let id = self.status.id;
        if members.epoch > self.stewardship.seen {
            self.stewardship.seen = members.epoch;
            let ids: Vec<u8> = members.list.iter().map(|member| member.id).collect();
            let learners = ids.iter().filter(|id| !members.is_voter(**id)).count();
            tracing::info!(
                "epoch {} of the members is decided: {ids:?}, {learners} of them learn",
                members.epoch
            );
            let place = ids.iter().position(|member| *member == id).map_or(0, |at| at as u8 + 1);
            self.checkpointing.schedule.renew(place, ids.len() as u8);
            for peer in self.peers.connected() {
                self.tell_if_removed(peer);
            }
            self.status_at = 0;
        }
        let removed = members.epoch > 0 && members.highest >= id && !members.has(id);
        let told = self.stewardship.told.filter(|epoch| *epoch > members.epoch);
        let Some(epoch) = told.or(removed.then_some(members.epoch)) else { return Ok(()) };
        let now = self.now();
        self.flush_peers(now)?;
        let _ = self.supervisor.send(&FromReplica::Removed(epoch));
        Err(ReplicaError::Removed { id, epoch })
    }

    /// A replica that is no member any more hears it from every member that it meets.
    pub(super) fn tell_if_removed(&mut self, peer: u8) {
        let paxos = self.driver.consensus.paxos();
        if paxos.is_removed(peer) {
            let epoch = paxos.decided_members().epoch;
            self.peers.send_control(peer, &Control::Removed(epoch));
            self.peers.forget(peer);
        }
    }
}
