//! Cut logs. Entries that are in checkpoints may be forgotten by all ([`Paxos::cut`]), so a log may begin with any decided entry; a
//! replica whose log ends before its leader's begins needs a checkpoint of a peer, and goes on behind it ([`super::Input::Begin`]).
//!
//! *What is known of entries whose stamps are not.* All below a replica's commit index is decided, and it knows that from a
//! leader whose ballot it has promised. Any leader with that ballot or a higher one has everything that was decided, so the logs are
//! equal there, whatever their stamps are: a follower takes entries of its leader that begin at its commit index or below. This is why a
//! replica that begins behind a checkpoint promises what the peer had promised from which it has it: that peer's word
//! that the entries are decided is worth nothing in the ballots below. One case is left out: if the leader has raised the stamp of the
//! entry before, then all that stands behind it here must go, and it is the raised entry that does this.
//!
//! *What it may forget by beginning anew.* What is accepted may be decided by it, so entries go only where they cannot be: they
//! stand before the checkpoint's last entry, in whose place something else may stand here but was not decided; or behind one with a
//! lower stamp than the decided entry at the same place has, and then every leader that could have counted them is one of before, whose
//! entries the decided one's leader did not find. With a higher stamp here nothing is done: the replica waits for a later checkpoint.

use super::message::Message;
use super::types::{Ballot, Entry, Nanos, Output, ReplicaId, Runs, Write};
use super::{Members, Paxos, Role, Roster};

/// [`super::Input::Begin`], unpacked.
pub(super) struct Begin {
    pub(super) index: u64,
    pub(super) entry: Entry,
    pub(super) previous: Ballot,
    pub(super) promised: Ballot,
    pub(super) members: Members,
}

impl Paxos {
    /// Index of the first entry of this log.
    pub fn first(&self) -> u64 {
        self.stamps.first()
    }

    /// Forgets the entries before `first`; there must be a decided entry at `first`.
    pub fn cut(&mut self, first: u64) {
        if first <= self.first() {
            return;
        }
        assert!(first < self.commit, "entry {first} is not decided, and the log is cut there");
        self.stamps.cut(first);
        self.tail.cut(first);
    }

    /// The stamp of the entry before `first`, as far as it says something to others; else zero.
    pub fn previous(&self, first: u64) -> Ballot {
        let stamp = first.checked_sub(1).and_then(|before| self.stamps.at(before)).unwrap_or(Ballot::ZERO);
        // A leader that raised that stamp itself, and has cut off what it raised, has decided entries behind.
        let raised = first == self.first() && stamp == self.promised;
        if raised { Ballot::ZERO } else { stamp }
    }

    /// Whether the logs are equal before `first` although stamps may not be.
    pub(super) fn is_decided_before(&self, first: u64, previous: Ballot, ballot: Ballot) -> bool {
        first <= self.first() || (first <= self.commit && previous < ballot)
    }

    /// Leader: what is cut off cannot be sent.
    pub(super) fn lift(&mut self, at: usize) {
        let first = self.first();
        if self.peers[at].next < first {
            self.peers[at].lift(first);
        }
    }

    /// Leader: `to` wants entries from `wanted` on. If they are cut off here, it is told so, and asked again with the heartbeats.
    pub(super) fn tell_cut(&mut self, to: ReplicaId, wanted: u64, out: &mut Vec<Output>) {
        let first = self.first();
        if wanted < first {
            let at = self.peers.iter().position(|peer| peer.id == to);
            at.into_iter().for_each(|at| self.peers[at].wait_at(first));
            Self::send(out, to, Message::Cut { ballot: self.promised, first });
        }
    }

    /// Follower: the leader's entries begin at `first`, and those before are missing here.
    pub(super) fn on_cut(&mut self, from: ReplicaId, ballot: Ballot, first: u64, out: &mut Vec<Output>) {
        let leads = matches!(self.role, Role::Follower { leader: Some(leader) } if leader == from);
        if leads && ballot == self.promised && first > self.commit {
            out.push(Output::Behind { first });
        }
    }

