//! A replica that lost its log, and with it what it promised and accepted, has no vote until it knows enough to keep every
//! promise that it may have made.
//!
//! It takes entries as any follower does and acknowledges them as [`Message::Learned`], which no majority counts; it neither
//! promises nor asks for leadership. It gets its vote back when
//!
//! 1. *every* other member has said, since this replica started, what it has promised: each that has a vote in the configuration at
//!    the commit index of 3 or in a later one of the log;
//! 2. the leader that it follows has a ballot `B` that is not below any of these;
//! 3. its log is durable and equal to that leader's up to the highest commit index that the leader has told, and the last entry
//!    below that is stamped `B`.
//!
//! Why that is enough. Whoever asked this replica for a promise had promised the same itself before, durably, and so had the
//! leader of every entry that it accepted: both are among the others, so by 1 and 2 no promise of before is above `B`.
//! What it accepted, and what may be decided because it did, was accepted by a majority of which at least the rest are others,
//! and no later leader was elected without one of them, because this replica does not vote meanwhile: so it is in the log of
//! `B`'s leader. That leader knows what was decided before it once it decided an entry of its own, and what it decided itself with
//! an acknowledgement of before the loss it knew before it sent the first entry that this replica could take: 3. (What it has told
//! counts, not what is known to be decided here: while entries are still coming, that is less.) Acknowledgements on their way
//! from before the loss are dropped with the connection on which they were.
//! A member that was removed before need not be heard: its removal was decided without this replica, by a majority that has a replica
//! in common with each one that may have elected it, and that replica would tell a higher promise, or else it had the removal in its
//! log when it promised, and so had the candidate, which then was none.
//! Members that lost their logs, too, do not answer, so two of them wait for each other for ever: no silent repair of what a
//! minority alone may know.

use std::collections::BTreeMap;

use super::message::Message;
use super::types::{Ballot, Nanos, Output, ReplicaId};
use super::{Paxos, Role};

/// What has been heard since the start.
#[derive(Debug, Default)]
pub(super) struct Amnesia {
    heard: BTreeMap<ReplicaId, Ballot>,
    asked_at: Nanos,
    /// A leadership, and the highest commit index that it told.
    told: (Ballot, u64),
}

impl Paxos {
    /// False while this replica has lost its log and not learned everything anew.
    pub fn has_vote(&self) -> bool {
        self.amnesia.is_none()
    }

