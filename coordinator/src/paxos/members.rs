//! Who takes part in the consensus, and how that changes: one member at a time.
//!
//! A configuration is a value in the log like any other ([`super::Roster`] has those of a log). It counts from the moment at
//! which a replica has it in its log, decided or not, and no longer if it is cut off again. Two configurations that follow each
//! other differ in one voter, so any majority of the one has a replica in common with any majority of the other.
//!
//! A new member first is a *learner*: it is sent the log and counts for nothing, until the leader sees that it has caught up.
//! Ids are never given twice: what a replica promised it promised for ever, and a replica that lost its disk comes back as another.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::types::ReplicaId;

/// Members of a cluster at the most, learners included.
pub const MAX_MEMBERS: usize = 12;
/// The highest id.
pub const MAX_ID: ReplicaId = ReplicaId::MAX;

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Counts the changes since the cluster was made.
    pub epoch: u64,
    /// By ascending id.
    pub list: Vec<Member>,
    /// The highest id that was ever given.
    pub highest: ReplicaId,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id. Its certificate has the name that belongs to it.
    pub id: ReplicaId,
    /// It counts for majorities; else it is a learner.
    pub voter: bool,
    /// The member that is removed once this one votes; 0 = none.
    pub replaces: ReplicaId,
    /// Where the others connect to it, if the log has to say.
    pub peer: Option<SocketAddr>,
    /// Where it takes clients, if the log has to say.
    pub service: Option<IpAddr>,
}

/// One step from a configuration to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A learner comes.
    Add {
        /// See [`Member::replaces`].
        replaces: ReplicaId,
        /// See [`Member::peer`].
        peer: Option<SocketAddr>,
        /// See [`Member::service`].
        service: Option<IpAddr>,
    },
    /// A learner becomes a voter.
    Promote(ReplicaId),
    /// A member goes.
    Remove(ReplicaId),
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ChangeError {
    /// Another replica leads, or none does.
    #[error("no leader could be asked; try again when `brolga status` shows one")]
    NotLeader,
    /// The leader has decided nothing yet.
    #[error("the leader has just been elected; try again in a moment")]
    NewLeader,
    /// One at a time.
    #[error(
        "another change of the members is being made (epoch {0}): one at a time; `brolga member list` shows it"
    )]
    Busy(u64),
    /// No such member.
    #[error("there is no member {0}; `brolga member list` shows them")]
    Unknown(ReplicaId),
    /// It votes already.
    #[error("member {0} has a vote already")]
    Voter(ReplicaId),
    /// Nobody would be left.
    #[error("member {0} is the last one with a vote and cannot be removed; `brolga stop` ends the cluster")]
    Last(ReplicaId),
    /// The rest could decide nothing.
    #[error(
        "without member {id} only {live} of {voters} members with a vote would be connected, and {quorum} are needed; \
         bring the others back, or add members, first"
    )]
    Quorum {
        /// Who was to go.
        id: ReplicaId,
        /// Voters that the leader is connected with after it, itself included.
        live: usize,
        /// Voters after it.
        voters: usize,
        /// A majority of them.
        quorum: usize,
    },
    /// [`MAX_MEMBERS`].
    #[error("the cluster has {MAX_MEMBERS} members, and there cannot be more; remove one first")]
    Full,
    /// [`MAX_ID`].
    #[error("all ids up to {MAX_ID} have been given, and none is given twice; make a new cluster")]
    Exhausted,
}

impl Members {
    /// Those with whom a cluster is made, all with a vote.
    pub fn founders(ids: &[ReplicaId]) -> Self {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let member = |&id| Member { id, voter: true, replaces: 0, peer: None, service: None };
        Self {
            epoch: 0,
            list: ids.iter().map(member).collect(),
            highest: ids.last().copied().unwrap_or_default(),
        }
    }

    /// The member with this id.
    pub fn get(&self, id: ReplicaId) -> Option<&Member> {
        self.list.iter().find(|member| member.id == id)
    }

    /// Whether it is one of them.
    pub fn has(&self, id: ReplicaId) -> bool {
        self.get(id).is_some()
    }

