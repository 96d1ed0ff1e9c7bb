//! What a replica does with configurations: take them from the log, guard their changes, make the next one when it is time.
//!
//! A leader proposes a change only after an entry of its own ballot is decided *and* the change before is. Without the first, two
//! leaders could each make a change from the same configuration, unknown to each other, whose majorities have nobody in common
//! (the known fault of the first description of single-server changes in Raft).

use std::sync::Arc;

use super::Paxos;
use super::leader::{Flow, Peer};
use super::members::{Change, ChangeError, Members};
use super::types::{Entry, Nanos, Output, ReplicaId};

/// Entries that a learner may lack when it becomes a voter.
pub const CAUGHT_UP_ENTRIES: u64 = 256;

impl Paxos {
    /// The configuration that counts: the last one in the log.
    pub fn members(&self) -> &Arc<Members> {
        self.roster.latest()
    }

    /// The last configuration that is decided.
    pub fn decided_members(&self) -> &Arc<Members> {
        self.roster.at(self.commit)
    }

    /// The configuration that counts behind the entry at `index`.
    pub fn members_behind(&self, index: u64) -> Members {
        (**self.roster.at(index + 1)).clone()
    }

    /// Whether this replica counts for majorities.
    pub fn is_voter(&self) -> bool {
        self.roster.latest().is_voter(self.config.id)
    }

    /// Whether `id` is a member no more, for ever: ids are not given twice.
    pub fn is_removed(&self, id: ReplicaId) -> bool {
        id <= self.decided_members().highest && !self.roster.from(self.commit).any(|members| members.has(id))
    }

    /// The configuration after `change`, if this leader may propose it now.
    pub fn prepare_change(&self, change: &Change) -> Result<Members, ChangeError> {
        self.may_change()?;
        let next = self.members().after(change)?;
        if let Change::Remove(id) = *change {
            let votes = |peer: &Peer, id| peer.id == id && peer.connected && peer.votes;
            let own = self.config.id;
            let alive = |&id: &ReplicaId| id == own || self.peers.iter().any(|peer| votes(peer, id));
            let (live, voters) = (next.voters().filter(alive).count(), next.voters().count());
            let quorum = next.quorum();
            if live < quorum {
                return Err(ChangeError::Quorum { id, live, voters, quorum });
            }
        }
        Ok(next)
    }

    /// The step that continues what was asked for: a learner that has caught up gets its vote, and one that takes another's
    /// place has that one removed. While the other can be reached it goes last, so that no majority gets smaller before it must;
    /// if it cannot, it goes first, because its seat only makes majorities harder to reach.
    pub fn next_change(&self) -> Option<Change> {
        self.may_change().ok()?;
        let members = self.members();
        for learner in members.list.iter().filter(|member| !member.voter && self.is_caught_up(member.id)) {
            let old = learner.replaces;
            let gone = members.is_voter(old) && old != self.config.id && !self.connected(old);
            let change = if gone { Change::Remove(old) } else { Change::Promote(learner.id) };
            if self.prepare_change(&change).is_ok() {
                return Some(change);
            }
        }
        let replaced = members.list.iter().filter(|member| member.voter && member.replaces != 0);
        let mut changes = replaced.map(|member| Change::Remove(member.replaces));
        changes.find(|change| self.prepare_change(change).is_ok())
    }

    /// Leader: whether `id` is connected and has nearly all of the log.
    pub fn is_caught_up(&self, id: ReplicaId) -> bool {
        let has = |peer: &Peer| {
            peer.id == id
                && peer.connected
                && peer.votes
                && peer.flow == Flow::Stream
                && peer.matched + CAUGHT_UP_ENTRIES >= self.len()
        };
        self.is_leader() && self.peers.iter().any(has)
    }

    fn may_change(&self) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader);
        }
        #[cfg(test)]
        if self.reckless {
            return Ok(());
        }
        if self.roster.changes_from(self.commit) {
            return Err(ChangeError::Busy(self.members().epoch));
        }
        if !self.is_established() { Err(ChangeError::NewLeader) } else { Ok(()) }
    }

    /// Whether a value may be proposed as far as the members are concerned.
    pub(super) fn check_change(&self, value: &[u8]) -> Result<(), ChangeError> {
        match (self.config.members_of)(value) {
            Ok(Some(next)) if next.epoch == self.members().epoch + 1 => {
                self.may_change()?;
                assert!(self.members().leads_to(&next), "a change of more than one voter: {next:?}");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Appends an entry to what is in memory.
    pub(super) fn push_entry(&mut self, entry: Entry) {
        let index = self.len();
        let found = (self.config.members_of)(&entry.value);
        self.stamps.push(entry.ballot);
        self.tail.push(entry);
        match found {
            Ok(None) => {}
            Ok(Some(members)) => {
                if self.roster.note(index, members) {
                    self.renew_peers();
                }
            }
            Err(version) => self.unreadable = Some((index, version)),
        }
    }

    /// Cuts what is in memory to `len` entries.
    pub(super) fn cut_log(&mut self, len: u64) {
        self.stamps.truncate(len);
        self.tail.truncate(len);
        if self.roster.cut(len) {
            self.renew_peers();
        }
    }

    /// Makes the peers those of the configuration that counts. What is known of those that stay is kept.
    pub(super) fn renew_peers(&mut self) {
        let members = self.roster.latest().clone();
        self.peers.retain(|peer| members.has(peer.id));
        for member in members.list.iter().filter(|member| member.id != self.config.id) {
            match self.peers.iter_mut().find(|peer| peer.id == member.id) {
                Some(peer) => peer.voter = member.voter,
                None => {
                    let mut peer = Peer::new(member.id);
                    (peer.voter, peer.connected) = (member.voter, self.links.contains(&member.id));
                    // A leader finds out where its log begins to differ: an empty log begins at once.
                    peer.probe(self.stamps.len());
                    self.peers.push(peer);
                }
            }
        }
        self.peers.sort_unstable_by_key(|peer| peer.id);
    }

    /// A leader whose removal is decided tells that to the others, and leads no more.
    pub(super) fn leave_if_removed(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if !self.is_leader() || self.decided_members().has(self.config.id) {
            return;
        }
        for at in 0..self.peers.len() {
            if self.peers[at].connected {
                self.heartbeat(now, at, out);
            }
        }
        self.step_down(now, out);
    }
}
