//! Cut logs. Entries that are in checkpoints may be forgotten by all ([`Paxos::cut`]), so a log may begin with any decided entry; a
//! replica whose log ends before its leader's begins needs a checkpoint of a peer, and goes on behind it ([`Input::Begin`]).
//!
//! *What a replica says of entries that it has forgotten.* All below its [`floor`](Paxos::floor) is decided, and it knows that from a
//! leader whose ballot it has promised. Any leader with that ballot or a higher one has everything that was decided, so the logs are
//! equal there: a follower takes entries of its leader that begin at its floor or below without comparing stamps. This is why a
//! replica that begins behind a checkpoint promises what the peer had promised from which it has it: that peer's word
//! that the entries are decided is worth nothing in the ballots below.
//!
//! *What it may forget by beginning anew.* What is accepted may be decided by it, so entries go only where they cannot be: they
//! stand before the checkpoint's last entry, in whose place something else may stand here but was not decided; or behind one with a
//! lower stamp than the decided entry at the same place has, and then every leader that could have counted them is one of before, whose
//! entries the decided one's leader did not find. With a higher stamp here nothing is done: the replica waits for a later checkpoint.

use super::message::Message;
use super::types::{Ballot, Entry, Nanos, Output, ReplicaId, Runs, Write};
use super::{Members, Paxos, Role, Roster};

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

    /// Everything below is decided, and a leader can send entries from here on: it knows the stamp of the entry before.
    pub(super) fn floor(&self) -> u64 {
        if self.first() == 0 { 0 } else { self.first() + 1 }
    }

    /// Leader: what is below the floor cannot be sent.
    pub(super) fn lift(&mut self, at: usize) {
        let floor = self.floor();
        if self.peers[at].next < floor {
            self.peers[at].lift(floor);
        }
    }

    /// Leader: `to` wants entries from `wanted` on. If they are cut off here, it is told so, and asked again with the heartbeats.
    pub(super) fn tell_cut(&mut self, to: ReplicaId, wanted: u64, out: &mut Vec<Output>) {
        let first = self.floor();
        if wanted < first {
            let at = self.peers.iter().position(|peer| peer.id == to);
            at.into_iter().for_each(|at| self.peers[at].wait_at(first));
            Self::send(out, to, Message::Cut { ballot: self.promised, first });
        }
    }

    /// Follower: the leader's entries begin at `first`, and those before are missing here.
    pub(super) fn on_cut(&mut self, from: ReplicaId, ballot: Ballot, first: u64, out: &mut Vec<Output>) {
        let leads = matches!(self.role, Role::Follower { leader: Some(leader) } if leader == from);
        if leads && ballot == self.promised && first > self.floor() {
            out.push(Output::Behind { first });
        }
    }

    /// The server's state after the entry at `index` is at hand, which a peer that had promised `promised` knew to be decided. If the
    /// log does not reach there, it begins anew with this entry.
    pub(super) fn on_begin(
        &mut self,
        now: Nanos,
        (index, entry): (u64, Entry),
        promised: Ballot,
        members: Members,
        out: &mut Vec<Output>,
    ) {
        if index < self.commit || !promised.is_sane() || entry.ballot == Ballot::ZERO {
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
            self.stamps = Runs::starting_at(index);
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
            self.write(Write::Anew { first: index, entry, promised: self.promised, members }, out);
        }
        self.commit_to(index + 1, out);
    }
}