    /// Whether it counts.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.get(id).is_some_and(|member| member.voter)
    }

    /// Ids of those that count.
    pub fn voters(&self) -> impl Iterator<Item = ReplicaId> {
        self.list.iter().filter(|member| member.voter).map(|member| member.id)
    }

    /// Voters that make a majority.
    pub fn quorum(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// The configuration after `change`.
    pub fn after(&self, change: &Change) -> Result<Self, ChangeError> {
        let mut next = Self { epoch: self.epoch + 1, ..self.clone() };
        match *change {
            Change::Add { replaces, peer, service } => {
                if replaces != 0 && !self.has(replaces) {
                    return Err(ChangeError::Unknown(replaces));
                }
                if self.list.len() >= MAX_MEMBERS {
                    return Err(ChangeError::Full);
                }
                next.highest = self.highest.checked_add(1).ok_or(ChangeError::Exhausted)?;
                next.list.push(Member { id: next.highest, voter: false, replaces, peer, service });
            }
            Change::Promote(id) => {
                let member = next.list.iter_mut().find(|member| member.id == id);
                let member = member.ok_or(ChangeError::Unknown(id))?;
                if std::mem::replace(&mut member.voter, true) {
                    return Err(ChangeError::Voter(id));
                }
            }
            Change::Remove(id) => {
                let member = self.get(id).ok_or(ChangeError::Unknown(id))?;
                if member.voter && self.voters().count() == 1 {
                    return Err(ChangeError::Last(id));
                }
                next.list.retain(|member| member.id != id);
                for member in next.list.iter_mut().filter(|member| member.replaces == id) {
                    member.replaces = 0;
                }
            }
        }
        Ok(next)
    }

    /// Whether `next` can follow: at most one voter more, or one less.
    pub fn leads_to(&self, next: &Self) -> bool {
        let only = |a: &Self, b: &Self| a.voters().filter(|id| !b.is_voter(*id)).count();
        next.epoch == self.epoch + 1
            && next.voters().count() > 0
            && next.highest >= self.highest
            && only(self, next) + only(next, self) <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, ChangeError, MAX_MEMBERS, Members};

    const ADD: Change = Change::Add { replaces: 0, peer: None, service: None };

    #[test]
    fn a_member_comes_as_a_learner_and_its_id_is_never_given_again() {
        let one = Members::founders(&[2, 1, 3]);
        let two = one.after(&ADD).unwrap();
        assert_eq!((two.epoch, two.is_voter(4), two.has(4), two.quorum()), (1, false, true, 2));
        let three = two.after(&Change::Promote(4)).unwrap();
        assert_eq!((three.is_voter(4), three.quorum()), (true, 3));
        assert_eq!(three.after(&Change::Promote(4)), Err(ChangeError::Voter(4)));
        let four = three.after(&Change::Remove(4)).unwrap().after(&ADD).unwrap();
        assert!(!four.has(4) && four.has(5));
        assert_eq!(four.after(&Change::Remove(4)), Err(ChangeError::Unknown(4)));
    }

    #[test]
    fn the_last_voter_stays_and_there_is_a_bound() {
        let one = Members::founders(&[1]).after(&ADD).unwrap();
        assert_eq!(one.after(&Change::Remove(1)), Err(ChangeError::Last(1)));
        let mut many = one;
        while many.list.len() < MAX_MEMBERS {
            many = many.after(&ADD).unwrap();
        }
        assert_eq!(many.after(&ADD), Err(ChangeError::Full));
        many.list.truncate(2);
        many.highest = u8::MAX;
        assert_eq!(many.after(&ADD), Err(ChangeError::Exhausted));
    }

    #[test]
    fn steps_change_one_voter_at_the_most() {
        let one = Members::founders(&[1, 2, 3]);
        let mut swapped = Members { epoch: 1, ..Members::founders(&[1, 2, 4]) };
        assert!(!one.leads_to(&swapped), "majorities of the two may have nobody in common");
        swapped.list.pop();
        assert!(one.leads_to(&swapped));
        assert!(!one.leads_to(&Members { epoch: 2, ..swapped }));
    }
}