    /// The members that must still say what they promised, before this replica can vote again.
    pub fn unheard(&self) -> Vec<ReplicaId> {
        let Some(amnesia) = &self.amnesia else { return Vec::new() };
        let mut ids: Vec<_> = self.roster.from(amnesia.told.1).flat_map(|members| members.voters()).collect();
        ids.retain(|id| *id != self.config.id && !amnesia.heard.contains_key(id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Asks for what is not known yet. A trial changes nothing at those who are asked, and every answer tells the promise.
    pub(super) fn ask_around(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let Some(amnesia) = &mut self.amnesia else { return };
        amnesia.asked_at = now;
        let heard = &amnesia.heard;
        let unheard: Vec<_> = self.links.iter().copied().filter(|id| !heard.contains_key(id)).collect();
        let ballot = Ballot::new(1, self.config.id);
        for peer in unheard {
            let ask = Message::Prepare { ballot, trial: true, last: Ballot::ZERO, len: 0 };
            out.push(Output::Send { to: peer, message: ask });
        }
    }

    /// The election timer ran out: wait for a leader, and ask again.
    pub(super) fn wait_for_leader(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if matches!(self.role, Role::Follower { leader: Some(_) }) {
            self.role = Role::Follower { leader: None };
            out.push(Output::LeaderLost);
        }
        self.election_at = now + self.config.election;
        self.ask_around(now, out);
    }

    /// A member has said what it promised.
    pub(super) fn hear(&mut self, from: ReplicaId, promised: Ballot) {
        if let Some(amnesia) = &mut self.amnesia {
            amnesia.heard.insert(from, promised);
        }
    }

    /// The leader of `ballot` told its commit index.
    pub(super) fn note_told(&mut self, ballot: Ballot, commit: u64) {
        if let Some(amnesia) = &mut self.amnesia {
            let before = if amnesia.told.0 == ballot { amnesia.told.1 } else { 0 };
            amnesia.told = (ballot, commit.max(before));
        }
    }

    /// Gets the vote back if it is time.
    pub(super) fn remember(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let Some(amnesia) = &self.amnesia else { return };
        if !self.unheard().is_empty() {
            if now >= amnesia.asked_at.saturating_add(self.config.election) {
                self.ask_around(now, out);
            }
            return;
        }
        let follows = matches!(self.role, Role::Follower { leader: Some(_) });
        let above = amnesia.heard.values().all(|promised| *promised <= self.promised);
        let (ballot, told) = amnesia.told;
        let whole = ballot == self.promised
            && told > 0
            && self.durable >= told
            && self.stamps.at(told - 1) == Some(ballot);
        if follows && above && whole {
            self.amnesia = None;
            out.push(Output::Remembered);
        }
    }

    /// Tells the leader how far this log is, in a word that is no vote.
    pub(super) fn tell_learned(to: ReplicaId, ballot: Ballot, fits: bool, len: u64, out: &mut Vec<Output>) {
        out.push(Output::Send { to, message: Message::Learned { ballot, fits, len } });
    }

    /// Leader: a follower without a vote has this much, or (if it does not fit) wants to be sent entries from there.
    pub(super) fn on_learned(&mut self, from: ReplicaId, told: (Ballot, bool, u64), out: &mut Vec<Output>) {
        let (ballot, fits, len) = told;
        if !self.is_leader() || ballot != self.promised || len > self.len() {
            return;
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == from) else { return };
        if std::mem::replace(&mut peer.votes, false) {
            // What it acknowledged is gone.
            peer.matched = 0;
        }
        peer.learned(fits, len);
        if !fits {
            self.tell_cut(from, len, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ballot, Config, Entry, Input, Message, Output, Paxos, Recovered};
    use std::sync::Arc;

    const LEADER: u8 = 1;

    fn ballot() -> Ballot {
        Ballot::new(4, LEADER)
    }

    fn entries(count: u64) -> Vec<Entry> {
        (0..count).map(|byte| Entry { ballot: ballot(), value: Arc::from([byte as u8]) }).collect()
    }

    /// Gives an input and makes everything durable; returns the messages.
    fn step(paxos: &mut Paxos, input: Input) -> Vec<Message> {
        let mut out = Vec::new();
        paxos.step(1, input, &mut out);
        let written = paxos.written;
        paxos.step(1, Input::Persisted(written), &mut out);
        let message = |output| match output {
            Output::Send { message, .. } => Some(message),
            _ => None,
        };
        out.into_iter().filter_map(message).collect()
    }

    fn hear(paxos: &mut Paxos, from: u8, message: Message) -> Vec<Message> {
        step(paxos, Input::Message { from, message })
    }

    fn accept(first: u64, commit: u64, entries: Vec<Entry>) -> Message {
        let previous = if first == 0 { Ballot::ZERO } else { ballot() };
        Message::Accept { ballot: ballot(), first, previous, commit, entries }
    }

    /// Replica 2 of 3, whose log was lost, with both others connected.
    fn forgetful() -> Paxos {
        let recovered = Recovered { lost: true, ..Recovered::default() };
        let mut paxos = Paxos::new(Config::new(2, vec![1, 2, 3], 7), recovered, 0);
        for peer in [1, 3] {
            let asked = step(&mut paxos, Input::PeerConnected(peer));
            assert!(matches!(asked[..], [Message::Prepare { trial: true, .. }, ..]), "{asked:?}");
        }
        paxos
    }

    fn promised(promised: Ballot) -> Message {
        Message::Promise { ballot: Ballot::new(1, 2), trial: true, granted: false, promised }
    }

    #[test]
    fn it_votes_only_with_all_that_the_leader_told_to_be_decided() {
        let mut paxos = forgetful();
        hear(&mut paxos, 1, promised(ballot()));
        hear(&mut paxos, 3, promised(Ballot::new(3, 3)));
        let answers = hear(&mut paxos, LEADER, accept(0, 5, entries(3)));
        assert_eq!(
            answers,
            [Message::Learned { ballot: ballot(), fits: true, len: 3 }],
            "two more are decided"
        );
        assert!(!paxos.has_vote() && paxos.commit() == 3);
        let answers = hear(&mut paxos, LEADER, accept(3, 4, entries(2)));
        assert_eq!(answers, [Message::Accepted { ballot: ballot(), len: 5 }]);
        assert!(paxos.has_vote());
    }

    #[test]
    fn it_votes_only_when_it_has_heard_of_all_and_of_no_higher_promise() {
        let mut paxos = forgetful();
        hear(&mut paxos, 1, promised(ballot()));
        hear(&mut paxos, LEADER, accept(0, 3, entries(3)));
        assert_eq!((paxos.has_vote(), paxos.unheard()), (false, vec![3]));
        hear(&mut paxos, 3, promised(Ballot::new(5, 3)));
        hear(&mut paxos, LEADER, accept(3, 3, Vec::new()));
        assert!(!paxos.has_vote(), "it may have promised that, too");
        let ask = Message::Prepare { ballot: Ballot::new(9, 3), trial: false, last: ballot(), len: 9 };
        assert_eq!(hear(&mut paxos, 3, ask), [], "it promises nothing");
        paxos.step(u64::MAX / 2, Input::Tick, &mut Vec::new());
        assert!(!paxos.is_leader() && paxos.leader().is_none(), "and stands for nothing");
    }
}