    /// The server's state after the entry at `index` is at hand, which a peer that had promised `promised` knew to be decided. If the
    /// log does not reach there, it begins anew with this entry.
    pub(super) fn on_begin(&mut self, now: Nanos, begin: Begin, out: &mut Vec<Output>) {
        let Begin { index, entry, previous, promised, members } = begin;
        let sane = promised.is_sane() && previous <= entry.ballot && entry.ballot != Ballot::ZERO;
        if index < self.commit || !sane {
            return;
        }
        let known = self.stamps.at(index);
        if known.is_some_and(|known| known > entry.ballot) {
            return;
        }
        let promised = promised.max(entry.ballot);
        if promised > self.promised {
            self.adopt(now, promised, out);
        }
        if known != Some(entry.ballot) {
            self.stamps = Runs::starting_at(index, previous);
            self.stamps.push(entry.ballot);
            self.tail.restart(index);
            self.tail.push(entry.clone());
            self.matched = 0;
            self.durable = 0;
            self.unwritten = index + 1;
            // What came before cannot be looked at any more.
            self.commit = index;
            self.roster = Roster::new(members.clone());
            self.renew_peers();
            let promised = self.promised;
            self.write(Write::Anew { first: index, entry, previous, promised, members }, out);
        }
        self.commit_to(index + 1, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ballot, Config, Entry, Input, Message, Output, Paxos, Recovered, Write};
    use std::sync::Arc;

    fn entry(round: u64, byte: u8) -> Entry {
        Entry { ballot: Ballot::new(round, 1), value: Arc::from([byte]) }
    }

    fn step(paxos: &mut Paxos, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        paxos.step(1, input, &mut out);
        let written = paxos.written;
        paxos.step(1, Input::Persisted(written), &mut out);
        out
    }

    fn hear(paxos: &mut Paxos, from: u8, message: Message) -> Vec<Message> {
        let sent = |output| match output {
            Output::Send { message, .. } => Some(message),
            _ => None,
        };
        step(paxos, Input::Message { from, message }).into_iter().filter_map(sent).collect()
    }

    fn accept(round: u64, first: u64, previous: u64, entries: Vec<Entry>) -> Message {
        let (ballot, previous) = (Ballot::new(round, 1), Ballot(previous << 8 | u64::from(previous > 0)));
        Message::Accept { ballot, first, previous, commit: 0, entries }
    }

    fn follower() -> Paxos {
        let mut paxos = Paxos::new(Config::new(2, vec![1, 2, 3], 7), Recovered::default(), 0);
        hear(&mut paxos, 1, accept(3, 0, 0, (0..5).map(|byte| entry(3, byte)).collect()));
        paxos
    }

    fn begin(index: u64, round: u64, promised: u64) -> Input {
        let previous = Ballot::new(round, 1);
        Input::Begin {
            index,
            entry: entry(round, index as u8),
            previous,
            promised: Ballot::new(promised, 3),
            members: super::super::Members::founders(&[1, 2, 3]),
        }
    }

    #[test]
    fn it_begins_anew_and_hears_no_leader_of_before() {
        let mut paxos = follower();
        let out = step(&mut paxos, begin(40, 4, 6));
        let anew = |output: &Output| matches!(output, Output::Persist { write: Write::Anew { first: 40, promised, .. }, .. } if *promised == Ballot::new(6, 3));
        assert!(out.iter().any(anew), "{out:?}");
        assert_eq!((paxos.first(), paxos.len(), paxos.commit()), (40, 41, 41));
        // The entries of this leader may never have been decided: it must not count on this replica.
        let answer = hear(&mut paxos, 1, accept(5, 38, 5, vec![entry(5, 1)]));
        assert_eq!(answer, [Message::Nack { promised: Ballot::new(6, 3) }]);
        let answer = hear(&mut paxos, 1, accept(7, 39, 4, vec![entry(4, 39), entry(4, 40), entry(7, 41)]));
        assert_eq!(answer, [Message::Accepted { ballot: Ballot::new(7, 1), len: 42 }]);
    }

    #[test]
    fn what_may_be_decided_because_it_is_here_stays() {
        let mut paxos = follower();
        step(&mut paxos, begin(2, 3, 3));
        assert_eq!(
            (paxos.first(), paxos.len(), paxos.commit()),
            (0, 5, 3),
            "the log has it: now it is decided"
        );
        step(&mut paxos, begin(3, 2, 4));
        assert_eq!((paxos.len(), paxos.commit()), (5, 3), "a lower stamp than here");
        step(&mut paxos, begin(4, 5, 5));
        assert_eq!((paxos.first(), paxos.len(), paxos.commit()), (4, 5, 5), "a higher one");
        let mut paxos = follower();
        step(&mut paxos, begin(3, 5, 5));
        assert_eq!(
            (paxos.first(), paxos.len()),
            (3, 4),
            "what stood behind it was of a leader that decided nothing"
        );
    }
}
