//! The follower's side of phase 2: take entries in order, answer when they are durable.

use super::message::Message;
use super::types::{Ballot, Entry, Nanos, Output, ReplicaId, Write};
use super::{Deferred, Paxos, Role};

/// [`Message::Accept`], unpacked.
pub(super) struct Accept {
    pub(super) ballot: Ballot,
    pub(super) first: u64,
    pub(super) previous: Ballot,
    pub(super) commit: u64,
    pub(super) entries: Vec<Entry>,
}

impl Accept {
    /// Whether a correct leader can have sent this. Peers are authenticated, but bytes are never trusted.
    fn is_sane(&self, from: ReplicaId) -> bool {
        let mut stamp = self.previous;
        self.ballot.replica() == from
            && (self.first > 0 || self.previous == Ballot::ZERO)
            && self.first.checked_add(self.entries.len() as u64).is_some()
            && self.previous <= self.ballot
            && self.entries.iter().all(|entry| {
                let rises = entry.ballot >= stamp && entry.ballot != Ballot::ZERO;
                stamp = entry.ballot;
                rises && stamp <= self.ballot
            })
    }
}

impl Paxos {
    pub(super) fn on_accept(&mut self, now: Nanos, from: ReplicaId, accept: Accept, out: &mut Vec<Output>) {
        if !accept.is_sane(from) {
            return;
        }
        if accept.ballot < self.promised {
            Self::send(out, from, Message::Nack { promised: self.promised });
            return;
        }
        self.follow(now, accept.ballot, out);
        let Accept { ballot, first, previous, commit, entries } = accept;
        self.note_told(ballot, commit);
        if let Some(hint) = self.mismatch(first, previous, ballot) {
            match self.has_vote() {
                true => Self::send(out, from, Message::Rejected { ballot, first, hint }),
                false => Self::tell_learned(from, ballot, false, hint.min(first - 1), out),
            }
            return;
        }
        let end = first + entries.len() as u64;
        for (index, entry) in (first..end).zip(entries) {
            self.accept_entry(index, entry, ballot, out);
        }
        self.evict();
        self.unwritten = self.len();
        self.matched = self.matched.max(end);
        self.defer(Deferred::Durable { ballot, len: self.matched });
        self.commit_to(commit.min(self.matched), out);
        self.settle(now, out);
        self.remember(now, out);
        if now >= self.answered.saturating_add(self.config.heartbeat) {
            // Its disk is full or slow. The leader must know that this replica lives, or it steps down for nothing.
            self.answer(now, ballot, self.durable, out);
        }
    }

    fn answer(&mut self, now: Nanos, ballot: Ballot, len: u64, out: &mut Vec<Output>) {
        self.answered = now;
        match self.has_vote() {
            true => Self::send(out, ballot.replica(), Message::Accepted { ballot, len }),
            false => Self::tell_learned(ballot.replica(), ballot, true, len, out),
        }
    }

    /// Where the leader should try instead, if this log has no entry `first - 1` stamped `previous`.
    fn mismatch(&self, first: u64, previous: Ballot, ballot: Ballot) -> Option<u64> {
        if self.is_decided_before(first, previous, ballot) {
            return None;
        }
        match self.stamps.at(first - 1) {
            None => Some(self.len()),
            // What this leader has stamped itself is as in its log.
            Some(stamp) if stamp == previous || stamp == ballot => None,
            Some(_) => Some(self.stamps.run_start(first - 1)),
        }
    }

    /// Takes an entry of the leader of `ballot`. Decided entries are the same in all logs, but not their stamps: a leader raises that
    /// of its last entry, and others connect what it proposes behind the entry without it. So a log keeps what is the same in it, and
    /// what would come behind a higher stamp gets the leader's own, as if it had been proposed anew.
    fn accept_entry(&mut self, index: u64, mut entry: Entry, ballot: Ballot, out: &mut Vec<Output>) {
        let own = self.stamps.at(index);
        if index < self.first() || own == Some(entry.ballot) || own == Some(ballot) {
            return;
        }
        if index < self.commit {
            self.check_equal(index, &entry);
            if !self.is_raised(index, entry.ballot) {
                return;
            }
        } else if own > Some(entry.ballot)
            && self.tail.get(index).is_some_and(|known| known.value == entry.value)
        {
            return;
        }
        if index < self.len() {
            self.cut_log(index);
        }
        let before = index.checked_sub(1).and_then(|before| self.stamps.at(before));
        if before > Some(entry.ballot) {
            entry.ballot = ballot;
        }
        self.push_entry(entry.clone());
        self.write(Write::Entry { index, entry }, out);
    }

    /// Whether the last decided entry got a higher stamp that this log has not seen: then what stands behind it with a lower one
    /// must go.
    fn is_raised(&self, index: u64, ballot: Ballot) -> bool {
        let below = |stamp: Option<Ballot>| stamp.is_none_or(|stamp| stamp < ballot);
        index + 1 == self.commit && below(self.stamps.at(index)) && below(self.stamps.at(index + 1))
    }

    /// A decided value never changes.
    fn check_equal(&self, index: u64, entry: &Entry) {
        assert!(
            self.tail.get(index).is_none_or(|known| known.value == entry.value),
            "ballot {} would change decided entry {index} (commit {}, stamp {:?}): the logs of this cluster contradict",
            entry.ballot,
            self.commit,
            self.stamps.at(index)
        );
    }

    /// Follows the leader of `ballot`, which is at least the promised one.
    fn follow(&mut self, now: Nanos, ballot: Ballot, out: &mut Vec<Output>) {
        let leader = ballot.replica();
        if ballot > self.promised {
            self.adopt(now, ballot, out);
        }
        if !matches!(self.role, Role::Follower { leader: Some(known) } if known == leader) {
            self.role = Role::Follower { leader: Some(leader) };
            self.new_timeout();
            out.push(Output::Following { leader, ballot });
        }
        self.contact = now;
        self.election_at = now + self.timeout;
    }

    /// Promises `ballot`, which is above the promised one, and leaves what this replica was before.
    pub(super) fn adopt(&mut self, now: Nanos, ballot: Ballot, out: &mut Vec<Output>) {
        assert!(ballot > self.promised);
        self.step_down(now, out);
        self.promised = ballot;
        self.seen_round = self.seen_round.max(ballot.round());
        self.matched = 0;
        self.durable = 0;
        self.write(Write::Promise(ballot), out);
    }

    /// The log is durable below `len`, and equal to that of the leader of `ballot`.
    pub(super) fn on_durable(&mut self, now: Nanos, ballot: Ballot, len: u64, out: &mut Vec<Output>) {
        if ballot != self.promised {
            return;
        }
        self.durable = self.durable.max(len);
        match self.role {
            Role::Leader => self.advance_commit(now, out),
            _ => {
                self.remember(now, out);
                self.answer(now, ballot, len, out);
            }
        }
    }
}
